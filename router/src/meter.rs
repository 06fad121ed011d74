//! Step 8, the outermost: completion, error and disconnect all end here, and are counted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::{Admitted, Usage};
use opentelemetry::propagation::Extractor;
use tokio::time::Instant;
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::accept::{Accepted, RequestId};
use crate::catalog::Key;
use crate::error::Error;
use crate::reply::EventBody;
use crate::telemetry::Telemetry;

/// The status of a request whose client left before there was one (nginx's convention).
const CLIENT_LEFT: u16 = 499;

/// The record of one request. It is written when the answer's last byte was handed over, or, for a
/// client that left, when hyper drops the answer or the work on it.
pub(crate) struct Meter {
    telemetry: Arc<Telemetry>,
    span: Span,
    id: RequestId,
    method: Method,
    route: &'static str,
    arrived: Instant,
    key: Option<Arc<Key>>,
    model: Option<Arc<str>>,
    usage: Usage,
    first_token: Option<Duration>,
    status: u16,
    code: &'static str,
    written: bool,
}

/// What an answer consists of.
pub(crate) enum Content {
    /// All of it is here.
    Whole(Bytes),
    /// It comes from a worker.
    Events(Box<EventBody>),
}

/// The body of every answer.
pub(crate) struct Metered {
    content: Content,
    meter: Meter,
}

// === impl Meter ===

impl Meter {
    /// The record of a request that was let in.
    pub(crate) fn new(telemetry: &Arc<Telemetry>, accepted: &Accepted) -> Self {
        telemetry.in_flight.inc();
        Self {
            telemetry: Arc::clone(telemetry),
            span: span(accepted),
            id: accepted.id,
            method: accepted.head.method.clone(),
            route: accepted.label,
            arrived: accepted.arrived,
            key: None,
            model: None,
            usage: Usage::default(),
            first_token: None,
            status: CLIENT_LEFT,
            code: "client_left",
            written: false,
        }
    }

    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(crate) fn called_by(&mut self, key: &Arc<Key>) {
        self.key = Some(Arc::clone(key));
    }

    pub(crate) fn asks_for(&mut self, model: &Arc<str>) {
        self.model = Some(Arc::clone(model));
    }

    /// The first token is there.
    pub(crate) fn begins(&mut self, admitted: Admitted) {
        self.first_token = Some(self.arrived.elapsed());
        self.usage.prompt_tokens = admitted.prompt_tokens;
        self.usage.cached_tokens = admitted.cached_tokens;
    }

    pub(crate) fn observe(&mut self, event: &Event) {
        match event {
            Event::Delta(delta) => self.usage.completion_tokens += delta.token_count,
            Event::Finished(finished) => self.used(finished.usage),
            Event::Admitted(_) | Event::ChoiceFinished(_) | Event::Failed(_) => {}
        }
    }

    /// What the worker says was used, which is more than it sent if it broke off.
    pub(crate) fn used(&mut self, usage: Option<Usage>) {
        if let Some(usage) = usage {
            self.usage = usage;
        }
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.code = error.label();
        // Why a body is refused may quote it, and a log never does: its label must do.
        if !matches!(error, Error::Read(_)) {
            tracing::debug!(parent: &self.span, %error, "failed");
        }
    }

    /// Wraps the answer, whose end will be the end of the record.
    pub(crate) fn measure(mut self, status: StatusCode, content: Content) -> Metered {
        self.status = status.as_u16();
        let mut metered = Metered {
            content,
            meter: self,
        };
        if metered.is_end_stream() {
            metered.meter.complete();
        }
        metered
    }

    /// Everything that there is to say was said.
    fn complete(&mut self) {
        if self.code == "client_left" {
            self.code = "ok";
        }
        self.write();
    }

    fn write(&mut self) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        let seconds = self.arrived.elapsed().as_secs_f64();
        self.telemetry.in_flight.dec();
        self.telemetry
            .answered(self.route, self.status, self.code, seconds);
        if let Some(model) = &self.model {
            let first = self.first_token.map(|time| time.as_secs_f64());
            self.telemetry.generated(model, &self.usage, first);
        }
        self.log(seconds);
    }

    fn log(&self, seconds: f64) {
        self.span
            .record("http.response.status_code", i64::from(self.status))
            .record("code", self.code);
        // Probes come every few seconds; they are counted, and would hide everything else.
        if matches!(self.route, "/healthz" | "/readyz") {
            return;
        }
        // Without its span, which says most of this once more.
        tracing::info!(
            parent: None,
            request_id = %self.id,
            method = %self.method,
            route = self.route,
            status = self.status,
            code = self.code,
            model = self.model.as_deref(),
            key = self.key.as_ref().map(|key| &*key.name),
            prompt_tokens = self.usage.prompt_tokens,
            cached_tokens = self.usage.cached_tokens,
            completion_tokens = self.usage.completion_tokens,
            first_token_seconds = self.first_token.map(|time| time.as_secs_f64()),
            seconds,
            "request"
        );
    }
}

/// A leaver is told only by this: hyper drops what it no longer needs.
impl Drop for Meter {
    fn drop(&mut self) {
        self.write();
    }
}

/// The span of a request; fields that only its end knows are empty.
fn span(accepted: &Accepted) -> Span {
    let head = &accepted.head;
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        otel.name = accepted.label,
        request_id = %accepted.id,
        http.request.method = %head.method,
        http.route = accepted.label,
        http.response.status_code = field::Empty,
        code = field::Empty,
    );
    if head.headers.contains_key("traceparent") {
        let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.extract(&Headers(&head.headers))
        });
        // Without a layer that exports traces there is nobody to tell.
        let _ = span.set_parent(parent);
    }
    span
}

/// HTTP headers as what a trace context is read from.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

// === impl Metered ===

impl Body for Metered {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { content, meter } = &mut *self;
        let data = match content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(std::mem::take(bytes))),
            Content::Events(events) => events.poll_frames(cx, meter),
        };
        if self.is_end_stream() {
            self.meter.complete();
        }
        data.map(|data| data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Events(events) => events.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Events(_) => SizeHint::default(),
        }
    }
}
