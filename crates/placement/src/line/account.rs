//! One account in the line: what waits, and what was computed for it.

use std::collections::BTreeMap;

use super::{Waiter, WaiterId};

/// What a token counts for an account of weight 1.
const SCALE: u64 = 1_000_000;

/// One account, within one priority.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Tokens that were computed for it, over its weight.
    pub(super) counter: u64,
    /// The same of prompts that were placed without waiting and run. It counts beside `counter` where turns
    /// are compared, but does not lift accounts that come later.
    pub(super) unqueued: u64,
    /// Whose turn it was when it was last served: who was served longer ago goes before equals.
    pub(super) served: u64,
    /// Requests that left the line and run.
    pub(super) running: u32,
    /// Requests that wait, in order.
    pub(super) queue: BTreeMap<WaiterId, Entry>,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) waiter: Waiter,
    /// How many requests behind it were served before it, because it fitted nowhere.
    pub(super) overtaken: u32,
}

// === impl Account ===

impl Account {
    pub(super) fn is_idle(&self) -> bool {
        self.running == 0 && self.unqueued == 0 && self.queue.is_empty()
    }

    /// What it has got, for the comparison with others: the less, the earlier its turn.
    pub(super) fn got(&self) -> u64 {
        self.counter.saturating_add(self.unqueued)
    }
}

/// What so many tokens count for an account of this weight.
pub(super) fn cost(tokens: u64, weight: u32) -> u64 {
    tokens.saturating_mul(SCALE) / u64::from(weight.max(1))
}
