//! Which worker of a pool has which request.

/// A worker of a pool; no later one is called the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerId {
    pub(super) index: usize,
    pub(super) joined: u64,
}

/// A request that was given to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) worker: WorkerId,
    pub(super) serial: u64,
}

// === impl WorkerId ===

impl WorkerId {
    /// Which one of those that ever joined the pool, counted from 1.
    #[must_use]
    pub fn number(self) -> u64 {
        self.joined
    }
}

// === impl Ticket ===

impl Ticket {
    /// The worker that has the request.
    #[must_use]
    pub fn worker(self) -> WorkerId {
        self.worker
    }

    /// Which one of all that were sent, counted from 0.
    #[must_use]
    pub fn serial(self) -> u64 {
        self.serial
    }
}
