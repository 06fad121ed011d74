//! One call of the server: the request is sent and its answer read, unless the client gives it up.

mod cancel_policy;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use inferyard_engine::event::{Event, Failure, FailureKind, Usage};
use inferyard_engine::queue;
use inferyard_engine::reply::Reply;
use inferyard_engine::state::Outcome;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Counted};
use crate::http::{HttpError, ResponseStream};
use crate::load_tracker::Slot;
use crate::refusal::{self, Refusal};
use crate::server::Server;
use crate::sse::{Line, Lines, TooLong};
use crate::upstream_request::UpstreamRequest;

use cancel_policy::{CancelPolicy, End, Wake, cancelled, deadline_passed};

/// Longer than any answer that comes in one piece.
const MAX_WHOLE: usize = 16 << 20;
/// How long an engine may take to end a body whose last line it wrote.
const LAST_BYTES: Duration = Duration::from_millis(200);

/// A queued request.
pub(crate) struct Job {
    /// The request for the server.
    pub(crate) request: UpstreamRequest,
    /// Tokens of the prompt; an estimate unless the prompt came as tokens.
    pub(crate) prompt_tokens: u32,
    /// Where the events go.
    pub(crate) reply: Reply,
    /// Notified when the client has read, cancelled or disconnected.
    pub(crate) reader_changed: Arc<Notify>,
}

struct UpstreamCall {
    server: Arc<Server>,
    request: UpstreamRequest,
    answer: Answer,
    reply: Reply,
    policy: CancelPolicy,
    slot: Slot,
    asked: Instant,
    begun: Option<Instant>,
    counted: Counted,
}

// === impl Job ===

impl queue::Job for Job {
    fn prompt_tokens(&self) -> usize {
        self.prompt_tokens as usize
    }

    fn deadline(&self) -> Option<Instant> {
        self.request.deadline
    }

    fn is_cancelled(&self) -> bool {
        self.reply.is_cancelled()
    }
}

impl Job {
    /// Ends the request while it is queued.
    pub(crate) fn refuse(self, server: &Server, now: Instant) {
        let overdue = self
            .request
            .deadline
            .is_some_and(|deadline| deadline <= now);
        let failure = if self.reply.is_cancelled() {
            cancelled()
        } else if overdue {
            deadline_passed()
        } else {
            queue::Refused::Draining.failure()
        };
        let outcome = Outcome::Failed(failure.kind);
        server.state.count(outcome, Usage::default());
        self.reply.end(Event::Failed(failure));
    }

    /// Sends the request and reads its answer.
    ///
    /// # Cancellation
    ///
    /// Never dropped while it runs, but at the end of the process: `stop` ends it.
    pub(crate) async fn run(self, server: Arc<Server>, slot: Slot, stop: CancellationToken) {
        let answer = Answer::new(
            self.request.choices,
            self.request.options.clone(),
            self.prompt_tokens,
            self.request.max_prompt_tokens,
            server.context_length,
        );
        let policy = CancelPolicy {
            reader_changed: self.reader_changed,
            deadline: self.request.deadline,
            slow_reader: server.slow_reader_timeout,
            stop,
        };
        let call = UpstreamCall {
            server,
            request: self.request,
            answer,
            reply: self.reply,
            policy,
            slot,
            asked: Instant::now(),
            begun: None,
            counted: Counted::ByChunks,
        };
        call.run().await;
    }
}

// === impl UpstreamCall ===

impl UpstreamCall {
    async fn run(mut self) {
        match self.converse().await {
            Ok(response) => self.finish(response).await,
            Err(End::Left) => {
                let usage = self.used();
                self.server.state.count(Outcome::Disconnected, usage);
            }
            Err(End::Failed(failure)) => {
                if failure.kind.is_of_the_engine() {
                    self.server.failed(&failure.message);
                }
                let usage = self.used();
                let failure = Failure { usage, ..failure };
                let outcome = Outcome::Failed(failure.kind);
                self.server.state.count(outcome, usage);
                self.reply.end(Event::Failed(failure));
            }
        }
    }

    /// The usage of a request that broke off; nothing if the engine did not begin to answer.
    fn used(&self) -> Usage {
        if self.answer.has_begun() {
            self.answer.usage()
        } else {
            Usage::default()
        }
    }

    async fn converse(&mut self) -> Result<ResponseStream, End> {
        let mut response = self.open().await?;
        if response.is_json() {
            self.read_whole(&mut response).await?;
        } else {
            self.read(&mut response).await?;
        }
        let mut events = Vec::new();
        let counted = self.answer.end(&mut events);
        self.send(&mut events);
        if self.answer.lacks_choices() {
            self.server.knows_choices.store(false, Ordering::Relaxed);
        }
        self.counted = counted.map_err(End::Failed)?;
        while self.reply.paused_since().is_some() {
            match self.policy.wait(&self.reply).await {
                Wake::Drained => self.reply.flush(),
                Wake::End(end) => return Err(end),
            }
        }
        Ok(response)
    }

