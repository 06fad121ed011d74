//! The requests of this router that a worker has, and from them, how many others sent it.

use std::collections::HashMap;

/// The answers on one worker. What a state counts is old by some milliseconds, and short answers come and
/// go meanwhile; its own requests a router knows exactly.
#[derive(Debug, Default)]
pub(super) struct Own {
    open: HashMap<u64, u32>,
    sequences: u64,
    /// That ended since the last state: it may still count them.
    ended: u64,
    /// That this router knows nothing of: of other routers, or of a time before.
    others: u64,
}

// === impl Own ===

impl Own {
    /// A request is about to be sent.
    pub(super) fn add(&mut self, serial: u64, sequences: u32) {
        self.open.insert(serial, sequences);
        self.sequences += u64::from(sequences);
    }

    /// A request has ended.
    pub(super) fn ended(&mut self, serial: u64) {
        if let Some(sequences) = self.open.remove(&serial) {
            self.sequences -= u64::from(sequences);
            self.ended += u64::from(sequences);
        }
    }

    /// The worker counts so many answers.
    pub(super) fn seen(&mut self, sequences: u64) {
        self.others = sequences.saturating_sub(self.sequences + self.ended);
        self.ended = 0;
    }

    /// Answers that it has at this moment.
    pub(super) fn sequences(&self) -> u64 {
        self.sequences + self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_between_two_states_makes_room_at_once() {
        let mut own = Own::default();
        for serial in 0..10 {
            own.add(serial, 2);
        }
        own.seen(20);
        assert_eq!(own.sequences(), 20);
        own.ended(3);
        own.ended(3);
        assert_eq!(own.sequences(), 18);
        // A state that was on its way counts it still.
        own.seen(20);
        assert_eq!(own.sequences(), 18);
    }

    #[test]
    fn what_others_sent_is_what_remains() {
        let mut own = Own::default();
        own.add(1, 1);
        own.seen(31);
        assert_eq!(own.sequences(), 31);
        own.add(2, 4);
        assert_eq!(own.sequences(), 35);
        own.seen(5);
        assert_eq!(own.sequences(), 5);
    }
}
