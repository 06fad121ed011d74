//! Replays to the store what could not be stored earlier, in the order in which it was kept.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::calls::CallError;
use super::end::End;
use super::spool::{Entry, Segment, Spool};

/// Interval between two looks for ends to replay.
const EVERY: Duration = Duration::from_secs(1);
/// Ends sent at once. Bounds the entries that the store has but the spool still lists after a crash.
const AT_ONCE: usize = 64;

/// Once a second, replays what waits if the store answers, until `shutdown`. Stops only between two batches, so that
/// every finished batch is marked.
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
            bring_memory(shared, shutdown).await;
            shared.backlog.move_to_disk().await;
            if let Some(spool) = &shared.backlog.spool {
                bring_spool(shared, spool, shutdown).await;
            }
        }
    }
}

/// Replays what waits in memory. Ends that the store does not take are appended again after the later ones.
pub(super) async fn bring_memory(shared: &Arc<Shared>, shutdown: &CancellationToken) {
    let backlog = &shared.backlog;
    let mut left = backlog.count_in_memory();
    while left > 0 && goes_on(shared, shutdown) {
        let ends = backlog.first_in_memory(AT_ONCE.min(left));
        left -= ends.len();
        let lost = bring(shared, &ends).await;
        backlog.take_from_memory(ends.len());
        backlog.put_back(lost.into_iter().map(|index| Arc::clone(&ends[index])));
    }
}

fn goes_on(shared: &Shared, shutdown: &CancellationToken) -> bool {
    !shared.calls.breaker.is_open() && !shutdown.is_cancelled()
}

/// Replays the segments in order.
async fn bring_spool(shared: &Arc<Shared>, spool: &Spool, shutdown: &CancellationToken) {
    if !goes_on(shared, shutdown) {
        return;
    }
    for segment in spool.segments().await {
        if let Err(error) = bring_segment(shared, spool, &segment, shutdown).await {
            tracing::error!(%error, "cannot read or delete a segment of the spool");
        }
        if !goes_on(shared, shutdown) {
            return;
        }
    }
}

/// Replays the waiting entries of a segment, and deletes it if none is left.
async fn bring_segment(
    shared: &Arc<Shared>,
    spool: &Spool,
    segment: &Segment,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let contents = match spool.read(segment).await {
        Ok(contents) => contents,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!(%error, "a segment of the spool cannot be read and is set aside");
            shared.metrics.unreadable.inc();
            return spool.put_aside(segment).await;
        }
        Err(error) => return Err(error),
    };
    let mut whole = true;
    for entries in contents.entries.chunks(AT_ONCE) {
        let done = bring_entries(shared, entries).await;
        whole &= done.len() == entries.len();
        if !done.is_empty()
            && let Err(error) = spool.mark(segment, done).await
        {
            tracing::error!(%error, "cannot mark entries of the spool as done");
        }
        if !goes_on(shared, shutdown) {
            return Ok(());
        }
    }
    if !whole {
        return Ok(());
    }
    let (damaged, torn) = (contents.damaged, contents.torn);
    if damaged > 0 || torn {
        tracing::warn!(damaged, torn, "a part of the spool could not be read");
        shared.metrics.unreadable.inc_by(damaged as u64);
    }
    spool.remove(segment).await
}

/// Replays entries of a segment. Returns the offsets of those that are done.
async fn bring_entries(shared: &Arc<Shared>, entries: &[Entry]) -> Vec<u32> {
    let mut done = Vec::with_capacity(entries.len());
    let (mut ends, mut places) = (Vec::new(), Vec::new());
    for entry in entries {
        match End::decode(entry.bytes.clone()) {
            Ok(end) => {
                ends.push(Arc::new(end));
                places.push(entry.at);
            }
            Err(error) => {
                tracing::error!(%error, "an entry of the spool cannot be decoded and is set aside");
                shared.metrics.unreadable.inc();
                if set_aside(shared, std::slice::from_ref(&entry.bytes)).await {
                    done.push(entry.at);
                }
            }
        }
    }
    let lost = bring(shared, &ends).await;
    for (index, at) in places.into_iter().enumerate() {
        if !lost.contains(&index) {
            done.push(at);
        }
    }
    done
}

/// Replays all ends concurrently, and returns the indices of those to replay again. Ends that the store refuses are
/// set aside, and are not among them.
async fn bring(shared: &Arc<Shared>, ends: &[Arc<End>]) -> Vec<usize> {
    let mut bringing = JoinSet::new();
    for (index, end) in ends.iter().enumerate() {
        let (shared, end) = (Arc::clone(shared), Arc::clone(end));
        bringing.spawn(async move { (index, shared.calls.end(&end).await) });
    }
    let mut lost = Vec::new();
    let mut refused = Vec::new();
    for (index, result) in bringing.join_all().await {
        match result {
            Ok(()) => {
                shared.metrics.replayed.inc();
            }
            Err(CallError::Refused) => refused.push(index),
            Err(CallError::NotAsked | CallError::Unanswered) => lost.push(index),
        }
    }
    if !refused.is_empty() && !refuse(shared, refused.iter().map(|&index| &*ends[index])).await {
        lost.extend(refused);
    }
    lost
}

/// Sets ends aside that the store refuses. `false`: they are not on disk, and must be replayed again.
pub(super) async fn refuse(shared: &Shared, ends: impl Iterator<Item = &End>) -> bool {
    let entries: Vec<Bytes> = ends.map(|end| end.encode().into()).collect();
    if !set_aside(shared, &entries).await {
        return false;
    }
    shared.metrics.refused.inc_by(entries.len() as u64);
    true
}

async fn set_aside(shared: &Shared, entries: &[Bytes]) -> bool {
    let result = shared.backlog.set_aside(entries).await;
    if let Err(error) = &result {
        tracing::error!(%error, "cannot set aside what the store of limits refused; it stays in the spool");
    }
    result.is_ok()
}
