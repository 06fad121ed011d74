//! The arithmetic of levels, the same in both stores: what a scope has used, and whether a request fits.

use std::num::NonZeroU64;
use std::time::Duration;

use inferyard_catalog::Limits;

use super::store::{Admission, LimitStatus, Wait};
use crate::kind::{LimitKind, by_kind};

const MINUTE_US: f64 = 60e6;
const DAY_US: f64 = 86_400e6;

/// Bytes of serialized [`Levels`].
pub(super) const SIZE: usize = 8 * 10;

/// The levels of a scope, as leaky buckets. Held amounts are kept per scope, not per limit, so that they can be
/// released after limits change.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Levels {
    /// When it last leaked, in microseconds since the Unix epoch.
    pub(super) at: f64,
    pub(super) held_tokens: f64,
    pub(super) running: f64,
    pub(super) requests_minute: f64,
    pub(super) requests_day: f64,
    pub(super) requests_total: f64,
    pub(super) tokens_minute: f64,
    pub(super) tokens_day: f64,
    pub(super) money_month: f64,
    pub(super) held_money: f64,
}

/// What a request takes from a scope, or gives back.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Change {
    /// Requests that count per minute.
    pub(super) requests: f64,
    /// Requests that count per day and in total.
    pub(super) lasting: f64,
    pub(super) tokens: f64,
    pub(super) money: f64,
    pub(super) held_tokens: f64,
    pub(super) held_money: f64,
    pub(super) running: f64,
}

/// The current time, and the calendar month around it, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) us: f64,
    pub(super) month: (f64, f64),
}

/// The decision, for the statuses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) admitted: bool,
    /// Nano-dollars that it holds.
    pub(super) money: f64,
}

// === impl Levels ===

impl Levels {
    pub(super) fn at(now: Now) -> Self {
        Self {
            at: now.us,
            ..Self::default()
        }
    }

