//! What answers tell of limits, in OpenAI's headers and units.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use inferyard_admission::{Meter, Reading, Wait};

/// The headers of one kind of limit; `reset` only where the limit comes back with time.
struct Names {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

/// What the headers tell apart.
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

/// `x-ratelimit-{limit,remaining,reset}-*`, each of the limit that binds most: the one that denies,
/// else the one of which the smallest part is left.
pub(crate) fn headers(readings: &[Reading]) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    KINDS.into_iter().flat_map(move |kind| {
        let of_kind = readings.iter().filter(|reading| kind.is_of(reading.meter));
        let tightest = of_kind.min_by(|one, other| {
            let rank = |reading: &Reading| reading.denial.is_none();
            let left =
                |reading: &Reading, limit: u64| u128::from(remaining(reading)) * u128::from(limit);
            rank(one)
                .cmp(&rank(other))
                .then(left(one, other.limit).cmp(&left(other, one.limit)))
        });
        tightest
            .into_iter()
            .flat_map(move |reading| kind.headers(reading))
    })
}

/// A word for the limit that denies, for the log.
pub(crate) fn denied_by(readings: &[Reading]) -> Option<&'static str> {
    let denying = readings.iter().find(|reading| reading.denial.is_some())?;
    Some(match denying.meter {
        Meter::RequestsPerMinute => "requests_per_minute",
        Meter::RequestsPerDay => "requests_per_day",
        Meter::RequestsTotal => "requests_total",
        Meter::TokensPerMinute => "tokens_per_minute",
        Meter::TokensPerDay => "tokens_per_day",
        Meter::ConcurrentRequests => "concurrent_requests",
        Meter::BudgetPerMonth => "budget_per_month",
    })
}

fn remaining(reading: &Reading) -> u64 {
    reading.limit.saturating_sub(reading.used)
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
    fn is_of(self, meter: Meter) -> bool {
        self == match meter {
            Meter::RequestsPerMinute | Meter::RequestsPerDay | Meter::RequestsTotal => {
                Self::Requests
            }
            Meter::TokensPerMinute => Self::Tokens,
            Meter::TokensPerDay => Self::TokensDay,
            Meter::BudgetPerMonth => Self::Spend,
            Meter::ConcurrentRequests => Self::Concurrent,
        }
    }

    fn headers(self, reading: &Reading) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let names = self.names();
        let amount = |amount| match self {
            Self::Spend => text(&dollars(amount)),
            Self::Requests | Self::Tokens | Self::TokensDay | Self::Concurrent => amount.into(),
        };
        let comes_back = !matches!(
            reading.meter,
            Meter::RequestsTotal | Meter::ConcurrentRequests
        );
        let reset = comes_back.then(|| (names.reset.clone(), text(&clock(reading.reset))));
        let limit = (names.limit.clone(), amount(reading.limit));
        let left = (names.remaining.clone(), amount(remaining(reading)));
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

/// A duration as Go writes it, cut to milliseconds: `0s`, `112ms`, `8.64s`, `6m0s`, `24h0m0s`.
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

/// Nano-dollars as dollars, to the cent or, where there are parts of one, as far as they go.
pub(crate) fn dollars(nanodollars: u64) -> String {
    let (whole, rest) = (nanodollars / 1_000_000_000, nanodollars % 1_000_000_000);
    let rest = format!("{rest:09}");
    let (cents, parts) = rest.split_at(2);
    format!("{whole}.{cents}{}", parts.trim_end_matches('0'))
}

/// How long all that denies a request goes on denying it.
pub(crate) fn wait(readings: &[Reading]) -> Option<(&Reading, Wait)> {
    let denying = readings
        .iter()
        .filter_map(|reading| Some((reading, reading.denial?)));
    denying.max_by_key(|(_, wait)| match wait {
        Wait::ForEver => (true, Duration::ZERO),
        Wait::Exactly(time) => (false, *time),
        Wait::ForOthers => (false, OTHERS),
    })
}

/// Nobody knows when other requests end; then a try after this time does no harm.
pub(crate) const OTHERS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