    async fn finish(self, mut response: ResponseStream) {
        let Self {
            server,
            request,
            answer,
            reply,
            slot,
            begun,
            counted,
            ..
        } = self;
        let usage = answer.usage();
        if let Some(word) = answer.unknown_reason() {
            server.warn_unknown_reason(word);
        }
        server.state.count(Outcome::Finished, usage);
        server.succeeded();
        if let Some(begun) = begun {
            let choices = u32::try_from(request.choices).unwrap_or(u32::MAX);
            slot.produced(usage.completion_tokens / choices, begun.elapsed());
        }
        if let Some(cached) = answer.cached_tokens() {
            slot.reused(request.blocks.len(), usage.prompt_tokens, cached);
        }
        match counted {
            Counted::ByEngine => server
                .load
                .counted(request.prompt_bytes, usage.prompt_tokens),
            Counted::ByChunks => server.warn_uncounted(),
        }
        drop(slot);
        reply.end(Event::Finished(usage));
        // A body that was read to its end gives its connection back; any other closes it.
        let _ = tokio::time::timeout(LAST_BYTES, response.next()).await;
    }

    /// Sends the request until the engine begins to answer.
    async fn open(&mut self) -> Result<ResponseStream, End> {
        loop {
            let body = self.request.body.clone();
            let post = self.server.client.post(self.request.endpoint, body);
            let posted = self.policy.with(&self.reply, post).await?;
            let mut response = posted.map_err(|error| self.broke(&error))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let told = response.whole(refusal::MAX_BODY);
            let told = self.policy.with(&self.reply, told).await?;
            let told = told.unwrap_or_default();
            match refusal::of_status(status, &told, self.server.context_length) {
                Refusal::Priority if self.request.forget_priority() => {
                    self.server.knows_priority.store(false, Ordering::Relaxed);
                    tracing::info!("the engine knows no priorities; the worker's own queue does");
                }
                Refusal::Priority => {
                    let message = "the engine refused a priority that it was not given";
                    return Err(End::Failed(Failure::new(FailureKind::Internal, message)));
                }
                Refusal::Failure(failure) => {
                    if failure.kind == FailureKind::Internal {
                        tracing::warn!(%status, "the engine did not take a request");
                    }
                    return Err(End::Failed(failure));
                }
            }
        }
    }

    /// Reads a stream of chunks.
    async fn read(&mut self, response: &mut ResponseStream) -> Result<(), End> {
        let mut lines = Lines::default();
        let mut events = Vec::new();
        while !self.answer.is_done() {
            if self.reply.paused_since().is_some() {
                // The connection is not read meanwhile, so TCP slows the engine down.
                match self.policy.wait(&self.reply).await {
                    Wake::Drained => self.reply.flush(),
                    Wake::End(end) => return Err(end),
                }
                continue;
            }
            let next = response.next();
            let bytes = match self.policy.with(&self.reply, next).await? {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(error) => return Err(self.broke(&error)),
            };
            let context_length = self.server.context_length;
            let answer = &mut self.answer;
            let read = read_piece(&bytes, &mut lines, answer, &mut events, context_length);
            self.send(&mut events);
            read.map_err(End::Failed)?;
        }
        Ok(())
    }

    /// Reads the answer of an engine that does not stream.
    async fn read_whole(&mut self, response: &mut ResponseStream) -> Result<(), End> {
        let whole = response.whole(MAX_WHOLE);
        let whole = self.policy.with(&self.reply, whole).await?;
        let whole = whole.map_err(|error| self.broke(&error))?;
        let mut events = Vec::new();
        let read = self.answer.read(&whole, &mut events);
        self.send(&mut events);
        self.answer.done();
        read.map_err(End::Failed)
    }

    fn send(&mut self, events: &mut Vec<Event>) {
        if self.begun.is_none() && self.answer.has_begun() {
            let took = self.asked.elapsed();
            self.begun = Some(Instant::now());
            let usage = self.answer.usage();
            let computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
            self.slot.begun(&self.request.blocks, computed, took);
        }
        if !events.is_empty() {
            self.server.progressed();
        }
        for event in events.drain(..) {
            self.reply.send(event);
        }
    }

    fn broke(&self, error: &HttpError) -> End {
        self.server.suspect.notify_one();
        tracing::warn!(error = %Chain(error), "the engine did not answer a request");
        let (kind, message) = match error {
            // The engine never got the request: another worker may take it.
            HttpError::Connect(_) => (FailureKind::Loading, "the engine does not answer"),
            // The engine may have got the request and crashed because of it.
            HttpError::Headless(_) | HttpError::Broken(_) => {
                let alone = self.slot.crashed_alone() && !self.server.state.is_draining();
                let kind = if alone {
                    FailureKind::EngineCrashed
                } else {
                    FailureKind::Internal
                };
                (kind, "the engine broke off")
            }
            HttpError::Silent | HttpError::TooLong => {
                (FailureKind::Internal, "the engine broke off")
            }
        };
        End::Failed(Failure::new(kind, message))
    }
}

/// Reads what came of a stream of chunks.
pub(crate) fn read_piece(
    bytes: &[u8],
    lines: &mut Lines,
    answer: &mut Answer,
    events: &mut Vec<Event>,
    context_length: u32,
) -> Result<(), Failure> {
    lines.push(bytes, |line| match line {
        // What comes after the last line is no part of the answer.
        _ if answer.is_done() => Ok(()),
        Line::Data(json) => answer.read(json, events),
        Line::Error(json) => Err(refusal::of_chunk(json, context_length)),
        Line::Done => {
            answer.done();
            Ok(())
        }
    })
}

// === impl TooLong ===

impl From<TooLong> for Failure {
    fn from(TooLong: TooLong) -> Self {
        Self::new(
            FailureKind::Internal,
            "the engine sent a line without an end",
        )
    }
}

/// An error and its causes.
struct Chain<'e>(&'e HttpError);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
