//! The interval in which tokens are counted, after a warm-up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Durations of one measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// Warm-up, during which nothing is counted.
    pub(super) warm_up: Duration,
    /// Interval in which tokens are counted.
    pub(super) length: Duration,
}

// === impl Stretch ===

impl Stretch {
    /// Tokens per second, from a counter that other tasks increment.
    pub(super) async fn speed(self, tokens: &Arc<AtomicU64>) -> f64 {
        sleep(self.warm_up).await;
        let (before, begin) = (tokens.load(Ordering::Relaxed), Instant::now());
        sleep(self.length).await;
        let told = tokens.load(Ordering::Relaxed) - before;
        #[expect(clippy::cast_precision_loss, reason = "few enough to be exact")]
        let told = told as f64;
        told / begin.elapsed().as_secs_f64()
    }
}
