//! Rows of the error table for limits.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
use http::header::WWW_AUTHENTICATE;

use super::row::{Retry, Row};
use crate::limits::{OTHERS, clock, dollars, wait};
use inferyard_admission::ReserveError;
use inferyard_admission::{LimitKind, LimitStatus, NoRoom, Wait};

/// Maximum wait for which a client should retry by itself instead of reporting the error to its user.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Suggested wait if stored limits are damaged: an administrator must repair them first.
const DAMAGED: Duration = Duration::from_mins(1);

pub(super) fn reserve(error: &ReserveError) -> Row<'_> {
    match error {
        ReserveError::Denied {
            model,
            account,
            statuses,
        } => denied(model, account, statuses),
        ReserveError::PreviewExhausted { limit, sign_up, .. } => Row {
            header: Some((WWW_AUTHENTICATE, "Bearer")),
            ..Row::invalid(
                StatusCode::UNAUTHORIZED,
                "preview_exhausted",
                format!(
                    "You have used the {limit} free requests of the preview. {}",
                    get_a_key(sign_up.as_deref())
                ),
            )
        },
        ReserveError::TurnedAway {
            most,
            retry_after,
            sign_up,
        } => turned_away(*most, *retry_after, sign_up.as_deref()),
        ReserveError::PoolExhausted { sign_up, tomorrow } => Row {
            retry: Some(Retry {
                after: Some(*tomorrow),
                by_itself: false,
            }),
            ..too_many(
                "tokens",
                "preview_pool_exhausted",
                format!(
                    "The free preview has no tokens left for today. It goes on in {}. {}",
                    clock(*tomorrow),
                    get_a_key(sign_up.as_deref())
                ),
            )
        },
        ReserveError::Unavailable { retry_after } => unavailable(
            *retry_after,
            "limits_unavailable",
            "The limits of your plan cannot be checked at the moment. Try again in a few seconds.",
        ),
        ReserveError::NoRoom { why, retry_after } => {
            unavailable(*retry_after, "usage_unavailable", no_room(*why))
        }
        ReserveError::Damaged { account } => damaged(account),
    }
}

fn no_room(why: NoRoom) -> &'static str {
    match why {
        NoRoom::Full => {
            "Usage cannot be recorded at the moment: too much of it waits for the store of limits. Try \
             again in a few seconds."
        }
        NoRoom::Disk => {
            "Usage cannot be recorded at the moment: the disk for it is full or fails. Try again in a \
             few seconds."
        }
        NoRoom::Ledger => {
            "Usage cannot be recorded at the moment: too much of it waits for the ledger's database. Try \
             again in a few seconds."
        }
    }
}

fn damaged<'a>(account: &str) -> Row<'a> {
    let message = format!(
        "What is stored of the limits of account {account} cannot be read, and has to be repaired by \
         the administrator of this service."
    );
    Row {
        retry: Some(Retry {
            after: Some(DAMAGED),
            by_itself: false,
        }),
        ..unavailable(DAMAGED, "limits_damaged", message)
    }
}

fn unavailable<'a>(
    retry_after: Duration,
    label: &'static str,
    message: impl Into<Cow<'a, str>>,
) -> Row<'a> {
    Row {
        header: None,
        retry: Some(Retry {
            after: Some(retry_after),
            by_itself: true,
        }),
        label,
        ..Row::unavailable("server_is_overloaded", "1", message)
    }
}

fn turned_away<'a>(most: u32, retry_after: Duration, sign_up: Option<&str>) -> Row<'a> {
    let message = format!(
        "The server could not serve {most} of your requests of this hour, because of what was in \
         them. Without a key it looks at your next one in {}. {}",
        clock(retry_after),
        get_a_key(sign_up)
    );
    Row {
        retry: Some(Retry {
            after: Some(retry_after),
            by_itself: false,
        }),
        label: "too_many_refusals",
        ..too_many("requests", "rate_limit_exceeded", message)
    }
}

fn get_a_key(sign_up: Option<&str>) -> String {
    let how = "and send it in the header `Authorization: Bearer YOUR_KEY`.";
    match sign_up {
        Some(link) => format!("To go on, get an API key at {link}, {how}"),
        None => format!("To go on, ask whoever runs this service for an API key, {how}"),
    }
}

