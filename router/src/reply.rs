//! Step 7's bodies: events are encoded as the client reads them, or collected into one answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use inferyard_proto::worker::v1::generate_event::Event;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::answer::Answer;
use crate::error::Error;
use crate::meter::Meter;
use crate::place::PlaceError;
use crate::sse::Frames;
use crate::upstream::{StreamError, Upstream, UpstreamError};
use crate::wire::ContractError;

/// Events that go into one frame of the body at most, so that one fast answer does not hold up the
/// others.
const MOST_EVENTS: usize = 512;
/// Room for many token frames; what is left of it after a frame serves the next one.
const BUFFER: usize = 4 << 10;

/// What a client reads while there is no token; SSE has no meaning for it.
const COMMENT: &[u8] = b": waiting\n\n";

/// The body of a streamed answer. It reads the worker only as fast as the client reads it.
pub(crate) struct EventBody {
    /// `None`: all events were encoded.
    upstream: Option<Upstream>,
    /// An event that was read and is not encoded yet.
    first: Option<Event>,
    /// Runs until the first event.
    silence: Option<Silence>,
    frames: Frames,
    out: BytesMut,
    /// The last frames: they wait until what was used is settled.
    last: BytesMut,
    ended: bool,
    deadline: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// How long a streamed answer may last, and how long be silent.
pub(crate) struct Bounds<'a> {
    pub(crate) deadline: Instant,
    /// A client that waits for the first event reads a comment this often.
    pub(crate) keep_alive: Duration,
    /// Cancelled when the router breaks off what still runs.
    pub(crate) cut: &'a CancellationToken,
}

/// The time before the first event.
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

/// The first event of a streamed answer; `None`: it does not come soon, and the client should hear something.
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

/// The next event of the answer; `None`: there was the last one.
async fn next(upstream: &mut Upstream, meter: &mut Meter) -> Result<Option<Event>, Error> {
    poll_fn(|cx| poll_event(upstream, meter, cx)).await
}

/// What belongs to the answer; all else is told to the meter.
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
    /// The body of an answer. `first` is its first event; `None`: that has not come yet.
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

    /// Whether everything was encoded and given out.
    pub(crate) fn is_over(&self) -> bool {
        self.upstream.is_none() && self.out.is_empty() && self.last.is_empty()
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
        if self.upstream.is_none() {
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

    /// Encodes an event. The last one is kept back.
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

    /// Ends with an error frame, and lets go of the worker at once.
    fn fail(&mut self, error: &Error, meter: &mut Meter) {
        self.upstream = None;
        if !std::mem::replace(&mut self.ended, true) {
            meter.failed(error);
            self.frames.fail(error, &mut self.last);
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
