//! Why a request went where it did: for whoever has an admin key, afterwards or with the answer itself.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use inferyard_placement::{Considered, Cost, Verdict, Weights};
use serde::Serialize;

use crate::accept::AcceptError;
use crate::admin::is_admin_key;
use crate::authenticate::{AuthenticateError, bearer, masked_key};
use crate::config::Config;
use crate::error::Error;
use crate::place::{Decided, Journal};

/// With an admin key as its value, the answer's head says how the request was placed.
const ASKED: HeaderName = HeaderName::from_static("x-inferyard-explain");
/// How it was.
const TOLD: HeaderName = HeaderName::from_static("x-inferyard-placement");
/// Workers in a head at most: proxies refuse heads beyond a few KB.
const MOST_TOLD: usize = 8;

/// What `GET /v1/organization/placements/{request}` says.
#[derive(Serialize)]
struct Explanation<'a> {
    request_id: &'a str,
    model: &'a str,
    /// One for each worker that was asked, in order.
    decisions: Vec<Decision<'a>>,
}

#[derive(Serialize)]
struct Decision<'a> {
    /// Milliseconds since the Unix epoch.
    at_ms: u64,
    /// Seconds in the line, until then.
    waited: f64,
    prompt_bytes: u64,
    prompt_tokens: u64,
    blocks: usize,
    weights: Weights,
    chosen: &'a str,
    considered: Vec<Row<'a>>,
}

/// One worker, and what was thought of it; times in seconds.
#[derive(Serialize)]
struct Row<'a> {
    worker: &'a str,
    verdict: &'static str,
    #[serde(flatten)]
    cost: Option<Cost>,
    /// To the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<f64>,
    /// What was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    weighed: Option<f64>,
}

/// Answers the question about a request.
pub(crate) fn answer(
    config: &Config,
    journal: &Journal,
    headers: &HeaderMap,
    request: &str,
) -> Result<Bytes, Error> {
    let key = bearer(headers)?;
    if !is_admin_key(&config.admin_keys, key) {
        let masked = masked_key(key);
        return Err(AuthenticateError::UnknownKey { masked }.into());
    }
    let decided = journal.of(request);
    let Some(first) = decided.first() else {
        let id = request.chars().take(64).collect();
        return Err(AcceptError::UnknownRequest { id }.into());
    };
    let explanation = Explanation {
        request_id: request,
        model: &first.model,
        decisions: decided.iter().map(|one| Decision::of(one)).collect(),
    };
    let json = serde_json::to_vec(&explanation).expect("numbers and text should serialize");
    Ok(json.into())
}

/// Whether a request asks for it with an admin key.
pub(crate) fn is_asked(config: &Config, headers: &HeaderMap) -> bool {
    let key = headers.get(ASKED);
    key.is_some_and(|key| is_admin_key(&config.admin_keys, key.as_bytes()))
}

/// What the answer's head is to say.
pub(crate) fn header(decided: &Arc<Decided>) -> Option<(HeaderName, HeaderValue)> {
    let mut decision = Decision::of(decided);
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
    fn of(decided: &'a Decided) -> Self {
        let at = decided.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let rows = decided.considered.iter();
        Self {
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            waited: decided.waited.as_secs_f64(),
            prompt_bytes: decided.prompt_bytes,
            prompt_tokens: decided.prompt_tokens,
            blocks: decided.blocks,
            weights: decided.weights,
            chosen: &decided.considered[decided.chosen].worker,
            considered: rows.map(|row| Row::of(row, &decided.weights)).collect(),
        }
    }
}

// === impl Row ===

impl<'a> Row<'a> {
    fn of(considered: &'a Considered, weights: &Weights) -> Self {
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
