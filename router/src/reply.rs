//! Step 7's bodies: events are encoded as the client reads them, or collected into one answer.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use inferyard_proto::worker::v1::generate_event::Event;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::answer::Answer;
use crate::app::App;
use crate::begin::{Beginning, Begun};
use crate::error::{Error, PlaceError, StreamError};
use crate::meter::Meter;
use crate::sse::Frames;
use crate::stream::{Broken, Tokens};

/// Events that go into one frame of the body at most, so that one fast answer does not hold up the
/// others.
const MOST_EVENTS: usize = 512;
/// Room for many token frames; what is left of it after a frame serves the next one.
const BUFFER: usize = 4 << 10;

/// What a client reads while there is no token; SSE has no meaning for it.
const COMMENT: &[u8] = b": waiting\n\n";

/// The body of a streamed answer. It reads the worker only as fast as the client reads it.
pub(crate) struct EventBody {
    source: Source,
    frames: Frames,
    out: BytesMut,
    /// The last frames: they wait until what was used is settled.
    last: BytesMut,
    ended: bool,
    deadline: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Where events come from.
#[expect(clippy::large_enum_variant, reason = "nearly all have tokens")]
enum Source {
    /// There is no token yet.
    Silent(Silence),
    Tokens(Tokens),
    /// Everything was encoded.
    Over,
}

/// The time before the first token.
struct Silence {
    beginning: Beginning,
    every: Duration,
    next: Pin<Box<Sleep>>,
}

/// Collects an answer into one JSON body.
pub(crate) async fn collect(
    mut tokens: Tokens,
    mut answer: Answer,
    meter: &mut Meter,
) -> Result<Bytes, StreamError> {
    let mut whole = None;
    loop {
        match poll_fn(|cx| tokens.poll_event(cx)).await {
            Some(Ok(event)) => {
                meter.observe(&event);
                whole = answer
                    .push(event)
                    .inspect_err(|_| tokens.broke_contract())?;
            }
            Some(Err(Broken { error, usage })) => {
                meter.used(usage);
                return Err(error);
            }
            None => {
                let incomplete = StreamError::Contract("the answer is not complete");
                return whole.ok_or(incomplete);
            }
        }
    }
}

// === impl EventBody ===

impl EventBody {
    /// The body of an answer; it ends at the deadline, or when the router breaks off what still runs.
    pub(crate) fn new(begun: Begun, frames: Frames, deadline: Instant, app: &App) -> Self {
        let mut out = BytesMut::with_capacity(BUFFER);
        let source = match begun {
            Begun::Tokens(tokens) => Source::Tokens(tokens),
            Begun::NotYet(beginning) => {
                out.extend_from_slice(COMMENT);
                Source::Silent(Silence::new(beginning, app.config.keep_alive))
            }
        };
        Self {
            source,
            frames,
            out,
            last: BytesMut::new(),
            ended: false,
            deadline: Box::pin(sleep_until(deadline)),
            cut: Box::pin(app.cut.clone().cancelled_owned()),
        }
    }

    /// Whether everything was encoded and given out.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.source, Source::Over) && self.out.is_empty() && self.last.is_empty()
    }

    /// The frames of all events that are there.
    pub(crate) fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        meter: &mut Meter,
    ) -> Poll<Option<Bytes>> {
        if !self.ended {
            if self.deadline.as_mut().poll(cx).is_ready() {
                self.fail(&StreamError::DeadlineExceeded.into(), meter);
            } else if self.cut.as_mut().poll(cx).is_ready() {
                self.fail(&PlaceError::ShuttingDown.into(), meter);
            }
        }
        self.begin(cx, meter);
        let dry = self.encode(cx, meter);
        if !self.out.is_empty() {
            return Poll::Ready(Some(self.out.split().freeze()));
        }
        if !self.last.is_empty() {
            ready!(meter.poll_settled(cx));
            return Poll::Ready(Some(std::mem::take(&mut self.last).freeze()));
        }
        if matches!(self.source, Source::Over) {
            return Poll::Ready(None);
        }
        if !dry {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Looks whether there is a first token, or it is time for a comment.
    fn begin(&mut self, cx: &mut Context<'_>, meter: &mut Meter) {
        let Source::Silent(silence) = &mut self.source else {
            return;
        };
        match silence.beginning.poll(cx, meter) {
            Poll::Ready(Ok(tokens)) => self.source = Source::Tokens(tokens),
            Poll::Ready(Err(error)) => self.fail(&error, meter),
            Poll::Pending if silence.has_lasted(cx) => self.out.extend_from_slice(COMMENT),
            Poll::Pending => {}
        }
    }

    /// Encodes until no event is there (true), or enough were.
    fn encode(&mut self, cx: &mut Context<'_>, meter: &mut Meter) -> bool {
        for _ in 0..MOST_EVENTS {
            let Source::Tokens(tokens) = &mut self.source else {
                return true;
            };
            match tokens.poll_event(cx) {
                Poll::Ready(Some(Ok(event))) => {
                    meter.observe(&event);
                    let is_last = matches!(event, Event::Finished(_));
                    let out = if is_last {
                        &mut self.last
                    } else {
                        &mut self.out
                    };
                    if let Err(error) = self.frames.push(&event, out) {
                        tokens.broke_contract();
                        self.fail(&error.into(), meter);
                    } else if is_last {
                        self.ended = true;
                        meter.ends();
                    }
                }
                Poll::Ready(Some(Err(Broken { error, usage }))) => {
                    meter.used(usage);
                    self.fail(&error.into(), meter);
                }
                Poll::Ready(None) => self.source = Source::Over,
                Poll::Pending => return true,
            }
        }
        false
    }

    /// Ends with an error frame, and lets go of the worker at once.
    fn fail(&mut self, error: &Error, meter: &mut Meter) {
        self.source = Source::Over;
        if !std::mem::replace(&mut self.ended, true) {
            meter.failed(error);
            self.frames.fail(error, &mut self.last);
            meter.ends();
        }
    }
}

// === impl Silence ===

impl Silence {
    fn new(beginning: Beginning, every: Duration) -> Self {
        Self {
            beginning,
            every,
            next: Box::pin(sleep(every)),
        }
    }

    /// Whether it is time to say that it goes on.
    fn has_lasted(&mut self, cx: &mut Context<'_>) -> bool {
        let mut long = false;
        while self.next.as_mut().poll(cx).is_ready() {
            long = true;
            self.next.as_mut().reset(Instant::now() + self.every);
        }
        long
    }
}
