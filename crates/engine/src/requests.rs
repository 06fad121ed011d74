//! The requests that run on an engine: their replies, their usage, and how they end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{Delta, Event, Failure, FailureKind, FinishReason, Usage};
use crate::queue::RunState;
use crate::reply::Reply;
use crate::state::{Outcome, State};

/// The number of a request in its engine.
pub type RequestId = u64;

/// All running requests; `T` is what the engine itself keeps of each.
pub struct Requests<T> {
    open: HashMap<RequestId, Running<T>>,
    opened: RequestId,
    slow_reader_timeout: Duration,
    state: Arc<State>,
}

/// A running request.
pub struct Running<T> {
    /// What the engine keeps of the request.
    pub own: T,
    /// Tokens used so far.
    pub usage: Usage,
    reply: Reply,
    deadline: Option<Instant>,
    choices_left: usize,
}

/// A request that ended before it was complete.
pub struct Ended<T> {
    /// The number of the request.
    pub request: RequestId,
    /// What the engine kept of the request.
    pub own: T,
    /// How many choices were not complete.
    pub choices_left: usize,
}

// === impl Requests ===

impl<T> Requests<T> {
    /// No request runs.
    pub fn new(slow_reader_timeout: Duration, state: Arc<State>) -> Self {
        Self {
            open: HashMap::new(),
            opened: 0,
            slow_reader_timeout,
            state,
        }
    }

    /// Adds a request; nothing is sent to its client yet.
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

    /// Whether its channel is full, so that the engine computes nothing for it.
    pub fn is_paused(&self, request: RequestId) -> bool {
        self.open.get(&request).is_some_and(Running::is_paused)
    }

    /// Ends a request with a failure. Returns `None` if it does not run.
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

    /// Ends all requests with a failure.
    pub fn fail_all(&mut self, failure: &Failure) {
        let all: Vec<RequestId> = self.open.keys().copied().collect();
        for request in all {
            self.fail(request, failure.clone());
        }
    }

    /// Ends a request that never ran: it is cancelled, its deadline has passed, or the worker drains.
    pub fn refuse(&self, reply: Reply, run_state: RunState) {
        let failure = match run_state {
            RunState::Serve if reply.is_cancelled() => cancelled(),
            RunState::Serve => deadline_passed(),
            RunState::Drain | RunState::Stop => draining(),
        };
        self.state
            .count(Outcome::Failed(failure.kind), failure.usage);
        reply.end(Event::Failed(failure));
    }

    /// Ends the requests that are complete and whose channel had room for all events.
    pub fn settle(&mut self) {
        let complete = |running: &Running<T>| running.choices_left == 0 && !running.is_paused();
        for (_, running) in self.open.extract_if(|_, running| complete(running)) {
            self.state.count(Outcome::Finished, running.usage);
            running.reply.end(Event::Finished(running.usage));
        }
    }

    /// Ends the requests whose client is gone, that are cancelled, or whose time is over, and flushes those whose client
    /// has read. Returns the requests that it ended.
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
            self.state.count(Outcome::Disconnected, running.usage);
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

    /// When `sweep` must run again although nothing wakes the engine.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.open
            .values()
            .flat_map(|running| {
                let paused = running.reply.paused_since();
                [
                    running.deadline,
                    paused.map(|since| since + self.slow_reader_timeout),
                ]
            })
            .flatten()
            .min()
    }
}

// === impl Running ===

/// How a request ends that is not complete.
enum Verdict {
    /// The client is gone.
    Left,
    /// The request fails.
    Failed(Failure),
}

impl<T> Running<T> {
    /// The request was admitted: tells the client how many tokens the prompt has, and how many of them were cached.
    pub fn admitted(&mut self, prompt_tokens: u32, cached_tokens: u32) {
        self.usage.prompt_tokens = prompt_tokens;
        self.usage.cached_tokens = cached_tokens;
        self.reply.send(Event::Admitted {
            prompt_tokens,
            cached_tokens,
        });
    }

    /// Sends what one of its choices produced.
    pub fn produced(&mut self, delta: Delta) {
        self.reply.send(Event::Delta(delta));
    }

    /// One of its choices is complete.
    pub fn finished(&mut self, choice: u32, reason: FinishReason) {
        self.reply.send(Event::ChoiceFinished { choice, reason });
        self.choices_left -= 1;
    }

    /// Whether its channel is full, so that the engine computes nothing for it.
    pub fn is_paused(&self) -> bool {
        self.reply.paused_since().is_some()
    }

    /// Decides whether the request ends now; if not, kept events are sent as far as the channel has room.
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
        if self.is_paused() {
            self.reply.flush();
        }
        let since = self.reply.paused_since()?;
        (since + slow_reader_timeout <= now).then(|| {
            let message = "the reader left its events unread for too long";
            Verdict::Failed(Failure::new(FailureKind::SlowReader, message))
        })
    }
}

/// The failure of a request whose deadline has passed.
#[must_use]
pub fn deadline_passed() -> Failure {
    Failure::new(
        FailureKind::DeadlineExceeded,
        "the deadline of the request has passed",
    )
}

/// The failure of a request that was cancelled.
#[must_use]
pub fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "the request was cancelled")
}

/// The failure of a request whose worker shuts down.
#[must_use]
pub fn draining() -> Failure {
    Failure::new(FailureKind::Draining, "this worker is shutting down")
}
