//! Headers that report limits, with OpenAI's names and units.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use inferyard_admission::{LimitKind, LimitStatus, Wait};

/// Header names of one kind of limit. `reset` is sent only if the limit refills with time.
struct Names {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

/// The limits that share header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Requests,
    Tokens,
    TokensDay,
    Spend,
    Concurrent,
}

static REQUESTS: Names = Names::new(
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
);
static TOKENS: Names = Names::new(
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
);
static TOKENS_DAY: Names = Names::new(
    "x-ratelimit-limit-tokens-day",
    "x-ratelimit-remaining-tokens-day",
    "x-ratelimit-reset-tokens-day",
);
static SPEND: Names = Names::new(
    "x-ratelimit-limit-spend",
    "x-ratelimit-remaining-spend",
    "x-ratelimit-reset-spend",
);
static CONCURRENT: Names = Names::new(
    "x-ratelimit-limit-concurrent",
    "x-ratelimit-remaining-concurrent",
    "x-ratelimit-reset-concurrent",
);

const KINDS: [Kind; 5] = [
    Kind::Requests,
    Kind::Tokens,
    Kind::TokensDay,
    Kind::Spend,
    Kind::Concurrent,
];

/// `x-ratelimit-{limit,remaining,reset}-*`. If several limits share the names, the headers report the tightest:
/// one that denies the request, else the one with the smallest fraction left.
pub(crate) fn headers(statuses: &[LimitStatus]) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    KINDS.into_iter().flat_map(move |kind| {
        let of_kind = statuses.iter().filter(|status| kind.is_of(status.kind));
        let tightest = of_kind.min_by(|one, other| {
            let rank = |status: &LimitStatus| status.denial.is_none();
            let left = |status: &LimitStatus, limit: u64| {
                u128::from(remaining(status)) * u128::from(limit)
            };
            rank(one)
                .cmp(&rank(other))
                .then(left(one, other.limit).cmp(&left(other, one.limit)))
        });
        tightest
            .into_iter()
            .flat_map(move |status| kind.headers(status))
    })
}

/// The name of the limit that denies the request, for the log.
pub(crate) fn denied_by(statuses: &[LimitStatus]) -> Option<&'static str> {
    let denying = statuses.iter().find(|status| status.denial.is_some())?;
    Some(match denying.kind {
        LimitKind::RequestsPerMinute => "requests_per_minute",
        LimitKind::RequestsPerDay => "requests_per_day",
        LimitKind::RequestsTotal => "requests_total",
        LimitKind::TokensPerMinute => "tokens_per_minute",
        LimitKind::TokensPerDay => "tokens_per_day",
        LimitKind::ConcurrentRequests => "concurrent_requests",
        LimitKind::BudgetPerMonth => "budget_per_month",
    })
}

fn remaining(status: &LimitStatus) -> u64 {
    status.limit.saturating_sub(status.used)
}

// === impl Names ===

impl Names {
    const fn new(limit: &'static str, remaining: &'static str, reset: &'static str) -> Self {
        Self {
            limit: HeaderName::from_static(limit),
            remaining: HeaderName::from_static(remaining),
            reset: HeaderName::from_static(reset),
        }
    }
}

// === impl Kind ===

impl Kind {
    fn is_of(self, kind: LimitKind) -> bool {
        self == match kind {
            LimitKind::RequestsPerMinute | LimitKind::RequestsPerDay | LimitKind::RequestsTotal => {
                Self::Requests
            }
            LimitKind::TokensPerMinute => Self::Tokens,
            LimitKind::TokensPerDay => Self::TokensDay,
            LimitKind::BudgetPerMonth => Self::Spend,
            LimitKind::ConcurrentRequests => Self::Concurrent,
        }
    }

    fn headers(self, status: &LimitStatus) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let names = self.names();
        let amount = |amount| match self {
            Self::Spend => text(&dollars(amount)),
            Self::Requests | Self::Tokens | Self::TokensDay | Self::Concurrent => amount.into(),
        };
        let comes_back = !matches!(
            status.kind,
            LimitKind::RequestsTotal | LimitKind::ConcurrentRequests
        );
        let reset = comes_back.then(|| (names.reset.clone(), text(&clock(status.reset))));
        let limit = (names.limit.clone(), amount(status.limit));
        let left = (names.remaining.clone(), amount(remaining(status)));
        [Some(limit), Some(left), reset].into_iter().flatten()
    }

    fn names(self) -> &'static Names {
        match self {
            Self::Requests => &REQUESTS,
            Self::Tokens => &TOKENS,
            Self::TokensDay => &TOKENS_DAY,
            Self::Spend => &SPEND,
            Self::Concurrent => &CONCURRENT,
        }
    }
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits and letters should be a header value")
}

/// Formats a duration like Go, truncated to milliseconds: `0s`, `112ms`, `8.64s`, `6m0s`, `24h0m0s`.
pub(crate) fn clock(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    if milliseconds < 1_000 {
        return format!("{milliseconds}ms");
    }
    let (hours, minutes) = (milliseconds / 3_600_000, milliseconds / 60_000 % 60);
    let (seconds, rest) = (milliseconds / 1_000 % 60, milliseconds % 1_000);
    let fraction = match rest {
        0 => String::new(),
        _ => format!(".{rest:03}").trim_end_matches('0').to_owned(),
    };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

/// Formats nano-dollars as dollars with at least two decimals.
pub(crate) fn dollars(nanodollars: u64) -> String {
    let (whole, rest) = (nanodollars / 1_000_000_000, nanodollars % 1_000_000_000);
    let rest = format!("{rest:09}");
    let (cents, parts) = rest.split_at(2);
    format!("{whole}.{cents}{}", parts.trim_end_matches('0'))
}

/// The limit that denies the request for the longest time, and how long.
pub(crate) fn wait(statuses: &[LimitStatus]) -> Option<(&LimitStatus, Wait)> {
    let denying = statuses
        .iter()
        .filter_map(|status| Some((status, status.denial?)));
    denying.max_by_key(|(_, wait)| match wait {
        Wait::ForEver => (true, Duration::ZERO),
        Wait::Exactly(time) => (false, *time),
        Wait::ForOthers => (false, OTHERS),
    })
}

/// Suggested wait if a limit depends on other requests, which end at an unknown time.
pub(crate) const OTHERS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
