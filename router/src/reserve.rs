//! Step 4: what a request may cost at most is set aside, or the request is denied.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use inferyard_proto::usage::v1::{Price, UsageEvent};
use prost::Message as _;

use crate::accept::Accepted;
use crate::app::App;
use crate::authenticate::Caller;
use crate::catalog::{Key, Plan};
use crate::error::ReserveError;
use crate::limit::{self, Meter, Reading, Wanted};
use crate::meter::Bill;
use crate::place::prompt_bytes;
use crate::read::Generation;

mod estimate;
mod need;

pub(crate) use estimate::{Estimates, Ratio};
pub(crate) use need::Need;

const DAY: u64 = 86_400;

/// Sets aside what the request may use. Where a budget has less left than the longest answer costs,
/// the answer is made shorter, so that the budget is never exceeded.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) async fn reserve(
    app: &App,
    caller: &Caller,
    accepted: &Accepted,
    generation: &mut Generation,
) -> Result<Bill, ReserveError> {
    let key = &caller.key;
    if caller.is_visitor() && !app.limiter.pool(&key.plan) {
        return Err(pool_exhausted(&key.plan));
    }
    let model = &generation.model.name;
    let ratio = app.estimates.of(model);
    let context = app.fleet.context_length(model);
    let bytes = prompt_bytes(&generation.request);
    let mut need = Need::of(&generation.request, bytes, &ratio, context, key);
    let wanted = Wanted {
        id: accepted.id.bits(),
        account: Arc::clone(&key.account),
        plan: Arc::clone(&key.plan),
        key: key.limits.map(|limits| (Arc::clone(&key.name), limits)),
        tokens: need.tokens,
        money: need.money,
        least_money: need.least_money,
        event: beginning(accepted, key, generation).encode_to_vec().into(),
    };
    let reservation = app.limiter.reserve(wanted).await;
    let reservation = reservation.map_err(|error| refused(error, caller, model))?;
    need.grant(reservation.money(), &mut generation.request);
    let plan = Arc::clone(&key.plan);
    Ok(Bill::new(reservation, plan, need, ratio))
}

/// The first piece of the usage event. Its end is that of a request whose router died, until the
/// last piece says otherwise.
fn beginning(accepted: &Accepted, key: &Key, generation: &Generation) -> UsageEvent {
    let price = &key.plan.price;
    UsageEvent {
        request_id: accepted.id.to_string(),
        account: key.account.to_string(),
        key: key.name.to_string(),
        plan: key.plan.name.to_string(),
        model: generation.model.name.to_string(),
        endpoint: accepted.label.to_owned(),
        stream: generation.stream.is_some(),
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

fn refused(error: limit::ReserveError, caller: &Caller, model: &Arc<str>) -> ReserveError {
    let readings = match error {
        limit::ReserveError::Denied { readings } => readings,
        limit::ReserveError::Unavailable { retry_after } => {
            return ReserveError::Unavailable { retry_after };
        }
        limit::ReserveError::NoRoom { why, retry_after } => {
            return ReserveError::NoRoom { why, retry_after };
        }
        limit::ReserveError::Refused => {
            return ReserveError::Damaged {
                account: Arc::clone(&caller.key.account),
            };
        }
    };
    let key = &caller.key;
    let is_total =
        |reading: &&Reading| reading.meter == Meter::RequestsTotal && reading.denial.is_some();
    match (&key.plan.preview, readings.iter().find(is_total)) {
        (Some(preview), Some(total)) if caller.is_visitor() => ReserveError::PreviewExhausted {
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
