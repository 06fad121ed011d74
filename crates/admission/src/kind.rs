//! The kinds of limits, and the limits of a plan or key by kind.

use std::num::NonZeroU64;

use inferyard_catalog::Limits;

/// The kinds of limits that a plan or a key can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// Requests per minute.
    RequestsPerMinute,
    /// Requests per day.
    RequestsPerDay,
    /// Requests in total, without a time window.
    RequestsTotal,
    /// Tokens, prompt and answer together, per minute.
    TokensPerMinute,
    /// Tokens, prompt and answer together, per day.
    TokensPerDay,
    /// Concurrent requests.
    ConcurrentRequests,
    /// Nano-dollars per calendar month, UTC.
    BudgetPerMonth,
}

/// All limits by kind, in the order in which stores report them.
pub(crate) fn by_kind(limits: &Limits) -> [(LimitKind, Option<NonZeroU64>); 7] {
    [
        (LimitKind::RequestsPerMinute, limits.requests_per_minute),
        (LimitKind::RequestsPerDay, limits.requests_per_day),
        (LimitKind::RequestsTotal, limits.requests_total),
        (LimitKind::TokensPerMinute, limits.tokens_per_minute),
        (LimitKind::TokensPerDay, limits.tokens_per_day),
        (LimitKind::ConcurrentRequests, limits.concurrent_requests),
        (LimitKind::BudgetPerMonth, limits.budget_per_month),
    ]
}

/// The limit of one kind, mutable.
pub(crate) fn by_kind_mut(limits: &mut Limits, kind: LimitKind) -> &mut Option<NonZeroU64> {
    match kind {
        LimitKind::RequestsPerMinute => &mut limits.requests_per_minute,
        LimitKind::RequestsPerDay => &mut limits.requests_per_day,
        LimitKind::RequestsTotal => &mut limits.requests_total,
        LimitKind::TokensPerMinute => &mut limits.tokens_per_minute,
        LimitKind::TokensPerDay => &mut limits.tokens_per_day,
        LimitKind::ConcurrentRequests => &mut limits.concurrent_requests,
        LimitKind::BudgetPerMonth => &mut limits.budget_per_month,
    }
}
