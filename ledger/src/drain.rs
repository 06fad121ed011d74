//! The loop of the ledger: take entries, store them, and only then acknowledge them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use crate::event::{DeadLetter, Event};
use crate::source::{Batch, Open};
use crate::store::{Store, Stored, WriteError};

/// Events of one transaction.
const TRANSACTION: usize = 1_024;
/// First and longest pause before the next try to store.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long it goes on trying once it is asked to stop.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it says what it has done.
const SUMMARY_EVERY: Duration = Duration::from_mins(1);

/// Whether the ledger does its work; read by `/readyz`.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) source: AtomicBool,
    pub(crate) store: AtomicBool,
}

struct Drain {
    store: Store,
    health: Arc<Health>,
    shutdown: CancellationToken,
    done: Done,
    said: Instant,
}

/// What was done since the last line of the log.
#[derive(Default)]
struct Done {
    new: usize,
    known: usize,
    dead: usize,
    /// The longest time from the end of a request to its event in the store.
    lag: Duration,
}

/// Entries were taken that the store did not take in time. Those of Redis are still there.
#[derive(Debug, thiserror::Error)]
#[error("{entries} usage events could not be stored before the end")]
pub struct DrainError {
    entries: usize,
}

/// Runs until the source ends, or the store cannot be written after `shutdown`.
pub(crate) async fn run(
    mut source: Open,
    store: Store,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> Result<(), DrainError> {
    let mut drain = Drain {
        store,
        health,
        shutdown,
        done: Done::default(),
        said: Instant::now(),
    };
    loop {
        let taken = source.take(&drain.shutdown, &drain.health.source).await;
        let Some(batch) = taken else {
            break;
        };
        if !drain.keep(&batch).await {
            let entries = batch.len();
            return Err(DrainError { entries });
        }
        source.acknowledge(batch).await;
        drain.say_sometimes();
    }
    drain.say();
    source.close().await;
    Ok(())
}

// === impl Drain ===

impl Drain {
    /// Stores a batch, however long that takes; false: it was given up after the shutdown.
    async fn keep(&mut self, batch: &Batch) -> bool {
        let mut work: Vec<(&[Event], &[DeadLetter])> = batch
            .events
            .chunks(TRANSACTION)
            .map(|events| (events, &[][..]))
            .collect();
        if !batch.dead.is_empty() {
            work.push((&[], &batch.dead));
        }
        // The last one first; the order is of no matter.
        while let Some((events, dead)) = work.pop() {
            match self.insist(events, dead).await {
                None => return false,
                Some(Ok(stored)) => self.count(events, dead, stored),
                Some(Err(reason)) => match events {
                    // The one that the store does not like must not keep the others out.
                    [event] => {
                        let letter = event.refused(&reason);
                        let kept = self.insist(&[], std::slice::from_ref(&letter)).await;
                        if !matches!(kept, Some(Ok(_))) {
                            return false;
                        }
                        self.count(&[], &[letter], Stored::default());
                    }
                    [] => return false,
                    events => {
                        let (first, second) = events.split_at(events.len() / 2);
                        work.push((first, &[]));
                        work.push((second, &[]));
                    }
                },
            }
        }
        true
    }

    /// Tries until the store has answered; with the reason where it refuses the batch for ever.
    async fn insist(
        &self,
        events: &[Event],
        dead: &[DeadLetter],
    ) -> Option<Result<Stored, String>> {
        let mut pause = PAUSES.0;
        let mut until: Option<Instant> = None;
        loop {
            let error = match self.store.write(events, dead).await {
                Ok(stored) => {
                    self.health.store.store(true, Ordering::Relaxed);
                    return Some(Ok(stored));
                }
                Err(WriteError::Refused(error)) => return Some(Err(error.to_string())),
                Err(WriteError::Unavailable(error)) => error,
            };
            self.health.store.store(false, Ordering::Relaxed);
            tracing::warn!(
                %error,
                retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                "events cannot be stored; they wait"
            );
            if self.shutdown.is_cancelled() {
                let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
                if Instant::now() >= until {
                    return None;
                }
            }
            time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
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
