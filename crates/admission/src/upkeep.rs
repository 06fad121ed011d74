//! Periodic work of a router for the limits: reports that it is alive, exchanges pools, and sweeps expired leases.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::rejoin::rejoin;
use super::store::Store as _;

/// Interval of the periodic work.
const EVERY: Duration = Duration::from_secs(1);
/// Successful beats in a row before leases are swept: after an outage, live routers renew their leases first.
const STEADY: u32 = 3;
/// Sweeps per second at most; each is one bounded call.
const SWEEPS: u32 = 16;

/// Runs the work once a second until `shutdown`.
pub(super) async fn run(shared: &Arc<Shared>, shutdown: &CancellationToken) {
    let mut second = interval(EVERY);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut steady = 0;
    let mut had_room = true;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = second.tick() => {}
        }
        let room = shared.room();
        if let Err(why) = room
            && had_room
        {
            tracing::error!(%why, "usage cannot be kept until it is stored; no request is admitted");
        }
        had_room = room.is_ok();
        let work = Box::pin(once(shared, &mut steady));
        shutdown.run_until_cancelled(work).await;
    }
}

async fn once(shared: &Arc<Shared>, steady: &mut u32) {
    let bytes = i64::try_from(shared.backlog.bytes()).unwrap_or(i64::MAX);
    shared.metrics.backlog_bytes.set(bytes);
    let waiting = i64::try_from(shared.calls.backing.waiting()).unwrap_or(i64::MAX);
    shared.metrics.events_waiting.set(waiting);
    // Sweeps the leases of requests that this router admitted by itself.
    let _ = shared.local.memory().sweep().await;
    let Ok((routers, again)) = shared.calls.beat(&shared.router).await else {
        *steady = 0;
        return;
    };
    if !routers.is_empty() {
        shared.local.heard(&routers, &shared.router);
    }
    if again {
        *steady = 0;
        shared.local.forget();
        shared.registry.queue_all(shared);
        rejoin(shared).await;
        shared.answers_again.notify_one();
    }
    if *steady == 0 {
        shared.calls.backing.warn_of_eviction().await;
    }
    *steady = steady.saturating_add(1);
    tell_pools(shared).await;
    if *steady >= STEADY {
        sweep(shared).await;
    }
}

async fn sweep(shared: &Shared) {
    for _ in 0..SWEEPS {
        match shared.calls.sweep().await {
            Ok(swept) if swept > 0 => tracing::debug!(swept, "ended expired leases"),
            _ => return,
        }
    }
}

async fn tell_pools(shared: &Shared) {
    if !shared.calls.backing.is_shared() {
        return;
    }
    for untold in shared.pools.untold() {
        let told = shared.calls.pool(&untold.name, untold.day, untold.tokens);
        if let Ok(total) = told.await {
            shared.pools.told(&untold, total);
        }
    }
}
