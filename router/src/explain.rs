//! Explains placement decisions to callers with an admin key: afterwards by request id, or in the response
//! head.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use inferyard_placement::{Candidate, Cost, Verdict, Weights};
use serde::Serialize;

use crate::accept::AcceptError;
use crate::admin::is_admin_key;
use crate::authenticate::{AuthenticateError, bearer, masked_key};
use crate::config::Config;
use crate::error::Error;
use inferyard_upstream::{DecisionLog, PlacementDecision};

/// Request header: an admin key, which asks for the placement in the response head.
const ASKED: HeaderName = HeaderName::from_static("x-inferyard-explain");
/// Response header: the placement as JSON.
const TOLD: HeaderName = HeaderName::from_static("x-inferyard-placement");
/// Maximum number of workers in the header: proxies reject heads of more than a few KB.
const MOST_TOLD: usize = 8;

/// The body of `GET /v1/organization/placements/{request}`.
#[derive(Serialize)]
struct Explanation<'a> {
    request_id: &'a str,
    model: &'a str,
    /// One decision per attempt, in order.
    decisions: Vec<Decision<'a>>,
}

#[derive(Serialize)]
struct Decision<'a> {
    /// Milliseconds since the Unix epoch.
    at_ms: u64,
    /// Seconds in the queue before the decision.
    waited: f64,
    prompt_bytes: u64,
    prompt_tokens: u64,
    blocks: usize,
    weights: Weights,
    chosen: &'a str,
    considered: Vec<Row<'a>>,
}

/// One worker and its cost; times in seconds.
#[derive(Serialize)]
struct Row<'a> {
    worker: &'a str,
    verdict: &'static str,
    #[serde(flatten)]
    cost: Option<Cost>,
    /// Expected time to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<f64>,
    /// The weighted cost that was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    weighed: Option<f64>,
}

/// Answers `GET /v1/organization/placements/{request}`.
pub(crate) fn answer(
    config: &Config,
    decision_log: &DecisionLog,
    headers: &HeaderMap,
    request: &str,
) -> Result<Bytes, Error> {
    let key = bearer(headers)?;
    if !is_admin_key(&config.admin_keys, key) {
        let masked = masked_key(key);
        return Err(AuthenticateError::UnknownKey { masked }.into());
    }
    let decision = decision_log.of(request);
    let Some(first) = decision.first() else {
        let id = request.chars().take(64).collect();
        return Err(AcceptError::UnknownRequest { id }.into());
    };
    let explanation = Explanation {
        request_id: request,
        model: &first.model,
        decisions: decision.iter().map(|one| Decision::of(one)).collect(),
    };
    let json = serde_json::to_vec(&explanation).expect("numbers and text should serialize");
    Ok(json.into())
}

/// Whether the request asks for its placement, with an admin key.
pub(crate) fn is_asked(config: &Config, headers: &HeaderMap) -> bool {
    let key = headers.get(ASKED);
    key.is_some_and(|key| is_admin_key(&config.admin_keys, key.as_bytes()))
}

/// The response header for this decision. The cheapest workers come first; `MOST_TOLD` bounds their number.
pub(crate) fn header(decision: &Arc<PlacementDecision>) -> Option<(HeaderName, HeaderValue)> {
    let mut decision = Decision::of(decision);
    decision.considered.sort_by(|one, other| {
        let weighed = |row: &Row<'_>| row.weighed.unwrap_or(f64::INFINITY);
        weighed(one).total_cmp(&weighed(other))
    });
    decision.considered.truncate(MOST_TOLD);
    let json = serde_json::to_string(&decision).expect("numbers and text should serialize");
    Some((TOLD, HeaderValue::from_str(&json).ok()?))
}

// === impl Decision ===

impl<'a> Decision<'a> {
    fn of(decision: &'a PlacementDecision) -> Self {
        let at = decision.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let rows = decision.candidates.iter();
        Self {
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            waited: decision.waited.as_secs_f64(),
            prompt_bytes: decision.prompt_bytes,
            prompt_tokens: decision.prompt_tokens,
            blocks: decision.blocks,
            weights: decision.weights,
            chosen: &decision.candidates[decision.chosen].worker,
            considered: rows.map(|row| Row::of(row, &decision.weights)).collect(),
        }
    }
}

// === impl Row ===

impl<'a> Row<'a> {
    fn of(considered: &'a Candidate, weights: &Weights) -> Self {
        let (verdict, cost) = match considered.verdict {
            Verdict::Able(cost) => ("able", Some(cost)),
            Verdict::Full(cost) => ("full", Some(cost)),
            Verdict::Tried => ("tried", None),
            Verdict::Ejected => ("ejected", None),
            Verdict::Unready => ("unready", None),
        };
        Self {
            worker: &considered.worker,
            verdict,
            cost,
            expected: cost.map(|cost| cost.seconds()),
            weighed: cost.map(|cost| cost.weighed(weights)),
        }
    }
}
