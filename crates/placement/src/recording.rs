//! What happened in a pool, as lines of JSON without content: enough to decide everything again.
//!
//! The first line is a [`Head`], every further one an [`Entry`]. Prefix blocks are blinded with a key that
//! is drawn for each recording and written nowhere: equal blocks stay equal, and no text can be tried
//! against them.

use serde::{Deserialize, Serialize};

use crate::{Moment, Outcome, Prefixes, State, Weights, Work};

/// The version of this format.
pub const VERSION: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// [`VERSION`].
    pub inferyard_recording: u32,
    /// What the router weighed with.
    pub weights: Weights,
    /// With which it chose among equally good workers.
    pub seed: u64,
}

/// Every further line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since the router's start.
    pub at_us: u64,
    /// The model whose pool it is.
    pub model: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. Workers are numbered as they join a pool, requests as they are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A worker is named.
    Joined {
        /// Its number.
        worker: u64,
        /// Its address.
        name: String,
    },
    /// A worker is not named any longer.
    Left {
        /// Its number.
        worker: u64,
    },
    /// A worker said how it is.
    State {
        /// Its number.
        worker: u64,
        /// What it said.
        state: State,
    },
    /// A worker is silent.
    Lost {
        /// Its number.
        worker: u64,
    },
    /// A request was given to a worker.
    Placed {
        /// The request's id.
        request: String,
        /// What it asks for.
        #[serde(flatten)]
        work: RecordedWork,
        /// The workers that could not be chosen: they failed at it before, or were kept for another.
        tried: Vec<u64>,
        /// Who got it.
        worker: u64,
        /// Its number.
        serial: u64,
    },
    /// The worker had no room for a request after all.
    Refused {
        /// Its number.
        serial: u64,
    },
    /// The first token of a request is there.
    Begun {
        /// Its number.
        serial: u64,
    },
    /// A request has ended.
    Ended {
        /// Its number.
        serial: u64,
        /// How.
        #[serde(default, skip_serializing_if = "Outcome::is_untold")]
        outcome: Outcome,
    },
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedWork {
    /// Bytes of its prompt.
    pub prompt_bytes: u64,
    /// About how many tokens these are.
    pub prompt_tokens: u64,
    /// The chain of its prefix blocks.
    pub blocks: Vec<u64>,
    /// How many answers it wants.
    pub sequences: u32,
}

/// Hides what prefix blocks are the hashes of.
#[derive(Clone, Copy, Debug)]
pub struct Blinding(u64);

// === impl Entry ===

impl Entry {
    /// What happened in a model's pool at a moment.
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

    /// The work again.
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
    /// With a random key.
    #[must_use]
    pub fn new(key: u64) -> Self {
        Self(key)
    }

    /// Another number, the same for the same block.
    #[must_use]
    pub fn hide(self, block: u64) -> u64 {
        // The finalizer of SplitMix64, which maps one to one, keyed before and after.
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
