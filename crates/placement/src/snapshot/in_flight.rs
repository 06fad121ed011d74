//! The answers in flight on a worker: this router's exactly, those of other routers by subtraction.

use std::collections::HashMap;

/// The answers on one worker. A state's count is some milliseconds old, and short answers start and end in between; a
/// router knows its own requests exactly.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    open: HashMap<u64, u32>,
    sequences: u64,
    /// Answers that ended since the last state, which may still count them.
    ended: u64,
    /// Answers that this router did not send: from other routers, or from before it started.
    others: u64,
}

// === impl InFlight ===

impl InFlight {
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

    /// The worker reports this many answers.
    pub(super) fn seen(&mut self, sequences: u64) {
        self.others = sequences.saturating_sub(self.sequences + self.ended);
        self.ended = 0;
    }

    /// Answers on the worker now.
    pub(super) fn sequences(&self) -> u64 {
        self.sequences + self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_between_two_states_makes_room_at_once() {
        let mut own = InFlight::default();
        for serial in 0..10 {
            own.add(serial, 2);
        }
        own.seen(20);
        assert_eq!(own.sequences(), 20);
        own.ended(3);
        own.ended(3);
        assert_eq!(own.sequences(), 18);
        // A state sent before the end still counts it.
        own.seen(20);
        assert_eq!(own.sequences(), 18);
    }

    #[test]
    fn what_others_sent_is_what_remains() {
        let mut own = InFlight::default();
        own.add(1, 1);
        own.seen(31);
        assert_eq!(own.sequences(), 31);
        own.add(2, 4);
        assert_eq!(own.sequences(), 35);
        own.seen(5);
        assert_eq!(own.sequences(), 5);
    }
}
