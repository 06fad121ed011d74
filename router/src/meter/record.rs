//! What there is to say about a request once it is over: a line of log, its metrics, its span.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method};
use inferyard_proto::worker::v1::{Admitted, Usage};
use opentelemetry::propagation::Extractor;
use tokio::time::Instant;
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::accept::Accepted;
use crate::request_id::RequestId;
use crate::reserve::{Bill, End};
use crate::telemetry::Telemetry;
use crate::upstream::FinalUsage;
use inferyard_admission::Settling;
use inferyard_catalog::Key;

/// The status of a request whose client left before there was one (nginx's convention).
const CLIENT_LEFT: u16 = 499;

/// The record of one request.
#[derive(Clone)]
pub(super) struct Record {
    telemetry: Arc<Telemetry>,
    pub(super) span: Span,
    pub(super) id: RequestId,
    method: Method,
    route: &'static str,
    pub(super) arrived: Instant,
    pub(super) key: Option<Arc<Key>>,
    pub(super) model: Option<Arc<str>>,
    pub(super) denied_by: Option<&'static str>,
    /// The worker's life that `usage` is of; 0: none.
    pub(super) boot_id: u64,
    pub(super) usage: Usage,
    pub(super) first_token: Option<Duration>,
    pub(super) status: u16,
    pub(super) code: &'static str,
    /// It failed because the request itself was at fault.
    pub(super) refused: bool,
}

// === impl Record ===

impl Record {
    /// That of a request whose client has left, until something else is known.
    pub(super) fn new(telemetry: &Arc<Telemetry>, accepted: &Accepted) -> Self {
        Self {
            telemetry: Arc::clone(telemetry),
            span: span(accepted),
            id: accepted.id,
            method: accepted.head.method.clone(),
            route: accepted.label,
            arrived: accepted.arrived,
            key: None,
            model: None,
            denied_by: None,
            boot_id: 0,
            usage: Usage::default(),
            first_token: None,
            status: CLIENT_LEFT,
            code: "client_left",
            refused: false,
        }
    }

    pub(super) fn admitted(&mut self, admitted: Admitted) {
        self.usage.prompt_tokens = admitted.prompt_tokens;
        self.usage.cached_tokens = admitted.cached_tokens;
    }

    pub(super) fn used(&mut self, usage: Option<Usage>) {
        if let Some(usage) = usage {
            self.usage = usage;
        }
    }

    /// What the worker said after its request was cancelled.
    pub(super) fn ended_with(&mut self, last: FinalUsage) {
        if let Some(admitted) = last.admitted {
            self.admitted(admitted);
        }
        self.usage.completion_tokens += last.completion_tokens;
        self.used(last.usage);
    }

    pub(super) fn settle(&self, bill: Bill) -> Settling {
        let end = End {
            status: self.status,
            code: self.code,
            first_token: self.first_token,
            // Tokens that were produced before the refusal are paid.
            refused: self.refused && self.first_token.is_none(),
        };
        bill.settle(&self.usage, self.boot_id, end)
    }

    /// Counts the request and writes its line.
    pub(super) fn write(&self) {
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
        let Some(suppressed) = self.admit_line() else {
            return;
        };
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
            suppressed = (suppressed > 0).then_some(suppressed),
            "request"
        );
    }

    /// Whether the request gets its line, and how many of its kind got none since the last one. What a worker
    /// did is always told; what was refused, or cost nothing, is cheap to cause without end.
    fn admit_line(&self) -> Option<u64> {
        let refused = (400..CLIENT_LEFT).contains(&self.status);
        if self.boot_id != 0 && !refused {
            return Some(0);
        }
        self.telemetry.lines.admit(self.route, self.code)
    }
}

/// The span of a request; fields that only its end knows are empty. It is for traces: its line in the log says
/// the same, and a span that is logged costs every request a tenth of its time.
fn span(accepted: &Accepted) -> Span {
    let head = &accepted.head;
    let span = tracing::debug_span!(
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
