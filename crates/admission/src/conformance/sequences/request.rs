//! What a request has spent, and what it holds.

use crate::store::Admission;

/// A request as its router knows it.
pub(super) struct Request {
    pub(super) admission: Admission,
    /// Spent so far.
    pub(super) tokens: u64,
    pub(super) money: u64,
    pub(super) held: Amount,
    /// Spent above what it held.
    pub(super) short: Amount,
    pub(super) is_over: bool,
}

/// Tokens and money.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amount {
    pub(super) tokens: u64,
    pub(super) money: u64,
}

// === impl Request ===

impl Request {
    /// Spends tokens. What is spent above what it holds may be held by others by now.
    pub(super) fn spend(&mut self, tokens: u64) {
        let money = tokens * 2;
        self.tokens += tokens;
        self.money += money;
        self.short.tokens += tokens.saturating_sub(self.held.tokens);
        self.short.money += money.saturating_sub(self.held.money);
        self.held.tokens = self.held.tokens.saturating_sub(tokens);
        self.held.money = self.held.money.saturating_sub(money);
    }
}