    /// Decodes ten little-endian doubles, in the order of the fields.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut values = [0.0; 10];
        for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(8)) {
            *value = f64::from_le_bytes(bytes.try_into().ok()?);
        }
        (bytes.len() == SIZE).then_some(Self {
            at: values[0],
            held_tokens: values[1],
            running: values[2],
            requests_minute: values[3],
            requests_day: values[4],
            requests_total: values[5],
            tokens_minute: values[6],
            tokens_day: values[7],
            money_month: values[8],
            held_money: values[9],
        })
    }

    /// Leaks up to `now`. A bucket without a limit is set to 0, except the total of requests and the month's money,
    /// which a limit added later must know. If the clock goes back, nothing leaks until it has caught up, so nothing
    /// leaks twice.
    pub(super) fn leak(&mut self, limits: &Limits, now: Now) {
        let passed = (now.us - self.at).max(0.0);
        let left = |used: f64, limit: Option<NonZeroU64>, window: f64| match limit {
            Some(limit) => (used - passed * number(limit.get()) / window).max(0.0),
            None => 0.0,
        };
        self.requests_minute = left(self.requests_minute, limits.requests_per_minute, MINUTE_US);
        self.requests_day = left(self.requests_day, limits.requests_per_day, DAY_US);
        self.tokens_minute = left(self.tokens_minute, limits.tokens_per_minute, MINUTE_US);
        self.tokens_day = left(self.tokens_day, limits.tokens_per_day, DAY_US);
        if self.at < now.month.0 && now.us >= now.month.0 {
            self.money_month = 0.0;
        }
        self.at = self.at.max(now.us);
    }

    /// Nano-dollars that the request may hold here; `None`: a limit denies it. `leak` must be called first.
    pub(super) fn grant(&self, limits: &Limits, wanted: &Admission) -> Option<f64> {
        let tokens = number(wanted.tokens);
        let fits = |level: f64, held: f64, need: f64, limit: Option<NonZeroU64>| {
            limit.is_none_or(|limit| level + held + need <= number(limit.get()))
        };
        let all = fits(self.requests_minute, 0.0, 1.0, limits.requests_per_minute)
            && fits(self.requests_day, 0.0, 1.0, limits.requests_per_day)
            && fits(self.requests_total, 0.0, 1.0, limits.requests_total)
            && fits(
                self.tokens_minute,
                self.held_tokens,
                tokens,
                limits.tokens_per_minute,
            )
            && fits(
                self.tokens_day,
                self.held_tokens,
                tokens,
                limits.tokens_per_day,
            )
            && fits(self.running, 0.0, 1.0, limits.concurrent_requests);
        let granted = number(wanted.money).min(self.money_left(limits));
        (all && granted >= least(wanted)).then_some(granted)
    }

    /// Nano-dollars of the budget that are neither spent nor held. `leak` must be called first.
    pub(super) fn money_left(&self, limits: &Limits) -> f64 {
        limits.budget_per_month.map_or(f64::INFINITY, |limit| {
            number(limit.get()) - self.money_month - self.held_money
        })
    }

    /// Whether a refused request fits into the minute and beside the running requests. `leak` must be called first.
    pub(super) fn allows_refusal(&self, limits: &Limits) -> bool {
        let fits = |level: f64, limit: Option<NonZeroU64>| {
            limit.is_none_or(|limit| level + 1.0 <= number(limit.get()))
        };
        fits(self.requests_minute, limits.requests_per_minute)
            && fits(self.running, limits.concurrent_requests)
    }

    /// Charges a request. Buckets without a limit are not counted.
    pub(super) fn charge(&mut self, limits: &Limits, change: &Change) {
        let add = |to: &mut f64, amount: f64, limit: Option<NonZeroU64>| {
            if limit.is_some() {
                *to += amount;
            }
        };
        add(
            &mut self.requests_minute,
            change.requests,
            limits.requests_per_minute,
        );
        add(
            &mut self.requests_day,
            change.lasting,
            limits.requests_per_day,
        );
        add(
            &mut self.tokens_minute,
            change.tokens,
            limits.tokens_per_minute,
        );
        add(&mut self.tokens_day, change.tokens, limits.tokens_per_day);
        // Refunded amounts may have leaked already.
        for level in [
            &mut self.requests_day,
            &mut self.tokens_minute,
            &mut self.tokens_day,
        ] {
            *level = level.max(0.0);
        }
        self.requests_total = (self.requests_total + change.lasting).max(0.0);
        self.money_month = (self.money_month + change.money).max(0.0);
    }

    /// Changes the held amounts.
    pub(super) fn hold(&mut self, change: &Change) {
        self.held_tokens = (self.held_tokens + change.held_tokens).max(0.0);
        self.held_money = (self.held_money + change.held_money).max(0.0);
        self.running = (self.running + change.running).max(0.0);
    }

    /// The statuses of the limits of this scope, in the order of [`LimitKind`]. `leak` must be called first.
    pub(super) fn statuses(
        &self,
        limits: &Limits,
        wanted: &Admission,
        outcome: Outcome,
        now: Now,
        statuses: &mut Vec<LimitStatus>,
    ) {
        for (kind, limit) in by_kind(limits) {
            if let Some(limit) = limit {
                let gauge = self.gauge(kind, number(limit.get()), wanted, outcome);
                statuses.push(gauge.read(kind, limit.get(), wanted, outcome, now));
            }
        }
    }

    fn gauge(&self, kind: LimitKind, cap: f64, wanted: &Admission, outcome: Outcome) -> Gauge {
        let tokens = number(wanted.tokens);
        let (level, held, need, window) = match kind {
            LimitKind::RequestsPerMinute => (self.requests_minute, 0.0, 1.0, MINUTE_US),
            LimitKind::RequestsPerDay => (self.requests_day, 0.0, 1.0, DAY_US),
            LimitKind::RequestsTotal => (self.requests_total, 0.0, 1.0, 0.0),
            LimitKind::TokensPerMinute => (self.tokens_minute, self.held_tokens, tokens, MINUTE_US),
            LimitKind::TokensPerDay => (self.tokens_day, self.held_tokens, tokens, DAY_US),
            LimitKind::ConcurrentRequests => (0.0, self.running, 1.0, 0.0),
            LimitKind::BudgetPerMonth => (self.money_month, self.held_money, least(wanted), 0.0),
        };
        let own = match kind {
            _ if !outcome.admitted => 0.0,
            LimitKind::BudgetPerMonth => outcome.money,
            _ => need,
        };
        let is_held = !matches!(
            kind,
            LimitKind::RequestsPerMinute | LimitKind::RequestsPerDay | LimitKind::RequestsTotal
        );
        Gauge {
            cap,
            level,
            held,
            need,
            window,
            own_charge: if is_held { 0.0 } else { own },
            own_hold: if is_held { own } else { 0.0 },
        }
    }
}

