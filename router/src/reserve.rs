//! Step 4: what a request may cost at most is set aside, or the request is denied.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use inferyard_placement::Work;
use inferyard_proto::usage::v1::{Price, UsageEvent};
use inferyard_proto::worker::v1::GenerateRequest;
use prost::Message as _;

use crate::accept::Accepted;
use crate::authenticate::Caller;
use crate::place::Lengths;
use crate::read::{Generation, ResponseSpec};
use inferyard_admission::{
    self as admission, Hold, Limiter, MOST_REFUSALS, Meter, Reading, TurnedAway, Wanted,
};
use inferyard_catalog::{Key, Plan};

mod bill;
mod error;
mod estimate;
mod need;

pub(crate) use bill::{Bill, End};
pub(crate) use error::ReserveError;
pub(crate) use estimate::{Estimate, Estimates};
pub(crate) use need::Need;

const DAY: u64 = 86_400;
/// What stands for the model where a request was refused before it was known.
const REFUSED: &str = "refused requests";

/// What a reservation gives.
pub(crate) struct Reserved {
    pub(crate) bill: Bill,
    pub(crate) request: ReservedRequest,
    /// How the client wants its answer.
    pub(crate) response: ResponseSpec,
}

/// A request for which something is set aside. Only [`reserve`] makes one, and only one of these can be dispatched.
pub(crate) struct ReservedRequest {
    parts: ReservedParts,
}

/// What a [`ReservedRequest`] consists of.
pub(crate) struct ReservedParts {
    /// The id of the model.
    pub(crate) model: Arc<str>,
    pub(crate) request: GenerateRequest,
    /// What it asks of a worker, as far as that can be estimated.
    pub(crate) work: Work,
    /// `None`: no budget binds it.
    pub(crate) recount: Option<Recount>,
}

/// A request that a budget binds, until a worker has counted its prompt.
pub(crate) struct Recount {
    need: Need,
    hold: Hold,
    key: Arc<Key>,
    model: Arc<str>,
}

/// Sets aside what the request may use. Where a budget has less left than prompt and longest answer may cost,
/// the worker counts the prompt first ([`Recount`]), and the answer is made shorter, so that the budget is
/// never exceeded. `lengths` is what the workers of the model say.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) async fn reserve(
    limiter: &Limiter,
    estimates: &Estimates,
    lengths: Lengths,
    caller: &Caller,
    accepted: &Accepted,
    generation: Generation,
) -> Result<Reserved, ReserveError> {
    let (model, mut request, response) = generation.into_parts();
    let key = &caller.key;
    if key.is_visitor() && !limiter.pool(&key.plan) {
        return Err(pool_exhausted(&key.plan));
    }
    let template = lengths.template.unwrap_or(0);
    let estimate = estimates.of(&request, &key.account, &model.id, template);
    let mut need = Need::of(&request, &estimate, lengths, key);
    let wanted = Wanted {
        event: beginning(accepted, key, &model.id, response.stream.is_some())
            .encode_to_vec()
            .into(),
        tokens: need.tokens,
        money: need.money,
        least_money: need.least_money,
        ..nothing(accepted, key)
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
        model: Arc::clone(&model.id),
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

/// Whether a request of this caller is looked at: few of those without a key may be refused for their own
/// fault.
pub(crate) fn check_visitor(limiter: &Limiter, caller: &Caller) -> Result<(), ReserveError> {
    let key = &caller.key;
    if !key.is_visitor() {
        return Ok(());
    }
    let checked = limiter.check_visitor(&key.account);
    checked.map_err(|error| refused(error, key, &REFUSED.into()))
}

/// Counts a request that is refused for its own fault before anything was set aside for it.
pub(crate) async fn refuse(
    limiter: &Limiter,
    caller: &Caller,
    accepted: &Accepted,
) -> Result<(), ReserveError> {
    let key = &caller.key;
    let counted = limiter.refuse(&nothing(accepted, key)).await;
    counted.map_err(|error| refused(error, key, &REFUSED.into()))
}

/// A request that uses nothing.
fn nothing(accepted: &Accepted, key: &Key) -> Wanted {
    Wanted {
        id: accepted.id.bits(),
        account: Arc::clone(&key.account),
        plan: Arc::clone(&key.plan),
        visitor: key.is_visitor(),
        key: key.limits.map(|limits| (Arc::clone(&key.name), limits)),
        tokens: 0,
        money: 0,
        least_money: 0,
        event: Bytes::new(),
    }
}

// === impl ReservedRequest ===

impl ReservedRequest {
    pub(crate) fn into_parts(self) -> ReservedParts {
        self.parts
    }
}

// === impl Recount ===

impl Recount {
    /// The worker has counted the prompt, and there is more of it than could be paid: sets aside exactly what
    /// it needs, and bounds the request by that.
    pub(crate) async fn exact(
        mut self,
        prompt_tokens: u64,
        request: &mut GenerateRequest,
    ) -> Result<Need, ReserveError> {
        let need = &mut self.need;
        need.counted(prompt_tokens);
        let granted = self.hold.change(need.money, need.least_money).await;
        let granted = granted.map_err(|error| refused(error, &self.key, &self.model))?;
        need.grant(granted, request);
        Ok(*need)
    }
}

/// The first piece of the usage event. Its end is that of a request whose router died, until the
/// last piece says otherwise.
fn beginning(accepted: &Accepted, key: &Key, model: &str, stream: bool) -> UsageEvent {
    let price = &key.plan.price;
    UsageEvent {
        request_id: accepted.id.to_string(),
        account: key.account.to_string(),
        key: key.name.to_string(),
        plan: key.plan.name.to_string(),
        model: model.to_owned(),
        endpoint: accepted.label.to_owned(),
        stream,
        price: Some(Price {
            version: price.version.to_string(),
            input: price.input,
            cached_input: price.cached_input,
            output: price.output,
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

fn refused(error: admission::ReserveError, key: &Key, model: &Arc<str>) -> ReserveError {
    let readings = match error {
        admission::ReserveError::Denied { readings } => readings,
        admission::ReserveError::Unavailable { retry_after } => {
            return ReserveError::Unavailable { retry_after };
        }
        admission::ReserveError::NoRoom { why, retry_after } => {
            return ReserveError::NoRoom { why, retry_after };
        }
        admission::ReserveError::Refused => {
            return ReserveError::Damaged {
                account: Arc::clone(&key.account),
            };
        }
        admission::ReserveError::TurnedAway(TurnedAway { retry_after }) => {
            let preview = key.plan.preview.as_ref();
            return ReserveError::TurnedAway {
                most: MOST_REFUSALS,
                retry_after,
                sign_up: preview.and_then(|preview| preview.sign_up.clone()),
            };
        }
    };
    let is_total =
        |reading: &&Reading| reading.meter == Meter::RequestsTotal && reading.denial.is_some();
    match (&key.plan.preview, readings.iter().find(is_total)) {
        (Some(preview), Some(total)) if key.is_visitor() => ReserveError::PreviewExhausted {
            limit: total.limit,
            sign_up: preview.sign_up.clone(),
            readings,
        },
        _ => ReserveError::Denied {
            model: Arc::clone(model),
            account: Arc::clone(&key.account),
            readings,
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
