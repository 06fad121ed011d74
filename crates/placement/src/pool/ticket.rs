//! Ids of workers in a pool, and of requests sent to them.

/// A worker of a pool; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerId {
    pub(super) index: usize,
    pub(super) joined: u64,
}

/// A request that was sent to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) worker: WorkerId,
    pub(super) serial: u64,
}

// === impl WorkerId ===

impl WorkerId {
    /// The worker's number in order of joining, from 1.
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

    /// The request's number in order of sending, from 0.
    #[must_use]
    pub fn serial(self) -> u64 {
        self.serial
    }
}
