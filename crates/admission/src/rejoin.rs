//! Registers requests that were admitted without the store, once the store is back.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::Shared;
use super::clock::month;
use super::reservation::{Running, release};
use super::store::{Admission, Used};

/// Admissions in flight at most.
const AT_ONCE: usize = 256;

/// Admits all of them to the store. Those that fail are charged at their end.
pub(super) async fn rejoin(shared: &Arc<Shared>) {
    let outside = shared.registry.outside_the_store();
    for some in outside.chunks(AT_ONCE) {
        let mut joining = JoinSet::new();
        for running in some {
            let (shared, running) = (Arc::clone(shared), Arc::clone(running));
            joining.spawn(async move { join(&shared, &running).await });
        }
        joining.join_all().await;
        if shared.calls.breaker.is_open() {
            return;
        }
    }
}

async fn join(shared: &Arc<Shared>, running: &Arc<Running>) {
    if running.has_ended() {
        return;
    }
    let Used {
        tokens,
        money,
        held_tokens,
        held_money,
        ..
    } = running.latest();
    let now_us = shared.clock.now_us();
    let admission = Admission {
        lease: running.lease.clone(),
        tokens: tokens.saturating_add(held_tokens),
        money: money.saturating_add(held_money),
        least_money: 0,
        // Already running, so it must not be denied.
        shadow: true,
        month: month(now_us),
        event: running.first.clone(),
    };
    if shared.calls.admit(&admission).await.is_err() {
        return;
    }
    entered(shared, running).await;
}

/// The store has admitted the request now, while it runs or after its end.
pub(super) async fn entered(shared: &Arc<Shared>, running: &Arc<Running>) {
    running.enter_store();
    if !running.has_ended() {
        shared.registry.queue(shared, running);
    } else if running.is_charged() {
        // The charge came before this admission and did not end the lease.
        release(shared, running).await;
    }
    // Otherwise the charge is in progress or queued, and ends the lease.
}
