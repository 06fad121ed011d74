//! The results of a trace on a fleet.

use std::time::Duration;

use serde::Serialize;

/// The figures of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) requests: usize,
    /// Share of prompt tokens that came from caches.
    pub(crate) hits: f64,
    /// Tokens (computed and produced) of the busiest worker, divided by the mean.
    pub(crate) spread: f64,
    /// Seconds to the first token: p50, p95, p99.
    pub(crate) first_token: [f64; 3],
    /// Share of time in which the fleet's workers computed.
    pub(crate) busy: f64,
}

/// Counters of a run.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) first_tokens: Vec<Duration>,
    pub(crate) prompt: u64,
    pub(crate) cached: u64,
    /// Tokens computed and produced, per worker.
    pub(crate) worked: Vec<u64>,
    pub(crate) busy: Duration,
    pub(crate) ended: Duration,
}

// === impl Tally ===

impl Tally {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            first_tokens: Vec::new(),
            prompt: 0,
            cached: 0,
            worked: vec![0; workers],
            busy: Duration::ZERO,
            ended: Duration::ZERO,
        }
    }

    pub(crate) fn outcome(mut self) -> Outcome {
        self.first_tokens.sort_unstable();
        let at = |share: f64| quantile(&self.first_tokens, share).as_secs_f64();
        let all: u64 = self.worked.iter().sum();
        let most = self.worked.iter().copied().max().unwrap_or(0);
        let workers = self.worked.len();
        Outcome {
            requests: self.first_tokens.len(),
            hits: share(self.cached, self.prompt),
            spread: share(most * workers as u64, all),
            first_token: [at(0.5), at(0.95), at(0.99)],
            busy: self.busy.as_secs_f64()
                / (self.ended.as_secs_f64() * share(workers as u64, 1)).max(1e-9),
        }
    }
}

/// The value at this share of the sorted values.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index below the length"
    )]
    let index = (share * sorted.len() as f64) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(index.min(last)).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
