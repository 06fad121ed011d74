//! The requests that have a place in an engine: their readers, their usage, and how they end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{Delta, Event, Failure, FailureKind, FinishReason, Usage};
use crate::queue::Orders;
use crate::reply::Reply;
use crate::state::{Outcome, State};

/// A request's number in its engine.
pub type RequestId = u64;

/// All requests that have a place; `T` is what the engine itself must know of one.
pub struct Requests<T> {
    open: HashMap<RequestId, Running<T>>,
    opened: RequestId,
    slow_reader_timeout: Duration,
    state: Arc<State>,
}

/// A request that has a place.
pub struct Running<T> {
    /// The engine's own.
    pub own: T,
    /// What it has used so far.
    pub usage: Usage,
    reply: Reply,
    deadline: Option<Instant>,
    choices_left: usize,
}

/// A request that has lost its place before it was complete.
pub struct Ended<T> {
    /// Its number.
    pub request: RequestId,
    /// The engine's own.
    pub own: T,
    /// How many of its choices were not complete.
    pub choices_left: usize,
}

// === impl Requests ===

impl<T> Requests<T> {
    /// None yet.
    pub fn new(slow_reader_timeout: Duration, state: Arc<State>) -> Self {
        Self {
            open: HashMap::new(),
            opened: 0,
            slow_reader_timeout,
            state,
        }
    }

    /// A request gets a place; its reader hears nothing yet.
    pub fn open(
        &mut self,
        reply: Reply,
        deadline: Option<Instant>,
        choices: usize,
        own: T,
    ) -> RequestId {
        let running = Running {
            own,
            usage: Usage::default(),
            reply,
            deadline,
            choices_left: choices,
        };
        self.opened += 1;
        self.open.insert(self.opened, running);
        self.opened
    }

    /// How many requests run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no request runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether this request still runs.
    #[must_use]
    pub fn contains(&self, request: RequestId) -> bool {
        self.open.contains_key(&request)
    }

    /// A running request.
    #[must_use]
    pub fn get(&self, request: RequestId) -> Option<&Running<T>> {
        self.open.get(&request)
    }

    /// A running request, to be changed.
    pub fn get_mut(&mut self, request: RequestId) -> Option<&mut Running<T>> {
        self.open.get_mut(&request)
    }

    /// Its reader is behind by all that fits into the channel.
    pub fn is_parked(&self, request: RequestId) -> bool {
        self.open.get(&request).is_some_and(Running::is_parked)
    }

    /// It ends here.
    pub fn fail(&mut self, request: RequestId, failure: Failure) -> Option<Ended<T>> {
        let running = self.open.remove(&request)?;
        let failure = Failure {
            usage: running.usage,
            ..failure
        };
        self.state
            .count(Outcome::Failed(failure.kind), failure.usage);
        running.reply.end(Event::Failed(failure));
        Some(Ended {
            request,
            own: running.own,
            choices_left: running.choices_left,
        })
    }

    /// They all end here.
    pub fn fail_all(&mut self, failure: &Failure) {
        let all: Vec<RequestId> = self.open.keys().copied().collect();
        for request in all {
            self.fail(request, failure.clone());
        }
    }

    /// One ends that never had a place: it is cancelled, overdue, or the worker drains.
    pub fn refuse(&self, reply: Reply, orders: Orders) {
        let failure = match orders {
            Orders::Serve if reply.is_cancelled() => cancelled(),
            Orders::Serve => deadline_passed(),
            Orders::Drain | Orders::Stop => draining(),
        };
        self.state
            .count(Outcome::Failed(failure.kind), failure.usage);
        reply.end(Event::Failed(failure));
    }

    /// Ends the requests that are complete and whose reader has room for all that was said.
    pub fn settle(&mut self) {
        let complete = |running: &Running<T>| running.choices_left == 0 && !running.is_parked();
        for (_, running) in self.open.extract_if(|_, running| complete(running)) {
            self.state.count(Outcome::Finished, running.usage);
            running.reply.end(Event::Finished(running.usage));
        }
    }

    /// Ends the requests that nobody reads, or nobody wants or waits for, and wakes those whose reader has
    /// made room. Returns those that it ended.
    pub fn sweep(&mut self, now: Instant) -> Vec<Ended<T>> {
        let mut over = Vec::new();
        for (request, running) in &mut self.open {
            if let Some(verdict) = running.verdict(now, self.slow_reader_timeout) {
                over.push((*request, verdict));
            }
        }
        let ended = over.into_iter().filter_map(|(request, verdict)| {
            if let Verdict::Failed(failure) = verdict {
                return self.fail(request, failure);
            }
            let running = self.open.remove(&request)?;
            self.state.count(Outcome::Dropped, running.usage);
            Some(Ended {
                request,
                own: running.own,
                choices_left: running.choices_left,
            })
        });
        let ended = ended.collect();
        self.settle();
        ended
    }

    /// When `sweep` will next have something to do that no event announces.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.open
            .values()
            .flat_map(|running| {
                let parked = running.reply.parked_since();
                [
                    running.deadline,
                    parked.map(|since| since + self.slow_reader_timeout),
                ]
            })
            .flatten()
            .min()
    }
}

// === impl Running ===

/// How a request ends that is not complete.
enum Verdict {
    /// Nobody reads it.
    Left,
    /// It fails.
    Failed(Failure),
}

impl<T> Running<T> {
    /// Its prompt has its place in the cache; its reader hears how much of it was there.
    pub fn admitted(&mut self, prompt_tokens: u32, cached_tokens: u32) {
        self.usage.prompt_tokens = prompt_tokens;
        self.usage.cached_tokens = cached_tokens;
        self.reply.send(Event::Admitted {
            prompt_tokens,
            cached_tokens,
        });
    }

    /// One of its choices has something to say.
    pub fn produced(&mut self, delta: Delta) {
        self.reply.send(Event::Delta(delta));
    }

    /// One of its choices is complete.
    pub fn finished(&mut self, choice: u32, reason: FinishReason) {
        self.reply.send(Event::ChoiceFinished { choice, reason });
        self.choices_left -= 1;
    }

    /// Its reader is behind by all that fits into the channel.
    pub fn is_parked(&self) -> bool {
        self.reply.parked_since().is_some()
    }

    /// Whether it ends now; if not, what its reader has not been sent goes as far as there is room.
    fn verdict(&mut self, now: Instant, slow_reader_timeout: Duration) -> Option<Verdict> {
        if self.reply.is_abandoned() {
            return Some(Verdict::Left);
        }
        if self.reply.is_cancelled() {
            return Some(Verdict::Failed(cancelled()));
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Some(Verdict::Failed(deadline_passed()));
        }
        if self.is_parked() {
            self.reply.flush();
        }
        let since = self.reply.parked_since()?;
        (since + slow_reader_timeout <= now).then(|| {
            let message = "the reader left its events unread for too long";
            Verdict::Failed(Failure::new(FailureKind::SlowReader, message))
        })
    }
}

/// What a request hears that had no end when its time was over.
#[must_use]
pub fn deadline_passed() -> Failure {
    Failure::new(
        FailureKind::DeadlineExceeded,
        "the deadline of the request has passed",
    )
}

/// What a request hears that somebody has ended.
#[must_use]
pub fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "the request was cancelled")
}

/// What a request hears whose worker ends.
#[must_use]
pub fn draining() -> Failure {
    Failure::new(FailureKind::Draining, "this worker is shutting down")
}
