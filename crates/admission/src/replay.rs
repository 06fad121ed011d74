//! Brings to the store what had to wait for it, in the order in which it was kept.

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

const EVERY: Duration = Duration::from_secs(1);
/// Ends that are sent at once. A process that is killed leaves at most this number of entries that the store
/// has and the spool still lists.
const AT_ONCE: usize = 64;

/// Looks once a second whether there is something to bring and somebody to take it, until `shutdown`.
/// It is only heard between two batches: what a batch has brought is marked.
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

/// Brings what waits in memory. What the store does not take stays there, behind what came later.
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

/// Brings the segments, one after the other.
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

/// Brings the entries of a segment that still wait. It is deleted when none does.
async fn bring_segment(
    shared: &Arc<Shared>,
    spool: &Spool,
    segment: &Segment,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let contents = match spool.read(segment).await {
        Ok(contents) => contents,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!(%error, "a segment of the spool cannot be read, and is put aside");
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
            tracing::error!(%error, "cannot write to the spool what the store has of it");
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

/// Brings entries of a segment. Returns where those are that need not be brought again.
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
                tracing::error!(%error, "an entry of the spool is no end of a request; it is set aside");
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

/// Brings all of them at once, and returns the places of those that have to be brought again. What the
/// store refuses is set aside, and is not among them.
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

/// Sets ends aside that the store refuses, and says so. `false`: they are not on disk, and have to be
/// brought again.
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
        tracing::error!(%error, "cannot write what the store of limits refused; it stays in the spool");
    }
    result.is_ok()
}
