//! Step 9, the outermost: completion, error and disconnect all end here, are counted and settled.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Body as _;
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::{Admitted, Usage};
use opentelemetry::propagation::Extractor;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::accept::{Accepted, RequestId};
use crate::catalog::Key;
use crate::error::Error;
use crate::limit::{Reading, Settling};
use crate::respond::limits;
use crate::telemetry::Telemetry;

mod bill;
mod body;

pub(crate) use bill::Bill;
pub(crate) use body::{Content, Metered};

use bill::End;

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
    /// What the steps before the answer want to be told in its head: limits, a visitor's cookie.
    headers: Vec<(HeaderName, HeaderValue)>,
    denied_by: Option<&'static str>,
    bill: Option<Bill>,
    settling: Option<Settling>,
    /// The worker's life that `usage` is of; 0: none.
    boot_id: u64,
    usage: Usage,
    first_token: Option<Duration>,
    status: u16,
    code: &'static str,
    written: bool,
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
            headers: Vec::new(),
            denied_by: None,
            bill: None,
            settling: None,
            boot_id: 0,
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

    /// Something is set aside for the request.
    pub(crate) fn owes(&mut self, bill: Bill) {
        self.limited(bill.readings());
        self.bill = Some(bill);
    }

    /// Adds a header to the answer, whatever it will be.
    pub(crate) fn tell(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.push((name, value));
    }

    /// The headers that were asked for.
    pub(crate) fn headers(&mut self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
        self.headers.drain(..)
    }

    fn limited(&mut self, readings: &[Reading]) {
        self.headers.extend(limits::headers(readings));
        self.denied_by = limits::denied_by(readings);
    }

    /// A worker is asked; what another one did is void.
    pub(crate) fn tries(&mut self, boot_id: u64) {
        self.boot_id = boot_id;
        self.usage = Usage::default();
    }

    /// The worker has counted the prompt.
    pub(crate) fn admitted(&mut self, admitted: Admitted) {
        self.usage.prompt_tokens = admitted.prompt_tokens;
        self.usage.cached_tokens = admitted.cached_tokens;
        if let Some(bill) = &self.bill {
            bill.admitted(admitted, &self.usage, self.boot_id);
        }
    }

    /// The first token is there.
    pub(crate) fn begins(&mut self) {
        self.first_token = Some(self.arrived.elapsed());
    }

    pub(crate) fn observe(&mut self, event: &Event) {
        match event {
            Event::Delta(delta) => {
                self.usage.completion_tokens += delta.token_count;
                if let Some(bill) = &self.bill {
                    bill.progress(&self.usage, self.boot_id);
                }
            }
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
        if let Some(readings) = error.readings() {
            self.limited(readings);
        }
        // Why a body is refused may quote it, and a log never does: its label must do.
        if !matches!(error, Error::Read(_)) {
            tracing::debug!(parent: &self.span, %error, "failed");
        }
    }

    /// The answer is known to its end, and was not handed over yet: settles what was used.
    pub(crate) fn ends(&mut self) {
        if self.code == "client_left" {
            self.code = "ok";
        }
        self.settle();
    }

    /// Settles a whole answer, and waits until that is done: a client that has the end of an answer
    /// finds its meters settled.
    pub(crate) async fn ends_with(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.ends();
        poll_fn(|cx| self.poll_settled(cx)).await;
    }

    /// Whether what [`Meter::ends`] began is done.
    pub(crate) fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(settling) = &mut self.settling {
            ready!(Pin::new(settling).poll(cx));
            self.settling = None;
        }
        Poll::Ready(())
    }

    fn settle(&mut self) {
        let Some(bill) = self.bill.take() else {
            return;
        };
        let end = End {
            status: self.status,
            code: self.code,
            first_token: self.first_token,
        };
        self.settling = Some(bill.settle(&self.usage, self.boot_id, end));
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
        self.ends();
        self.write();
    }

    fn write(&mut self) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        self.settle();
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
            account = self.key.as_ref().map(|key| &*key.account),
            plan = self.key.as_ref().map(|key| &*key.plan.name),
            denied_by = self.denied_by,
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
        // Without a runtime the process is about to end, and nothing can be settled here: the store
        // sweeps the lease.
        if Handle::try_current().is_err() {
            self.bill = None;
        }
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
