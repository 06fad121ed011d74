//! The response body, which informs the meter of its end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};

use crate::meter::Meter;
use crate::organization::Forwarded;
use crate::reply::EventBody;

/// The content of a response.
pub(crate) enum Content {
    /// Complete bytes.
    Whole(Bytes),
    /// Events of a worker.
    Events(Box<EventBody>),
    /// The response of the ledger.
    Forwarded(Box<Forwarded>),
}

/// The body of every response.
pub(crate) struct Metered {
    content: Content,
    meter: Meter,
}

// === impl Metered ===

impl Metered {
    /// Wraps a response; the meter completes when the body ends.
    pub(crate) fn new(status: StatusCode, content: Content, mut meter: Meter) -> Self {
        meter.answers_with(status);
        let mut metered = Self { content, meter };
        if metered.is_end_stream() {
            metered.meter.complete();
        }
        metered
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { content, meter } = &mut *self;
        let data = match content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Content::Events(events) => events.poll_frames(cx, meter).map(|data| data.map(Ok)),
            Content::Forwarded(forwarded) => forwarded.poll_data(cx),
        };
        if self.is_end_stream() || matches!(data, Poll::Ready(None)) {
            self.meter.complete();
        }
        data.map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Events(events) => events.is_over(),
            Content::Forwarded(forwarded) => forwarded.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Events(_) => SizeHint::default(),
            Content::Forwarded(forwarded) => forwarded.size_hint(),
        }
    }
}
