//! What a simulated GPU can do.

use std::time::Duration;

/// How fast a simulated GPU is, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Tokens of prompts computed in a second. Infinite: they cost no time.
    pub prefill_tokens_per_second: f64,
    /// The next token of one running answer.
    pub step: Duration,
    /// Every further answer makes a step this much longer.
    pub step_per_sequence: Duration,
    /// Tokens in the KV cache.
    pub kv_tokens: u64,
    /// Sequences that run together.
    pub max_running: usize,
    /// Tokens of prompts computed in one step at most.
    pub batch_tokens: u32,
}

/// Why settings make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Prompts would never be computed.
    #[error("the prefill rate of a simulated GPU must be above zero")]
    PrefillRate,
    /// Nothing could be held.
    #[error("the KV cache of a simulated GPU must hold at least one token")]
    KvTokens,
    /// Nothing could run.
    #[error("at least one sequence must be able to run on a simulated GPU")]
    MaxRunning,
    /// No prompt could be computed.
    #[error("a step of a simulated GPU must compute at least one token of a prompt")]
    BatchTokens,
    /// A step would take longer than a clock can count.
    #[error("a step of a simulated GPU must take less than an hour")]
    Slow,
}

/// No step takes longer.
const LONGEST_STEP: Duration = Duration::from_hours(1);

impl Default for Settings {
    /// Roughly a model of 8 billion parameters on one big GPU.
    fn default() -> Self {
        Self {
            prefill_tokens_per_second: 20_000.0,
            step: Duration::from_millis(8),
            step_per_sequence: Duration::from_micros(50),
            kv_tokens: 1_000_000,
            max_running: 256,
            batch_tokens: 2_048,
        }
    }
}

impl Settings {
    /// What takes no time at all: tokens come as fast as they are taken.
    #[must_use]
    pub fn instant() -> Self {
        Self {
            prefill_tokens_per_second: f64::INFINITY,
            step: Duration::ZERO,
            step_per_sequence: Duration::ZERO,
            ..Self::default()
        }
    }

    /// Whether nothing takes any time.
    #[must_use]
    pub fn is_instant(&self) -> bool {
        self.step.is_zero()
            && self.step_per_sequence.is_zero()
            && self.prefill_tokens_per_second.is_infinite()
    }

    /// Whether they make sense.
    ///
    /// # Errors
    ///
    /// What of them does not.
    pub fn check(&self) -> Result<(), SettingsError> {
        // What is not a number is not above zero either.
        if self.prefill_tokens_per_second.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
            return Err(SettingsError::PrefillRate);
        }
        if self.kv_tokens == 0 {
            return Err(SettingsError::KvTokens);
        }
        if self.max_running == 0 {
            return Err(SettingsError::MaxRunning);
        }
        if self.batch_tokens == 0 {
            return Err(SettingsError::BatchTokens);
        }
        let prefill = f64::from(self.batch_tokens) / self.prefill_tokens_per_second;
        let others = u32::try_from(self.max_running).unwrap_or(u32::MAX);
        let decode = self.step_per_sequence.checked_mul(others);
        let decode = decode.and_then(|others| others.checked_add(self.step));
        if prefill > LONGEST_STEP.as_secs_f64() || decode.is_none_or(|time| time > LONGEST_STEP) {
            return Err(SettingsError::Slow);
        }
        Ok(())
    }

    /// How long a step takes that brings each of so many answers its next token.
    pub(super) fn decode_time(&self, answers: u32) -> Duration {
        match answers.checked_sub(1) {
            Some(others) => self.step + self.step_per_sequence * others,
            None => Duration::ZERO,
        }
    }

    /// How much longer it takes by so many tokens of prompts.
    pub(super) fn prefill_time(&self, tokens: u32) -> Duration {
        Duration::from_secs_f64(f64::from(tokens) / self.prefill_tokens_per_second)
    }
}