/// The message names the limit that denies for the longest time; `Retry-After` is its wait.
fn denied<'a>(model: &str, account: &str, statuses: &[LimitStatus]) -> Row<'a> {
    let (status, longest) = wait(statuses).expect("a limit should deny what is denied");
    let row = match status.kind {
        LimitKind::BudgetPerMonth => budget(account, status, longest),
        LimitKind::RequestsPerMinute
        | LimitKind::RequestsPerDay
        | LimitKind::RequestsTotal
        | LimitKind::ConcurrentRequests
        | LimitKind::TokensPerMinute
        | LimitKind::TokensPerDay => rate(model, account, status, longest),
    };
    let after = match longest {
        Wait::Exactly(time) => Some(time),
        Wait::ForOthers => Some(OTHERS),
        Wait::ForEver => None,
    };
    Row {
        retry: Some(Retry {
            after,
            by_itself: statuses.iter().all(passes_soon),
        }),
        ..row
    }
}

/// Whether the client should wait and retry by itself.
fn passes_soon(status: &LimitStatus) -> bool {
    match status.denial {
        None | Some(Wait::ForOthers) => true,
        Some(Wait::ForEver) => false,
        Some(Wait::Exactly(time)) => {
            time <= LONGEST_WAIT
                && !matches!(
                    status.kind,
                    LimitKind::RequestsPerDay | LimitKind::TokensPerDay | LimitKind::BudgetPerMonth
                )
        }
    }
}

fn rate<'a>(model: &str, account: &str, status: &LimitStatus, longest: Wait) -> Row<'a> {
    let LimitStatus {
        kind,
        limit,
        used,
        requested,
        ..
    } = status;
    let (openai_type, name) = match kind {
        LimitKind::RequestsPerMinute => ("requests", "requests per min (RPM)"),
        LimitKind::RequestsPerDay => ("requests", "requests per day (RPD)"),
        LimitKind::RequestsTotal => ("requests", "requests in total"),
        LimitKind::ConcurrentRequests => ("requests", "requests at the same time"),
        LimitKind::TokensPerMinute => ("tokens", "tokens per min (TPM)"),
        LimitKind::TokensPerDay => ("tokens", "tokens per day (TPD)"),
        LimitKind::BudgetPerMonth => ("insufficient_quota", "dollars per month"),
    };
    let too_large = requested > limit;
    let begin = if too_large {
        "Request too large"
    } else {
        "Rate limit reached"
    };
    let rest = match (longest, kind) {
        _ if too_large => {
            "The input or output tokens must be reduced in order to run successfully.".to_owned()
        }
        (Wait::Exactly(time), _) => {
            let time = clock(time.max(Duration::from_millis(1)));
            format!("Please try again in {time}.")
        }
        (Wait::ForOthers, LimitKind::ConcurrentRequests) => {
            "Please try again when one of your requests has ended.".to_owned()
        }
        (Wait::ForOthers, _) => "A part of it is held by requests that are still running. Please \
                                 try again when they have ended."
            .to_owned(),
        (Wait::ForEver, _) => {
            "It does not come back with time: your plan allows no more.".to_owned()
        }
    };
    let used = if too_large {
        String::new()
    } else {
        format!(" Used {used},")
    };
    let message = format!(
        "{begin} for {model} in organization {account} on {name}: Limit {limit},{used} Requested \
         {requested}. {rest}"
    );
    too_many(openai_type, "rate_limit_exceeded", message)
}

fn budget<'a>(account: &str, status: &LimitStatus, longest: Wait) -> Row<'a> {
    let rest = match longest {
        Wait::Exactly(_) => "",
        Wait::ForOthers => {
            " A part of it is held by requests that are still running. Please try again when they \
             have ended."
        }
        Wait::ForEver => " This request costs more than the whole budget: ask for less.",
    };
    let message = format!(
        "You exceeded your current quota, please check your plan and billing details. The budget \
         of organization {account} for this month: Limit ${}, Used ${}, Left ${}; this request \
         needs at least ${}. The budget begins anew in {}.{rest}",
        dollars(status.limit),
        dollars(status.used),
        dollars(status.limit.saturating_sub(status.used)),
        dollars(status.requested),
        clock(status.reset),
    );
    too_many("insufficient_quota", "insufficient_quota", message)
}

/// A second worker counted the prompt differently from the first one, and the budget is too small for its
/// count.
pub(super) fn too_expensive<'a>(prompt_tokens: u64) -> Row<'a> {
    let message = format!(
        "You exceeded your current quota, please check your plan and billing details. The prompt \
         has {prompt_tokens} tokens, for which the budget of this month is too small."
    );
    Row {
        retry: Some(Retry {
            after: None,
            by_itself: false,
        }),
        ..too_many("insufficient_quota", "insufficient_quota", message)
    }
}

fn too_many<'a>(kind: &'static str, code: &'static str, message: String) -> Row<'a> {
    Row {
        kind,
        ..Row::invalid(StatusCode::TOO_MANY_REQUESTS, code, message)
    }
}

#[cfg(test)]
mod tests;
