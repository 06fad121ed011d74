//! Requests that were let in without the store are counted by it from when it is back.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::Shared;
use super::clock::month;
use super::reservation::{Running, release};
use super::store::{Admission, Used};

/// So many are under way at once.
const AT_ONCE: usize = 256;

/// Tells the store of all of them. Those that it does not hear of are charged at their end.
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
        // It is in already.
        shadow: true,
        month: month(now_us),
        event: running.first.clone(),
    };
    if shared.calls.admit(&admission).await.is_err() {
        return;
    }
    entered(shared, running).await;
}

/// The store has admitted it now, while it runs or after its end.
pub(super) async fn entered(shared: &Arc<Shared>, running: &Arc<Running>) {
    running.enter_store();
    if !running.has_ended() {
        shared.registry.queue(shared, running);
    } else if running.is_charged() {
        // Its charge came before its admission, and has not ended the lease.
        release(shared, running).await;
    }
    // Else its charge is under way or waits, and ends the lease.
}