/// One level and its limit.
struct Gauge {
    cap: f64,
    level: f64,
    held: f64,
    need: f64,
    /// Microseconds in which a full bucket leaks; 0: it does not leak.
    window: f64,
    /// The part of `level` that this request added.
    own_charge: f64,
    /// The part of `held` that this request added.
    own_hold: f64,
}

// === impl Gauge ===

impl Gauge {
    fn read(
        &self,
        kind: LimitKind,
        limit: u64,
        wanted: &Admission,
        outcome: Outcome,
        now: Now,
    ) -> LimitStatus {
        let reset = match kind {
            LimitKind::ConcurrentRequests => Duration::ZERO,
            LimitKind::BudgetPerMonth => span(now.month.1 - now.us),
            LimitKind::RequestsTotal => Duration::MAX,
            _ => span((self.level + self.own_hold) * self.window / self.cap),
        };
        let denied = !outcome.admitted || wanted.shadow;
        LimitStatus {
            kind,
            limit,
            used: whole(self.level + self.held),
            requested: match kind {
                LimitKind::TokensPerMinute | LimitKind::TokensPerDay => wanted.tokens,
                LimitKind::BudgetPerMonth => wanted.least_money.min(wanted.money),
                _ => 1,
            },
            reset,
            denial: denied.then(|| self.denial(kind, now)).flatten(),
        }
    }

    /// Whether this limit denies the request, without counting the request's own part.
    fn denial(&self, kind: LimitKind, now: Now) -> Option<Wait> {
        let (level, held) = (self.level - self.own_charge, self.held - self.own_hold);
        let excess = level + held + self.need - self.cap;
        if excess <= 0.0 {
            return None;
        }
        Some(match kind {
            _ if self.need > self.cap => Wait::ForEver,
            LimitKind::RequestsTotal => Wait::ForEver,
            LimitKind::ConcurrentRequests => Wait::ForOthers,
            LimitKind::BudgetPerMonth if level + self.need <= self.cap => Wait::ForOthers,
            LimitKind::BudgetPerMonth => Wait::Exactly(span(now.month.1 - now.us)),
            _ if held + self.need > self.cap => Wait::ForOthers,
            _ => Wait::Exactly(span(excess * self.window / self.cap)),
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 nano-dollars are nine million dollars"
)]
pub(super) fn number(value: u64) -> f64 {
    value as f64
}

/// Rounds up; a small negative value from float arithmetic becomes 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what a reader can do with it"
)]
pub(super) fn whole(value: f64) -> u64 {
    value.ceil() as u64
}

/// Rounds up to a microsecond and adds one, so that enough has leaked by then.
fn span(us: f64) -> Duration {
    Duration::from_micros(if us > 0.0 {
        whole(us).saturating_add(1)
    } else {
        0
    })
}

/// Nano-dollars below which the request is denied.
pub(super) fn least(wanted: &Admission) -> f64 {
    number(wanted.least_money.min(wanted.money))
}
