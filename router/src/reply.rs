//! Step 7: response bodies, which encode events for the client one by one or collect them into one answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use inferyard_proto::worker::v1::generate_event::Event;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::error::Error;
use crate::meter::Meter;
use inferyard_upstream::PlaceError;
use inferyard_upstream::{StreamError, Upstream, UpstreamError};
use inferyard_wire::Answer;
use inferyard_wire::ContractError;
use inferyard_wire::Frames;

/// Maximum number of events in one frame of the body, so that one fast answer does not delay the others.
const MOST_EVENTS: usize = 512;
/// Initial capacity of the buffer in bytes: many token frames. What a frame leaves of it serves the next one.
const BUFFER: usize = 4 << 10;

/// An SSE comment, which clients ignore, sent while there is no token.
const COMMENT: &[u8] = b": waiting\n\n";

/// The body of a streamed answer. It polls the worker's events only when hyper polls it, so a slow client slows
/// the worker down.
pub(crate) struct EventBody {
    /// `None`: all events are encoded.
    upstream: Option<Upstream>,
    /// An event that was received but is not encoded yet.
    first: Option<Event>,
    /// Present until the first event.
    silence: Option<Silence>,
    frames: Frames,
    out: BytesMut,
    /// The last frames, held back until the usage is settled.
    last: BytesMut,
    ended: bool,
    deadline: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Time bounds of a streamed answer.
pub(crate) struct Bounds<'a> {
    pub(crate) deadline: Instant,
    /// Interval of comments before the first event.
    pub(crate) keep_alive: Duration,
    /// Cancelled when the router ends running answers.
    pub(crate) cut: &'a CancellationToken,
}

/// Timer of the comments before the first event.
struct Silence {
    every: Duration,
    next: Pin<Box<Sleep>>,
}

/// Collects an answer into one JSON body.
pub(crate) async fn collect(
    mut upstream: Upstream,
    mut answer: Answer,
    meter: &mut Meter,
) -> Result<Bytes, Error> {
    let mut whole = None;
    while let Some(event) = next(&mut upstream, meter).await? {
        whole = answer
            .push(event)
            .inspect_err(|_| upstream.broke_contract())?;
    }
    whole.ok_or_else(|| ContractError("the answer is not complete").into())
}

/// Waits for the first event of a stream; `None`: none came within `keep_alive`, so the head should be sent.
pub(crate) async fn first(
    upstream: &mut Upstream,
    meter: &mut Meter,
    keep_alive: Duration,
) -> Result<Option<Event>, Error> {
    tokio::select! {
        biased;
        event = next(upstream, meter) => event,
        () = sleep(keep_alive) => Ok(None),
    }
}

/// Waits for the next event of the answer; `None`: the answer has ended.
async fn next(upstream: &mut Upstream, meter: &mut Meter) -> Result<Option<Event>, Error> {
    poll_fn(|cx| poll_event(upstream, meter, cx)).await
}

/// Polls the next event of the answer; the meter observes every event and keeps those that are not part of it.
fn poll_event(
    upstream: &mut Upstream,
    meter: &mut Meter,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Event>, Error>> {
    loop {
        match ready!(upstream.poll_next(cx)) {
            Some(Ok(event)) => {
                if let Some(event) = meter.observe(event) {
                    return Poll::Ready(Ok(Some(event)));
                }
            }
            Some(Err(UpstreamError { error, usage })) => {
                meter.used(usage);
                return Poll::Ready(Err(error.into()));
            }
            None => return Poll::Ready(Ok(None)),
        }
    }
}

// === impl EventBody ===

impl EventBody {
    /// `first` is the first event of the answer; `None`: it has not arrived yet.
    pub(crate) fn new(
        upstream: Upstream,
        first: Option<Event>,
        frames: Frames,
        bounds: &Bounds<'_>,
    ) -> Self {
        let mut out = BytesMut::with_capacity(BUFFER);
        let silence = first.is_none().then(|| {
            out.extend_from_slice(COMMENT);
            Silence::new(bounds.keep_alive)
        });
        Self {
            upstream: Some(upstream),
            first,
            silence,
            frames,
            out,
            last: BytesMut::new(),
            ended: false,
            deadline: Box::pin(sleep_until(bounds.deadline)),
            cut: Box::pin(bounds.cut.clone().cancelled_owned()),
        }
    }

    /// Whether all frames were returned.
    pub(crate) fn is_over(&self) -> bool {
        self.upstream.is_none() && self.out.is_empty() && self.last.is_empty()
    }

    /// Encodes all events that are ready, and returns their frames; `None`: the body has ended.
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
        if self.upstream.is_none() {
            return Poll::Ready(None);
        }
        // `encode` stopped at its bound, so upstream did not return `Pending` and holds no waker.
        if !dry {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Encodes until no event is ready (returns true) or `MOST_EVENTS` are encoded (returns false).
    fn encode(&mut self, cx: &mut Context<'_>, meter: &mut Meter) -> bool {
        for _ in 0..MOST_EVENTS {
            let Some(upstream) = &mut self.upstream else {
                return true;
            };
            let next = match self.first.take() {
                Some(event) => Poll::Ready(Ok(Some(event))),
                None => poll_event(upstream, meter, cx),
            };
            match next {
                Poll::Ready(Ok(Some(event))) => self.push(&event, meter),
                Poll::Ready(Ok(None)) => self.upstream = None,
                Poll::Ready(Err(error)) => self.fail(&error, meter),
                Poll::Pending => {
                    if self
                        .silence
                        .as_mut()
                        .is_some_and(|silence| silence.has_lasted(cx))
                    {
                        self.out.extend_from_slice(COMMENT);
                    }
                    return true;
                }
            }
        }
        false
    }

    /// Encodes an event. The frames of the last one go to `last`.
    fn push(&mut self, event: &Event, meter: &mut Meter) {
        self.silence = None;
        let is_last = matches!(event, Event::Finished(_));
        let out = if is_last {
            &mut self.last
        } else {
            &mut self.out
        };
        if let Err(error) = self.frames.push(event, out) {
            if let Some(upstream) = &mut self.upstream {
                upstream.broke_contract();
            }
            self.fail(&error.into(), meter);
        } else if is_last {
            self.ended = true;
            meter.ends();
        }
    }

    /// Ends the answer with an error frame. Dropping `upstream` cancels the worker's request at once.
    fn fail(&mut self, error: &Error, meter: &mut Meter) {
        self.upstream = None;
        if !std::mem::replace(&mut self.ended, true) {
            meter.failed(error);
            error.end(&mut self.frames, &mut self.last);
            meter.ends();
        }
    }
}

// === impl Silence ===

impl Silence {
    fn new(every: Duration) -> Self {
        Self {
            every,
            next: Box::pin(sleep(every)),
        }
    }

    /// Whether a comment is due. The loop polls the timer after each reset, which registers the waker.
    fn has_lasted(&mut self, cx: &mut Context<'_>) -> bool {
        let mut long = false;
        while self.next.as_mut().poll(cx).is_ready() {
            long = true;
            self.next.as_mut().reset(Instant::now() + self.every);
        }
        long
    }
}
