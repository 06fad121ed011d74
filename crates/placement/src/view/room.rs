//! Whether a worker has room for a request, so that it need not wait elsewhere.

use super::Load;
use crate::Work;

/// One in so many of a worker's places is filled beyond them, so that it has something to begin with
/// between two messages.
const BEYOND: u32 = 8;
/// Seconds of prompts that wait to be computed: with less, the next ones would come too late.
const MOST_BACKLOG: f64 = 1.0;

// === impl Load ===

impl Load {
    /// Whether it could begin with the request soon. What a worker does not say is no obstacle.
    pub(crate) fn has_room(&self, work: &Work, covered_blocks: usize) -> bool {
        self.backlog <= MOST_BACKLOG && !self.is_full(work, covered_blocks)
    }

    /// Whether it could not begin with the request before others have ended.
    pub(crate) fn is_full(&self, work: &Work, covered_blocks: usize) -> bool {
        self.refused
            || !self.has_place(work.sequences)
            || !self.has_cells(work.uncached_tokens(covered_blocks))
    }

    fn has_place(&self, sequences: u32) -> bool {
        if self.places == 0 || self.busy == 0 {
            return true;
        }
        let beyond = (self.places / BEYOND).max(1).min(self.beyond);
        self.busy + u64::from(sequences) <= u64::from(self.places) + u64::from(beyond)
    }

    /// What fits into no cache is for the worker to refuse.
    fn has_cells(&self, tokens: u64) -> bool {
        let Some(free) = self.free_tokens else {
            return true;
        };
        tokens <= free || self.busy == 0 || tokens > self.all_tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_room(change: impl FnOnce(&mut Load)) -> bool {
        let work = Work {
            prompt_bytes: 4096,
            prompt_tokens: 1000,
            blocks: [1, 2, 3, 4].into(),
            sequences: 2,
        };
        let mut load = Load {
            places: 16,
            beyond: 64,
            busy: 1,
            free_tokens: Some(1_000),
            all_tokens: 10_000,
            ..Load::default()
        };
        change(&mut load);
        load.has_room(&work, 1)
    }

    #[test]
    fn places_are_filled_a_little_beyond_the_last() {
        assert!(has_room(|load| load.busy = 16));
        assert!(!has_room(|load| load.busy = 17));
        assert!(!has_room(|load| {
            load.busy = 16;
            load.beyond = 1;
        }));
        assert!(has_room(|load| {
            load.busy = 1_000;
            load.places = 0;
        }));
        // More answers than places: as soon as it can have them all.
        assert!(!has_room(|load| load.places = 1));
        assert!(has_room(|load| {
            load.places = 1;
            load.busy = 0;
        }));
    }

    #[test]
    fn a_prompt_needs_cells_for_what_is_not_held() {
        assert!(has_room(|load| load.free_tokens = Some(750)));
        assert!(!has_room(|load| load.free_tokens = Some(749)));
        assert!(has_room(|load| {
            load.free_tokens = Some(0);
            load.busy = 0;
        }));
        assert!(has_room(|load| load.free_tokens = None));
        // It will say so itself.
        assert!(has_room(|load| {
            load.free_tokens = Some(0);
            load.all_tokens = 700;
        }));
    }

    #[test]
    fn a_long_backlog_or_a_refusal_leaves_no_room() {
        assert!(has_room(|load| load.backlog = 1.0));
        assert!(!has_room(|load| load.backlog = 1.1));
        assert!(!has_room(|load| load.refused = true));
    }
}
