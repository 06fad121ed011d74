//! One account in the queue: its requests that wait, and what was computed for it.

use std::collections::BTreeMap;

use super::{Waiter, WaiterId};

/// Cost of one token for an account of weight 1; keeps precision in the integer division by the weight.
const SCALE: u64 = 1_000_000;

/// One account within one priority.
#[derive(Debug, Default)]
pub(super) struct AccountState {
    /// Cost of the tokens computed for it, divided by its weight.
    pub(super) counter: u64,
    /// Cost of the running prompts that were placed without waiting. Added to `counter` when turns are compared, but
    /// not part of the floor from which later accounts start.
    pub(super) unqueued: u64,
    /// The class's turn count when it was last served: among equals, the account served longest ago goes first.
    pub(super) served: u64,
    /// Requests that left the queue and still run.
    pub(super) running: u32,
    /// Requests that wait, in order of arrival.
    pub(super) queue: BTreeMap<WaiterId, Entry>,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) waiter: Waiter,
    /// How many later requests were served first, because this one fitted nowhere.
    pub(super) skipped: u32,
}

// === impl AccountState ===

impl AccountState {
    pub(super) fn is_idle(&self) -> bool {
        self.running == 0 && self.unqueued == 0 && self.queue.is_empty()
    }

    /// The cost that is compared; the account with the lowest is served next.
    pub(super) fn got(&self) -> u64 {
        self.counter.saturating_add(self.unqueued)
    }
}

/// The cost of tokens for an account of this weight.
pub(super) fn cost(tokens: u64, weight: u32) -> u64 {
    tokens.saturating_mul(SCALE) / u64::from(weight.max(1))
}
