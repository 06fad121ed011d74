//! What a request has used and holds, as the test expects it.

use crate::store::Admission;

/// A request as its router knows it.
pub(super) struct Request {
    pub(super) admission: Admission,
    /// Used so far.
    pub(super) tokens: u64,
    pub(super) money: u64,
    pub(super) held: Amount,
    /// Used beyond what it held.
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
    /// Uses tokens. What exceeds its held amount may be held by other requests.
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
