//! The record of a finished request: its log line, metrics and span.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method};
use inferyard_proto::worker::v1::{Admitted, Usage};
use opentelemetry::propagation::Extractor;
use tokio::time::Instant;
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::accept::Accepted;
use crate::telemetry::Telemetry;
use inferyard_admission::Settling;
use inferyard_admission::{Bill, RequestEnd};
use inferyard_catalog::Key;
use inferyard_domain::{InstanceId, ModelId, RequestId};
use inferyard_upstream::FinalUsage;

/// The status of a request if the client disconnects before there is one (nginx's convention).
const CLIENT_LEFT: u16 = 499;

/// The record of one request.
#[derive(Clone)]
pub(super) struct RequestRecord {
    telemetry: Arc<Telemetry>,
    pub(super) span: Span,
    pub(super) id: RequestId,
    method: Method,
    route: &'static str,
    pub(super) arrived: Instant,
    pub(super) key: Option<Arc<Key>>,
    pub(super) model: Option<ModelId>,
    pub(super) denied_by: Option<&'static str>,
    /// The worker instance that `usage` belongs to; `None`: no worker was asked.
    pub(super) instance: Option<InstanceId>,
    pub(super) usage: Usage,
    pub(super) first_token: Option<Duration>,
    pub(super) status: u16,
    pub(super) outcome: Outcome,
}

/// How a request ended, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The initial value: the client disconnected before the end of its answer.
    ClientLeft,
    /// It was answered completely.
    Answered,
    /// It failed.
    Failed {
        /// The label of the error, from a closed set.
        code: &'static str,
        /// Whether the request itself was at fault.
        refused: bool,
    },
}

// === impl Outcome ===

impl Outcome {
    /// The label for metrics, logs and usage events.
    fn code(self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::Answered => "ok",
            Self::Failed { code, .. } => code,
        }
    }
}

// === impl RequestRecord ===

impl RequestRecord {
    /// A new record, with the outcome `ClientLeft` until another one is known.
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
            instance: None,
            usage: Usage::default(),
            first_token: None,
            status: CLIENT_LEFT,
            outcome: Outcome::ClientLeft,
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

    /// Adds the final usage that a worker reports after a cancellation.
    pub(super) fn ended_with(&mut self, last: FinalUsage) {
        if let Some(admitted) = last.admitted {
            self.admitted(admitted);
        }
        self.usage.completion_tokens += last.completion_tokens;
        self.used(last.usage);
    }

    pub(super) fn settle(&self, bill: Bill) -> Settling {
        let is_refusal = matches!(self.outcome, Outcome::Failed { refused: true, .. });
        let end = RequestEnd {
            status: self.status,
            code: self.outcome.code(),
            first_token: self.first_token,
            // Tokens that were produced before the refusal are charged.
            refused: is_refusal && self.first_token.is_none(),
        };
        bill.settle(&self.usage, self.instance, end)
    }

    /// Updates the metrics and writes the log line.
    pub(super) fn write(&self) {
        let seconds = self.arrived.elapsed().as_secs_f64();
        self.telemetry.in_flight.dec();
        self.telemetry
            .answered(self.route, self.status, self.outcome.code(), seconds);
        if let Some(model) = &self.model {
            let first = self.first_token.map(|time| time.as_secs_f64());
            self.telemetry.generated(model, &self.usage, first);
        }
        self.log(seconds);
    }

    fn log(&self, seconds: f64) {
        self.span
            .record("http.response.status_code", i64::from(self.status))
            .record("code", self.outcome.code());
        // Probes come every few seconds and would hide other lines; metrics count them.
        if matches!(self.route, "/healthz" | "/readyz") {
            return;
        }
        let Some(suppressed) = self.admit_line() else {
            return;
        };
        // Without its span, which contains the same fields.
        tracing::info!(
            parent: None,
            request_id = %self.id,
            method = %self.method,
            route = self.route,
            status = self.status,
            code = self.outcome.code(),
            model = self.model.as_deref(),
            key = self.key.as_ref().and_then(|key| key.name.as_deref()),
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

    /// Whether the request gets a log line, and how many lines of its kind were suppressed since the last one.
    /// A request that reached a worker is always logged unless it was refused; other requests cost a client
    /// nothing, so their lines are limited.
    fn admit_line(&self) -> Option<u64> {
        let refused = (400..CLIENT_LEFT).contains(&self.status);
        if self.instance.is_some() && !refused {
            return Some(0);
        }
        let code = self.outcome.code();
        self.telemetry.lines.admit(self.route, code)
    }
}

/// The span of a request; fields that are known only at the end are empty. It is for traces and has the level
/// debug: the log line contains the same fields, and a logged span costs each request 10 % of its time.
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
        // Fails if no layer exports traces, which is fine.
        let _ = span.set_parent(parent);
    }
    span
}

/// HTTP headers as a carrier of the trace context.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
