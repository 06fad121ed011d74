//! Step 4 of a request: reserves the most that it may cost, or denies it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use inferyard_placement::{PromptLengths, Work};
use inferyard_proto::usage::v1::{Price, UsageEvent};
use inferyard_proto::worker::v1::GenerateRequest;
use prost::Message as _;

use inferyard_catalog::{Key, Plan};
use inferyard_domain::{ModelId, NanoDollars, RequestId, Tokens};
use inferyard_wire::{Generation, ResponseSpec};

use crate::kind::LimitKind;
use crate::refusals::{MOST as MOST_REFUSALS, TurnedAway};
use crate::reservation::Hold;
use crate::store::LimitStatus;
use crate::{AdmissionRequest, LimitError, Limiter};

mod bill;
mod error;
mod estimate;
mod need;

pub use bill::{Bill, RequestEnd};
pub use error::ReserveError;
use estimate::Estimate;
pub use estimate::Estimates;
pub use need::Need;

const DAY: u64 = 86_400;
/// Stands for the model of a request that was refused before its model was known.
const REFUSED: &str = "refused requests";

/// What the head of a request tells.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext {
    /// Its id.
    pub id: RequestId,
    /// The label of its route, for the usage event.
    pub endpoint: &'static str,
}

/// An admitted request.
pub struct Reserved {
    /// Converts tokens into usage and cost; kept by the meter.
    pub bill: Bill,
    /// The request to dispatch.
    pub request: ReservedRequest,
    /// The response that the client asked for.
    pub response: ResponseSpec,
}

/// A request with a reservation. Only [`reserve`] creates it, and nothing else can be dispatched.
pub struct ReservedRequest {
    parts: ReservedParts,
}

/// The parts of a [`ReservedRequest`].
pub struct ReservedParts {
    /// The id of the model.
    pub model: ModelId,
    /// The message for the worker, complete except for `deadline_ms`.
    pub request: GenerateRequest,
    /// Its estimated work for a worker.
    pub work: Work,
    /// Set if a budget binds the request.
    pub recount: Option<Recount>,
}

/// A request that a budget binds, until a worker has counted its prompt.
pub struct Recount {
    need: Need,
    hold: Hold,
    key: Arc<Key>,
    model: Arc<str>,
}

/// Reserves what the request may use. If a budget has less left than the estimated prompt and the longest answer may
/// cost, the worker counts the prompt first ([`Recount`]) and the answer is shortened, so that the budget is never
/// exceeded. `lengths`: limits on prompt lengths, as the workers of the model report them.
///
/// # Errors
///
/// [`ReserveError`] if a limit denies the request, or the limits or its usage cannot be stored.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn reserve(
    limiter: &Limiter,
    estimates: &Estimates,
    lengths: PromptLengths,
    key: &Arc<Key>,
    context: RequestContext,
    generation: Generation,
) -> Result<Reserved, ReserveError> {
    let (model, mut request, response) = generation.into_parts();
    if key.is_visitor() && !limiter.pool(&key.plan) {
        return Err(pool_exhausted(&key.plan));
    }
    let template = lengths.template.unwrap_or(0);
    let estimate = estimates.of(&request, &key.account, &model.id, template);
    let mut need = Need::of(&request, &estimate, lengths, key);
    let wanted = AdmissionRequest {
        event: beginning(context, key, &model.id, response.stream.is_some())
            .encode_to_vec()
            .into(),
        tokens: need.tokens,
        money: need.money,
        least_money: need.least_money,
        ..nothing(context, key)
    };
    let reservation = limiter.reserve(wanted).await;
    let reservation = reservation.map_err(|error| refused(error, key, &model.name))?;
    need.grant(reservation.money(), &mut request);
    let recount = need.may_be_counted().then(|| Recount {
        need,
        hold: reservation.hold(),
        key: Arc::clone(key),
        model: Arc::clone(&model.name),
    });
    let parts = ReservedParts {
        model: model.id.clone(),
        work: estimate.work(&request),
        request,
        recount,
    };
    Ok(Reserved {
        bill: Bill::new(reservation, Arc::clone(&key.plan), need, estimate),
        request: ReservedRequest { parts },
        response,
    })
}

/// Checks that a caller without a key has not had too many requests refused as invalid.
///
/// # Errors
///
/// [`ReserveError::TurnedAway`] if it has.
pub fn check_visitor(limiter: &Limiter, key: &Arc<Key>) -> Result<(), ReserveError> {
    if !key.is_visitor() {
        return Ok(());
    }
    let checked = limiter.check_visitor(&key.account);
    checked.map_err(|error| refused(error, key, &REFUSED.into()))
}

