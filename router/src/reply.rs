//! Step 7's bodies: events are encoded as the client reads them, or collected into one answer.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use inferyard_proto::worker::v1::generate_event::Event;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::answer::Answer;
use crate::error::{Error, PlaceError, StreamError};
use crate::meter::Meter;
use crate::sse::Frames;
use crate::stream::{Broken, Tokens};

/// Events that go into one frame of the body at most, so that one fast answer does not hold up the
/// others.
const MOST_EVENTS: usize = 512;
/// Room for many token frames; what is left of it after a frame serves the next one.
const BUFFER: usize = 4 << 10;

/// The body of a streamed answer. It reads the worker only as fast as the client reads it.
pub(crate) struct EventBody {
    /// `None`: everything was encoded.
    tokens: Option<Tokens>,
    frames: Frames,
    out: BytesMut,
    /// The last frames: they wait until what was used is settled.
    last: BytesMut,
    ended: bool,
    deadline: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
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
                whole = answer.push(event)?;
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
    /// The body of an answer that has begun; it ends at the deadline, or when `cut` is cancelled.
    pub(crate) fn new(
        tokens: Tokens,
        frames: Frames,
        deadline: Instant,
        cut: &CancellationToken,
    ) -> Self {
        Self {
            tokens: Some(tokens),
            frames,
            out: BytesMut::with_capacity(BUFFER),
            last: BytesMut::new(),
            ended: false,
            deadline: Box::pin(sleep_until(deadline)),
            cut: Box::pin(cut.clone().cancelled_owned()),
        }
    }

    /// Whether everything was encoded and given out.
    pub(crate) fn is_over(&self) -> bool {
        self.tokens.is_none() && self.out.is_empty() && self.last.is_empty()
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
        let dry = self.encode(cx, meter);
        if !self.out.is_empty() {
            return Poll::Ready(Some(self.out.split().freeze()));
        }
        if !self.last.is_empty() {
            ready!(meter.poll_settled(cx));
            return Poll::Ready(Some(std::mem::take(&mut self.last).freeze()));
        }
        if self.tokens.is_none() {
            return Poll::Ready(None);
        }
        if !dry {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Encodes until no event is there (true), or enough were.
    fn encode(&mut self, cx: &mut Context<'_>, meter: &mut Meter) -> bool {
        for _ in 0..MOST_EVENTS {
            let Some(tokens) = &mut self.tokens else {
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
                Poll::Ready(None) => self.tokens = None,
                Poll::Pending => return true,
            }
        }
        false
    }

    /// Ends with an error frame, and lets go of the worker at once.
    fn fail(&mut self, error: &Error, meter: &mut Meter) {
        self.tokens = None;
        if !std::mem::replace(&mut self.ended, true) {
            meter.failed(error);
            self.frames.fail(error, &mut self.last);
            meter.ends();
        }
    }
}
