//! Brings to the store what had to wait for it, in the order in which it was kept.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::end::End;
use super::spool::{Segment, Spool};

const EVERY: Duration = Duration::from_secs(1);
/// So many ends are under way at once.
const AT_ONCE: usize = 64;

/// Why a segment stays where it is.
#[derive(Debug, thiserror::Error)]
enum BringError {
    #[error("the store did not take all of it")]
    NotTaken,
    #[error("cannot read or delete it")]
    Disk(#[source] io::Error),
}

/// Looks once a second whether there is something to bring and somebody to take it, until `shutdown`.
pub(super) async fn run(shared: &Arc<Shared>, shutdown: &CancellationToken) {
    let mut look = interval(EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = shared.answers_again.notified() => {}
            _ = look.tick() => {}
        }
        if shared.backlog.bytes() > 0 {
            shutdown.run_until_cancelled(bring_memory(shared)).await;
            if let Some(spool) = &shared.backlog.spool {
                shutdown
                    .run_until_cancelled(bring_spool(shared, spool))
                    .await;
            }
        }
    }
}

/// Brings what waits in memory. What the store does not take stays there.
pub(super) async fn bring_memory(shared: &Arc<Shared>) {
    loop {
        if shared.calls.breaker.is_open() {
            return;
        }
        let ends = shared.backlog.first_in_memory(AT_ONCE);
        if ends.is_empty() {
            return;
        }
        let count = ends.len();
        let left = bring(shared, ends).await;
        let all = left.is_empty();
        shared.backlog.drop_from_memory(count, left);
        if !all {
            return;
        }
    }
}

/// Brings the segments, one after the other; one that the store does not take whole is brought once
/// more later, which changes nothing for what it has taken.
async fn bring_spool(shared: &Arc<Shared>, spool: &Spool) {
    for segment in spool.segments().await {
        if shared.calls.breaker.is_open() {
            return;
        }
        match bring_segment(shared, spool, &segment).await {
            Ok(()) => {}
            Err(error @ BringError::NotTaken) => tracing::debug!(%error, "a segment stays"),
            Err(BringError::Disk(error)) => {
                tracing::error!(%error, "cannot read or delete a segment of the spool");
            }
        }
    }
}

async fn bring_segment(
    shared: &Arc<Shared>,
    spool: &Spool,
    segment: &Segment,
) -> Result<(), BringError> {
    let contents = match spool.read(segment).await {
        Ok(contents) => contents,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!(%error, "a segment of the spool cannot be read, and is put aside");
            shared.telemetry.limits.unreadable.inc();
            return spool.put_aside(segment).await.map_err(BringError::Disk);
        }
        Err(error) => return Err(BringError::Disk(error)),
    };
    let mut damaged = contents.damaged;
    let mut whole = true;
    for entries in contents.entries.chunks(AT_ONCE) {
        let (ends, unreadable) = decode(entries);
        damaged += unreadable;
        let left = bring(shared, ends).await;
        whole &= left.is_empty();
        if shared.calls.breaker.is_open() {
            return Err(BringError::NotTaken);
        }
    }
    if !whole {
        return Err(BringError::NotTaken);
    }
    if damaged > 0 || contents.torn {
        let torn = contents.torn;
        tracing::warn!(damaged, torn, "a part of the spool could not be read");
        shared.telemetry.limits.unreadable.inc_by(damaged as u64);
    }
    spool.remove(segment).await.map_err(BringError::Disk)
}

fn decode(entries: &[Bytes]) -> (Vec<End>, usize) {
    let mut ends = Vec::with_capacity(entries.len());
    for entry in entries {
        match End::decode(entry.clone()) {
            Ok(end) => ends.push(end),
            Err(error) => tracing::warn!(%error, "an entry of the spool is no end of a request"),
        }
    }
    let unreadable = entries.len() - ends.len();
    (ends, unreadable)
}

/// Brings all of them at once, and returns those that the store did not take.
async fn bring(shared: &Arc<Shared>, ends: Vec<End>) -> Vec<End> {
    let mut bringing = JoinSet::new();
    for end in ends {
        let shared = Arc::clone(shared);
        bringing.spawn(async move { shared.calls.end(&end).await.map_err(|_| end) });
    }
    let mut left = Vec::new();
    for result in bringing.join_all().await {
        match result {
            Ok(()) => {
                shared.telemetry.limits.replayed.inc();
            }
            Err(end) => left.push(end),
        }
    }
    left
}
