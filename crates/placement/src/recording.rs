//! The events of a pool as JSON lines without content: enough to repeat every decision.
//!
//! The first line is a [`Head`], all others are [`Entry`] lines. Prefix blocks are blinded with a random key that
//! each recording draws and no file contains: equal blocks stay equal, but their hashes cannot be compared with those
//! of guessed text.

use serde::{Deserialize, Serialize};

use crate::{Moment, Outcome, Prefixes, State, Weights, Work};

/// The version of the format.
pub const VERSION: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// [`VERSION`].
    pub inferyard_recording: u32,
    /// The router's weights.
    pub weights: Weights,
    /// The router's seed for the choice among equally good workers.
    pub seed: u64,
}

/// Every further line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since the router's start.
    pub at_us: u64,
    /// The model of the pool.
    pub model: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// An event. Workers are numbered as they join a pool, requests as they are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A worker joined the pool.
    Joined {
        /// Its number.
        worker: u64,
        /// Its address.
        name: String,
    },
    /// A worker left the pool.
    Left {
        /// Its number.
        worker: u64,
    },
    /// A worker sent a state.
    State {
        /// Its number.
        worker: u64,
        /// The state.
        state: State,
    },
    /// A worker's stream broke.
    Lost {
        /// Its number.
        worker: u64,
    },
    /// A request was sent to a worker.
    Placed {
        /// The request's id.
        request: String,
        /// What it asks for.
        #[serde(flatten)]
        work: RecordedWork,
        /// The workers that were not eligible: they failed it before, or were reserved for another request.
        tried: Vec<u64>,
        /// The worker that got it.
        worker: u64,
        /// Its number.
        serial: u64,
    },
    /// The worker refused a request for want of room.
    Refused {
        /// Its number.
        serial: u64,
    },
    /// The first token of a request arrived.
    Begun {
        /// Its number.
        serial: u64,
    },
    /// A request has ended.
    Ended {
        /// Its number.
        serial: u64,
        /// The outcome.
        #[serde(default, skip_serializing_if = "Outcome::is_untold")]
        outcome: Outcome,
    },
}

/// The work of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedWork {
    /// Bytes of its prompt.
    pub prompt_bytes: u64,
    /// Estimated tokens of its prompt.
    pub prompt_tokens: u64,
    /// Hashes of the chain of its prefix blocks, blinded.
    pub blocks: Vec<u64>,
    /// How many answers it asks for.
    pub sequences: u32,
}

/// A keyed mapping that hides the hashes of prefix blocks.
#[derive(Clone, Copy, Debug)]
pub struct Blinding(u64);

// === impl Entry ===

impl Entry {
    /// An event of a model's pool at a moment.
    #[must_use]
    pub fn new(at: Moment, model: &str, event: Event) -> Self {
        Self {
            at_us: u64::try_from(at.as_micros()).unwrap_or(u64::MAX),
            model: model.to_owned(),
            event,
        }
    }

    /// When it happened.
    #[must_use]
    pub fn at(&self) -> Moment {
        Moment::from_micros(self.at_us)
    }
}

// === impl RecordedWork ===

impl RecordedWork {
    /// The work, with its blocks blinded.
    #[must_use]
    pub fn of(work: &Work, blinding: Blinding) -> Self {
        Self {
            prompt_bytes: work.prompt_bytes,
            prompt_tokens: work.prompt_tokens,
            blocks: work
                .blocks
                .iter()
                .map(|block| blinding.hide(*block))
                .collect(),
            sequences: work.sequences,
        }
    }

    /// The work, with its blocks still blinded.
    #[must_use]
    pub fn work(&self) -> Work {
        Work {
            prompt_bytes: self.prompt_bytes,
            prompt_tokens: self.prompt_tokens,
            blocks: self.blocks.as_slice().into(),
            sequences: self.sequences,
        }
    }
}

// === impl Blinding ===

impl Blinding {
    /// A blinding with this key, which must be random.
    #[must_use]
    pub fn new(key: u64) -> Self {
        Self(key)
    }

    /// Maps a block to another number; equal blocks get equal numbers.
    #[must_use]
    pub fn hide(self, block: u64) -> u64 {
        // The finalizer of SplitMix64, which is a bijection, keyed before and after.
        let mut x = block ^ self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31) ^ self.0.rotate_left(32)
    }

    /// A state with its blocks blinded.
    #[must_use]
    pub fn hide_state(self, state: &State) -> State {
        let hide = |blocks: &[u64]| blocks.iter().map(|block| self.hide(*block)).collect();
        let prefixes = Prefixes {
            reset: state.prefixes.reset,
            added: hide(&state.prefixes.added),
            removed: hide(&state.prefixes.removed),
        };
        State {
            prefixes,
            ..state.clone()
        }
    }
}
