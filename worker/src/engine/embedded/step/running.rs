//! The requests that have a place: their readers, their usage, and how they end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{cancelled, deadline_passed, number};
use crate::engine::embedded::kv::Block;
use crate::engine::embedded::prepare::Prepared;
use crate::engine::reply::Reply;
use crate::event::{Delta, Event, Failure, FailureKind, FinishReason, Usage};
use crate::state::{Outcome, State};

/// A request's number on the engine's thread.
pub(super) type RequestId = u64;

/// All requests that have a place.
pub(super) struct Requests {
    open: HashMap<RequestId, Running>,
    opened: RequestId,
    slow_reader_timeout: Duration,
    state: Arc<State>,
}

struct Running {
    reply: Reply,
    usage: Usage,
    deadline: Option<Instant>,
    salt: Arc<str>,
    blocks: Arc<[Block]>,
    choices_left: usize,
}

// === impl Requests ===

impl Requests {
    /// None yet.
    pub(super) fn new(slow_reader_timeout: Duration, state: Arc<State>) -> Self {
        Self {
            open: HashMap::new(),
            opened: 0,
            slow_reader_timeout,
            state,
        }
    }

    /// A request gets its place; its reader hears how much of the prompt was cached.
    pub(super) fn open(
        &mut self,
        prepared: &Prepared,
        mut reply: Reply,
        cached: usize,
    ) -> RequestId {
        let usage = Usage {
            prompt_tokens: number(prepared.tokens.len()),
            cached_tokens: number(cached),
            ..Usage::default()
        };
        reply.send(Event::Admitted {
            prompt_tokens: usage.prompt_tokens,
            cached_tokens: usage.cached_tokens,
        });
        if let Some(echo) = &prepared.echo {
            for choice in 0..prepared.choices {
                let content = echo.clone();
                let choice = number(choice);
                reply.send(Event::Delta(Delta {
                    choice,
                    content,
                    ..Delta::default()
                }));
            }
        }
        let running = Running {
            reply,
            usage,
            deadline: prepared.deadline,
            salt: Arc::clone(&prepared.salt),
            blocks: Arc::clone(&prepared.blocks),
            choices_left: prepared.choices,
        };
        self.opened += 1;
        self.open.insert(self.opened, running);
        self.opened
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn contains(&self, request: RequestId) -> bool {
        self.open.contains_key(&request)
    }

    /// Whose prefixes it shares, and which blocks its prompt covers.
    pub(super) fn prefix(&self, request: RequestId) -> Option<(Arc<str>, Arc<[Block]>)> {
        let running = self.open.get(&request)?;
        Some((Arc::clone(&running.salt), Arc::clone(&running.blocks)))
    }

    /// Its reader is behind by all that fits into the channel.
    pub(super) fn is_parked(&self, request: RequestId) -> bool {
        self.open
            .get(&request)
            .is_some_and(|running| running.reply.parked_since().is_some())
    }

    /// What it has used so far.
    pub(super) fn usage(&mut self, request: RequestId) -> Option<&mut Usage> {
        self.open
            .get_mut(&request)
            .map(|running| &mut running.usage)
    }

    /// One of its choices has something to say.
    pub(super) fn produced(&mut self, request: RequestId, delta: Delta) {
        if let Some(running) = self.open.get_mut(&request) {
            running.reply.send(Event::Delta(delta));
        }
    }

    /// One of its choices is complete.
    pub(super) fn finished(&mut self, request: RequestId, choice: u32, reason: FinishReason) {
        if let Some(running) = self.open.get_mut(&request) {
            running.reply.send(Event::ChoiceFinished { choice, reason });
            running.choices_left -= 1;
        }
    }

    /// It ends here.
    pub(super) fn fail(&mut self, request: RequestId, failure: Failure) {
        if let Some(running) = self.open.remove(&request) {
            let failure = Failure {
                usage: running.usage,
                ..failure
            };
            self.state
                .count(Outcome::Failed(failure.kind), failure.usage);
            running.reply.end(Event::Failed(failure));
        }
    }

    /// They all end here.
    pub(super) fn fail_all(&mut self, failure: &Failure) {
        let all: Vec<RequestId> = self.open.keys().copied().collect();
        for request in all {
            self.fail(request, failure.clone());
        }
    }

    /// Ends the requests that are complete and whose reader has room for all that was said.
    pub(super) fn settle(&mut self) {
        let complete =
            |running: &Running| running.choices_left == 0 && running.reply.parked_since().is_none();
        for (_, running) in self.open.extract_if(|_, running| complete(running)) {
            self.state.count(Outcome::Finished, running.usage);
            running.reply.end(Event::Finished(running.usage));
        }
    }

    /// Ends the requests that nobody reads, or nobody wants or waits for, and wakes those whose reader has
    /// made room.
    pub(super) fn sweep(&mut self, now: Instant) {
        let mut over = Vec::new();
        for (request, running) in &mut self.open {
            if running.reply.is_abandoned() {
                over.push((*request, None));
                continue;
            }
            if running.reply.is_cancelled() {
                over.push((*request, Some(cancelled())));
                continue;
            }
            if running.deadline.is_some_and(|deadline| deadline <= now) {
                over.push((*request, Some(deadline_passed())));
                continue;
            }
            if running.reply.parked_since().is_some() {
                running.reply.flush();
            }
            if let Some(since) = running.reply.parked_since()
                && since + self.slow_reader_timeout <= now
            {
                let message = "the reader left its events unread for too long";
                over.push((
                    *request,
                    Some(Failure::new(FailureKind::SlowReader, message)),
                ));
            }
        }
        for (request, failure) in over {
            match failure {
                Some(failure) => self.fail(request, failure),
                None => {
                    if let Some(running) = self.open.remove(&request) {
                        self.state.count(Outcome::Dropped, running.usage);
                    }
                }
            }
        }
        self.settle();
    }

    /// When `sweep` will next have something to do that no event announces.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
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
