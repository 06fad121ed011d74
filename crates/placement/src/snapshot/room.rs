//! Whether a worker has room for a request, so that the request need not wait in the queue.

use super::Load;
use crate::Work;

/// Requests beyond a worker's places, as a fraction (1/8) of them: the worker can start these before its next state
/// reaches the router.
const BEYOND: u32 = 8;
/// Seconds of prefill that may wait in a worker: enough that it never idles before the next requests arrive.
const MOST_BACKLOG: f64 = 1.0;

// === impl Load ===

impl Load {
    /// Whether the worker could start the request soon. Values that the worker does not report are no obstacle.
    pub(crate) fn has_room(&self, work: &Work, cached_blocks: usize) -> bool {
        self.backlog <= MOST_BACKLOG && !self.is_full(work, cached_blocks)
    }

    /// Whether the worker can start the request only after others have ended.
    pub(crate) fn is_full(&self, work: &Work, cached_blocks: usize) -> bool {
        self.refused
            || !self.has_place(work.sequences)
            || !self.has_cells(work.uncached_tokens(cached_blocks))
    }

    fn has_place(&self, sequences: u32) -> bool {
        if self.places == 0 || self.busy == 0 {
            return true;
        }
        let beyond = (self.places / BEYOND).max(1).min(self.beyond);
        self.busy + u64::from(sequences) <= u64::from(self.places) + u64::from(beyond)
    }

    /// A prompt larger than the whole cache passes, so that the worker refuses it.
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
        // More answers than places: has room when the worker is idle.
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
        // The worker refuses it itself.
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
