//! Admits a request: by the store, or as its plan says while the store cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use inferyard_catalog::OnLoss;

use super::calls::CallError;
use super::clock::month;
use super::end::{Admitted, End};
use super::local::UnknownShare;
use super::reservation::{Home, LEFT, LEFT_STATUS, Reservation, ended, finish};
use super::store::{Admission, AdmissionDecision, Lease, LimitStatus, Scope};
use super::{AdmissionRequest, LimitError, NoRoom, RETRY_AFTER, Shared};

/// `Retry-After` while the ledger cannot store events; it retries every five seconds.
const LEDGER_RETRY_AFTER: Duration = Duration::from_secs(5);

pub(super) async fn reserve(
    shared: &Arc<Shared>,
    wanted: AdmissionRequest,
) -> Result<Reservation, LimitError> {
    let unavailable = LimitError::Unavailable {
        retry_after: RETRY_AFTER,
    };
    shared.room().map_err(|why| LimitError::NoRoom {
        why,
        retry_after: match why {
            NoRoom::Ledger => LEDGER_RETRY_AFTER,
            NoRoom::Full | NoRoom::Disk => RETRY_AFTER,
        },
    })?;
    let admission = admission(&wanted, shared.lease_time, shared.clock.now_us());
    let mut asking = Asking::new(shared, &admission);
    let asked = shared.calls.admit(&admission).await;
    asking.is_open = matches!(asked, Err(CallError::Unanswered));
    let (home, decision) = match asked {
        Ok(decision) => (Home::Store, decision),
        // `on_loss` of the plan does not apply: the store is reachable, but this account's data is damaged.
        Err(CallError::Refused) => return Err(LimitError::Refused),
        Err(CallError::NotAsked | CallError::Unanswered) => {
            asking.end = REFUSED;
            match without_store(shared, &wanted, &admission).await {
                Some(decided) => decided,
                None => return Err(unavailable),
            }
        }
    };
    let statuses: Arc<[LimitStatus]> = decision.statuses.into();
    if matches!(home, Home::Store) && wanted.plan.on_loss == OnLoss::Local {
        let now_us = shared.clock.now_us();
        shared
            .local
            .seen
            .remember(&admission.lease, &statuses, now_us);
    }
    if !decision.admitted {
        shared.metrics.denied(&statuses);
        return Err(LimitError::Denied { statuses });
    }
    // If an unanswered call took effect after all, the end of the request releases that too.
    asking.is_open = false;
    drop(asking);
    let (lease, money) = (admission.lease, decision.money);
    Ok(Reservation::new(
        shared, &wanted, lease, home, money, statuses,
    ))
}

pub(super) fn admission(wanted: &AdmissionRequest, lifetime: Duration, now_us: u64) -> Admission {
    let plan = &wanted.plan;
    let mut scopes = Vec::with_capacity(2);
    scopes.push(Scope {
        name: format!("plan:{}", plan.name).into(),
        limits: plan.limits,
    });
    if let Some((name, limits)) = &wanted.key {
        scopes.push(Scope {
            name: format!("key:{name}").into(),
            limits: *limits,
        });
    }
    Admission {
        lease: Lease {
            id: wanted.id.bits(),
            account: wanted.account.clone(),
            scopes,
            lifetime,
        },
        tokens: wanted.tokens.get(),
        money: wanted.money.get(),
        least_money: wanted.least_money.get(),
        shadow: plan.shadow,
        month: month(now_us),
        event: wanted.event.clone(),
    }
}

/// Decides as the plan says while the store cannot be reached; `None`: the request is refused.
async fn without_store(
    shared: &Shared,
    wanted: &AdmissionRequest,
    admission: &Admission,
) -> Option<(Home, AdmissionDecision)> {
    let metrics = &shared.metrics;
    match wanted.plan.on_loss {
        OnLoss::Closed => {
            metrics.decided_locally("refused");
            None
        }
        OnLoss::Open => {
            metrics.decided_locally("let_through");
            let decision = AdmissionDecision {
                admitted: true,
                money: wanted.money.get(),
                statuses: Vec::new(),
            };
            Some((Home::Nowhere, decision))
        }
        OnLoss::Local => {
            let now_us = shared.clock.now_us();
            let decided = shared.local.admit(admission, now_us).await;
            metrics.decided_locally(match &decided {
                Ok((_, decision)) if decision.admitted => "admitted",
                Ok(_) => "denied",
                Err(UnknownShare) => "refused",
            });
            let (held, decision) = decided.ok()?;
            Some((Home::Local(held), decision))
        }
    }
}

/// A call to the store without an answer: the client may disconnect before it, or the connection may break. If
/// dropped while open, it releases what the store may have admitted, which otherwise stays held until the lease
/// expires.
struct Asking<'a> {
    shared: &'a Arc<Shared>,
    admission: &'a Admission,
    is_open: bool,
    /// The end of the request if dropped now.
    end: Ending,
}

/// Status and code of a request that ends without an answer.
struct Ending {
    status: u32,
    code: &'static str,
    /// It was refused, so it is given back per day and in total.
    refused: bool,
}

const LEFT_EARLY: Ending = Ending {
    status: LEFT_STATUS,
    code: LEFT,
    refused: false,
};
const REFUSED: Ending = Ending {
    status: 503,
    code: "limits_unavailable",
    refused: true,
};

// === impl Asking ===

impl<'a> Asking<'a> {
    fn new(shared: &'a Arc<Shared>, admission: &'a Admission) -> Self {
        Self {
            shared,
            admission,
            is_open: true,
            end: LEFT_EARLY,
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (shared, admission) = (Arc::clone(self.shared), self.admission);
        let Ending {
            status,
            code,
            refused,
        } = self.end;
        let end = End {
            lease: admission.lease.clone(),
            admitted: Admitted::Unknown,
            tokens: 0,
            money: 0,
            refused,
            event: ended(&admission.event, status, code, shared.clock.now_us()),
        };
        let tasks = shared.tasks.clone();
        tasks.spawn_on(async move { finish(&shared, end).await }, &runtime);
    }
}
