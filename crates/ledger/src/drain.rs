//! The main loop: take entries, store them, and acknowledge them after the commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use inferyard_redis_link::backoff;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use crate::event::{DeadLetter, Event};
use crate::source::{Batch, Open};
use crate::store::{Stored, WriteError, Writer};

/// Most events of one transaction.
const TRANSACTION: usize = 1_024;
/// First and longest pause before a batch is stored again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a summary is logged.
const SUMMARY_EVERY: Duration = Duration::from_mins(1);

/// Health of the ledger, read by `/readyz`.
#[derive(Debug)]
pub(crate) struct Health {
    /// Whether the source can be read.
    pub(crate) source: AtomicBool,
    /// Whether the last write was committed; true before the first one.
    pub(crate) store: AtomicBool,
}

struct Drain {
    writer: Writer,
    health: Arc<Health>,
    done: Done,
    said: Instant,
}

/// Counts since the last summary.
#[derive(Default)]
struct Done {
    new: usize,
    known: usize,
    dead: usize,
    /// The longest time from the end of a request to its event in the store.
    lag: Duration,
}

/// Why a ledger ended before all events were stored.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The store was unavailable during the shutdown, and no file keeps the events.
    #[error("{entries} usage events could not be stored before the end and are lost")]
    Lost {
        /// Number of lost events.
        entries: usize,
    },
    /// The store refuses an entry for good, also as a dead letter.
    #[error("the store refuses to set an entry aside: {reason}")]
    Refused {
        /// The error of the store.
        reason: String,
    },
}

/// Runs until the source ends, or up to `drain_timeout` after `shutdown` was cancelled.
pub(crate) async fn run(
    mut source: Open,
    writer: Writer,
    health: Arc<Health>,
    shutdown: CancellationToken,
    drain_timeout: Duration,
) -> Result<(), DrainError> {
    let mut drain = Drain {
        writer,
        health,
        done: Done::default(),
        said: Instant::now(),
    };
    let overdue = async {
        shutdown.cancelled().await;
        time::sleep(drain_timeout).await;
    };
    // If the timeout drops a write, its connection is dropped too, and the batch counts as not stored.
    let all = tokio::select! {
        biased;
        all = drain.all(&mut source, &shutdown) => Some(all),
        () = overdue => None,
    };
    drain.say();
    drain.writer.close().await;
    match all {
        Some(Ok(())) => {
            source.close().await;
            Ok(())
        }
        Some(Err(error)) => {
            source.abandon();
            Err(error)
        }
        None => match source.abandon() {
            0 => Ok(()),
            entries => Err(DrainError::Lost { entries }),
        },
    }
}

// === impl Health ===

impl Default for Health {
    fn default() -> Self {
        Self {
            source: AtomicBool::new(false),
            store: AtomicBool::new(true),
        }
    }
}

// === impl Drain ===

impl Drain {
    /// Stores all entries of the source, and acknowledges those that were committed.
    async fn all(
        &mut self,
        source: &mut Open,
        shutdown: &CancellationToken,
    ) -> Result<(), DrainError> {
        loop {
            let health = Arc::clone(&self.health);
            let Some(batch) = source.take(shutdown, &health.source).await else {
                return Ok(());
            };
            self.keep(&batch).await?;
            source.acknowledge(batch).await;
            self.say_sometimes();
        }
    }

    /// Stores a batch, with retries without end.
    async fn keep(&mut self, batch: &Batch) -> Result<(), DrainError> {
        let mut work: Vec<(&[Event], &[DeadLetter])> = batch
            .events
            .chunks(TRANSACTION)
            .map(|events| (events, &[][..]))
            .collect();
        if !batch.dead.is_empty() {
            work.push((&[], &batch.dead));
        }
        // The stack is popped from its end; the order of entries does not matter.
        while let Some((events, dead)) = work.pop() {
            match self.insist(events, dead).await {
                Ok(stored) => self.count(events, dead, stored),
                Err(Refusal(reason)) => match events {
                    // The entry that the store refuses must not keep the others out: the batch is halved until it is
                    // alone.
                    [event] => {
                        let letter = event.refused(&reason);
                        self.insist(&[], std::slice::from_ref(&letter)).await?;
                        self.count(&[], &[letter], Stored::default());
                    }
                    [] => return Err(Refusal(reason).into()),
                    events => {
                        let (first, second) = events.split_at(events.len() / 2);
                        work.push((first, &[]));
                        work.push((second, &[]));
                    }
                },
            }
        }
        Ok(())
    }

    /// Retries until the store has committed the batch or refuses it for good.
    async fn insist(&mut self, events: &[Event], dead: &[DeadLetter]) -> Result<Stored, Refusal> {
        let mut pauses = backoff(PAUSES.0, PAUSES.1);
        loop {
            let error = match self.writer.write(events, dead).await {
                Ok(stored) => {
                    self.health.store.store(true, Ordering::Relaxed);
                    return Ok(stored);
                }
                Err(WriteError::Refused(error)) => return Err(Refusal(error.to_string())),
                Err(WriteError::Unavailable(error)) => error.to_string(),
                Err(error @ WriteError::TooSlow(_)) => error.to_string(),
            };
            self.health.store.store(false, Ordering::Relaxed);
            let pause = pauses.next().unwrap_or(PAUSES.1);
            tracing::warn!(
                error,
                retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                "events cannot be stored; they wait"
            );
            time::sleep(pause).await;
        }
    }

    fn count(&mut self, events: &[Event], dead: &[DeadLetter], stored: Stored) {
        for letter in dead {
            tracing::error!(
                reason = letter.reason,
                "an entry of the outbox cannot be read; it is kept in dead_letters"
            );
        }
        self.done.new += stored.new;
        self.done.known += stored.known;
        self.done.dead += dead.len();
        if let Some(first) = events.iter().map(Event::time_us).min() {
            let ended = Duration::from_micros(u64::try_from(first).unwrap_or(0));
            let lag = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH + ended)
                .unwrap_or_default();
            self.done.lag = self.done.lag.max(lag);
        }
    }

    fn say_sometimes(&mut self) {
        if self.said.elapsed() >= SUMMARY_EVERY {
            self.say();
        }
    }

    fn say(&mut self) {
        self.said = Instant::now();
        let done = std::mem::take(&mut self.done);
        if done.new + done.known + done.dead > 0 {
            tracing::info!(
                new = done.new,
                known = done.known,
                unreadable = done.dead,
                longest_lag_ms = u64::try_from(done.lag.as_millis()).unwrap_or(u64::MAX),
                "stored usage events"
            );
        }
    }
}

/// The store refuses a batch for good; the text says why.
struct Refusal(String);

// === impl DrainError ===

impl From<Refusal> for DrainError {
    fn from(Refusal(reason): Refusal) -> Self {
        Self::Refused { reason }
    }
}
