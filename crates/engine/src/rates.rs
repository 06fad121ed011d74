//! How fast an engine computes, measured over its last steps.

use std::time::Duration;

/// Seconds after which older steps of a kind count for a third (exponential decay).
const MEMORY: f32 = 10.0;
/// At least this share of a mixed step is attributed to its prompts, whatever decode-only steps took before.
const LEAST_SHARE: f32 = 0.25;

/// Prefill and decode speed of an engine; 0 before the first step of a kind.
///
/// Work is divided by time over many steps. An average of each step's own rate would count a step with few tokens as
/// much as one with many: equal workers would look unequal, depending on their requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Prompt tokens.
    prefill: Work,
    /// Decode-only steps.
    decode: Work,
    /// Steps that did both, for as long as there was no decode-only step.
    mixed: Work,
}

/// An amount of work and the seconds that it took; both decay.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    amount: f32,
    seconds: f32,
}

// === impl Rates ===

impl Rates {
    /// Records one engine step. `prompts`: prompt tokens computed (prefill). `answers`: whether the step also decoded at
    /// least one running sequence. `took`: its wall-clock duration.
    pub fn stepped(&mut self, prompts: usize, answers: bool, took: Duration) {
        let seconds = took.as_secs_f32().max(1e-6);
        if prompts > 0 {
            let of_answers = if answers { self.decode.each() } else { 0.0 };
            let of_prompts = (seconds - of_answers).max(seconds * LEAST_SHARE);
            #[expect(clippy::cast_precision_loss, reason = "a batch has few tokens")]
            self.prefill.add(prompts as f32, of_prompts);
        }
        if answers && prompts == 0 {
            self.decode.add(1.0, seconds);
        } else if answers {
            self.mixed.add(1.0, seconds);
        }
    }

    /// Prefill speed in prompt tokens per second. 0 before the first prompt.
    #[must_use]
    pub fn prefill(&self) -> f32 {
        self.prefill.rate()
    }

    /// Decode speed of one sequence in tokens per second, measured over decode-only steps, or over mixed steps until there
    /// was one. 0 before the first decode.
    #[must_use]
    pub fn decode(&self) -> f32 {
        if self.decode.amount > 0.0 {
            self.decode.rate()
        } else {
            self.mixed.rate()
        }
    }
}

// === impl Work ===

impl Work {
    fn add(&mut self, amount: f32, seconds: f32) {
        let kept = (-seconds / MEMORY).exp();
        self.amount = self.amount * kept + amount;
        self.seconds = self.seconds * kept + seconds;
    }

    /// Units of work per second.
    fn rate(self) -> f32 {
        self.amount / self.seconds.max(1e-6)
    }

    /// Seconds per unit of work.
    fn each(self) -> f32 {
        self.seconds / self.amount.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20,000 prompt tokens per second, and 10 ms for answers.
    fn step(rates: &mut Rates, prompts: u16, answers: bool) {
        let seconds = f32::from(prompts) / 20_000.0 + if answers { 0.01 } else { 0.0 };
        rates.stepped(prompts.into(), answers, Duration::from_secs_f32(seconds));
    }

    #[test]
    fn an_engine_is_as_fast_whatever_comes() {
        let (mut long, mut short) = (Rates::default(), Rates::default());
        for _ in 0..200 {
            step(&mut long, 2_000, false);
            step(&mut short, 100, true);
            step(&mut short, 0, true);
        }
        assert!(Rates::default().prefill() <= 0.0);
        for rates in [long, short] {
            let prefill = rates.prefill();
            assert!((17_000.0..=20_100.0).contains(&prefill), "{prefill}");
        }
        let decode = short.decode();
        assert!((99.0..=101.0).contains(&decode), "{decode}");
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let mut rates = Rates::default();
        rates.stepped(100_000, false, Duration::from_secs(1));
        for _ in 0..600 {
            step(&mut rates, 2_000, false);
        }
        let prefill = rates.prefill();
        assert!((19_000.0..=21_000.0).contains(&prefill), "{prefill}");
    }
}
