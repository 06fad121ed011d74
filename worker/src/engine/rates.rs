//! How fast an engine is: moving averages of its steps.

use std::time::Duration;

/// The weight of the newest step in an average.
const NEWEST: f32 = 0.05;

/// How fast the engine is; 0 before the first step of a kind.
#[derive(Debug, Default)]
pub(super) struct Rates {
    prefill: f32,
    decode: f32,
}

// === impl Rates ===

impl Rates {
    /// A step has computed so many tokens of prompts; whether it was also one in which answers that
    /// had begun got their next token.
    pub(super) fn stepped(&mut self, prompts: usize, answers: bool, took: Duration) {
        let seconds = took.as_secs_f32().max(1e-6);
        if prompts > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a batch has few tokens")]
            let rate = prompts as f32 / seconds;
            average(&mut self.prefill, rate);
        }
        if answers {
            average(&mut self.decode, 1.0 / seconds);
        }
    }

    /// Prompt tokens per second.
    pub(super) fn prefill(&self) -> f32 {
        self.prefill
    }

    /// Tokens per second of one answer.
    pub(super) fn decode(&self) -> f32 {
        self.decode
    }
}

fn average(average: &mut f32, newest: f32) {
    if *average <= 0.0 {
        *average = newest;
    } else {
        *average += NEWEST * (newest - *average);
    }
}