/// Counts a request that is refused as invalid before anything was reserved.
///
/// # Errors
///
/// [`ReserveError`] if a limit denies even that.
pub async fn refuse(
    limiter: &Limiter,
    key: &Arc<Key>,
    context: RequestContext,
) -> Result<(), ReserveError> {
    let counted = limiter.refuse(&nothing(context, key)).await;
    counted.map_err(|error| refused(error, key, &REFUSED.into()))
}

/// A request that reserves nothing.
fn nothing(context: RequestContext, key: &Key) -> AdmissionRequest {
    AdmissionRequest {
        id: context.id,
        account: key.account.clone(),
        plan: Arc::clone(&key.plan),
        visitor: key.is_visitor(),
        key: key.name.clone().zip(key.limits),
        tokens: Tokens::ZERO,
        money: NanoDollars::ZERO,
        least_money: NanoDollars::ZERO,
        event: Bytes::new(),
    }
}

// === impl ReservedRequest ===

impl ReservedRequest {
    /// Its parts, for dispatch.
    #[must_use]
    pub fn into_parts(self) -> ReservedParts {
        self.parts
    }
}

// === impl Recount ===

impl Recount {
    /// Reserves exactly what the request needs, after a worker has counted more prompt tokens than the reservation
    /// paid for, and bounds the request by that.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] if the budget denies it, or the store cannot be reached.
    pub async fn exact(
        mut self,
        prompt_tokens: u64,
        request: &mut GenerateRequest,
    ) -> Result<Need, ReserveError> {
        let need = &mut self.need;
        need.counted(Tokens::new(prompt_tokens));
        let granted = self.hold.change(need.money, need.least_money).await;
        let granted = granted.map_err(|error| refused(error, &self.key, &self.model))?;
        need.grant(granted, request);
        Ok(*need)
    }
}

/// The first piece of the usage event. It describes a request whose router died, until a later piece overrides that.
fn beginning(context: RequestContext, key: &Key, model: &str, stream: bool) -> UsageEvent {
    let price = &key.plan.price;
    UsageEvent {
        request_id: context.id.to_string(),
        account: key.account.to_string(),
        key: key.name.as_deref().unwrap_or_default().to_owned(),
        plan: key.plan.name.to_string(),
        model: model.to_owned(),
        endpoint: context.endpoint.to_owned(),
        stream,
        price: Some(Price {
            version: price.version.to_string(),
            input: price.input.get(),
            cached_input: price.cached_input.get(),
            output: price.output.get(),
        }),
        admitted_us: now_us(),
        code: "router_lost".to_owned(),
        ..UsageEvent::default()
    }
}

/// Microseconds since the Unix epoch.
pub(crate) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let us = now.unwrap_or_default().as_micros();
    u64::try_from(us).unwrap_or(u64::MAX)
}

fn refused(error: LimitError, key: &Key, model: &Arc<str>) -> ReserveError {
    let statuses = match error {
        LimitError::Denied { statuses } => statuses,
        LimitError::Unavailable { retry_after } => {
            return ReserveError::Unavailable { retry_after };
        }
        LimitError::NoRoom { why, retry_after } => {
            return ReserveError::NoRoom { why, retry_after };
        }
        LimitError::Refused => {
            return ReserveError::Damaged {
                account: key.account.clone(),
            };
        }
        LimitError::TurnedAway(TurnedAway { retry_after }) => {
            let preview = key.plan.preview.as_ref();
            return ReserveError::TurnedAway {
                most: MOST_REFUSALS,
                retry_after,
                sign_up: preview.and_then(|preview| preview.sign_up.clone()),
            };
        }
    };
    let is_total =
        |status: &&LimitStatus| status.kind == LimitKind::RequestsTotal && status.denial.is_some();
    match (&key.plan.preview, statuses.iter().find(is_total)) {
        (Some(preview), Some(total)) if key.is_visitor() => ReserveError::PreviewExhausted {
            limit: total.limit,
            sign_up: preview.sign_up.clone(),
            statuses,
        },
        _ => ReserveError::Denied {
            model: Arc::clone(model),
            account: key.account.clone(),
            statuses,
        },
    }
}

fn pool_exhausted(plan: &Plan) -> ReserveError {
    let second = now_us() / 1_000_000;
    let preview = plan.preview.as_ref();
    ReserveError::PoolExhausted {
        sign_up: preview.and_then(|preview| preview.sign_up.clone()),
        tomorrow: Duration::from_secs(DAY - second % DAY),
    }
}
