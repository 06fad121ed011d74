//! Drives a number of streams for a while, and measures them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::way::Way;

/// The result of a number of streams in one interval.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Tokens of all answers.
    pub(crate) tokens: u64,
    /// From the first request to the end of the last answer.
    pub(crate) seconds: f64,
    /// Time to the first token of each request, in milliseconds.
    pub(crate) first_token_ms: Vec<f64>,
    /// CPU time of the process with the engine, per token, in microseconds.
    pub(crate) engine_us_per_token: f64,
    /// CPU time of the router per token, in microseconds; 0 without a router.
    pub(crate) router_us_per_token: f64,
}

/// The results of one stream.
#[derive(Default)]
struct Seen {
    tokens: u64,
    first_token_ms: Vec<f64>,
}

// === impl Measurement ===

impl Measurement {
    pub(crate) fn tokens_per_second(&self) -> f64 {
        to_f64(self.tokens) / self.seconds
    }

    /// CPU time per token, in microseconds.
    pub(crate) fn us_per_token(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / to_f64(self.tokens)
    }
}

/// Starts requests on every stream until `length` has passed, and waits for the last answer.
pub(crate) async fn drive<W: Way>(ways: Vec<W>, length: Duration) -> Result<Measurement> {
    // Numbers are unique within this process, so that no prompt repeats: see `prompt::messages`.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let begin = Instant::now();
    let mut streams = JoinSet::new();
    for mut way in ways {
        streams.spawn(async move {
            let mut seen = Seen::default();
            while begin.elapsed() < length {
                let asked = Instant::now();
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                let answer = way.answer(number).await?;
                seen.tokens += u64::from(answer.tokens);
                let waited = answer.first_token.duration_since(asked);
                seen.first_token_ms.push(waited.as_secs_f64() * 1e3);
            }
            anyhow::Ok(seen)
        });
    }
    let mut measurement = Measurement::default();
    while let Some(seen) = streams.join_next().await {
        let seen = seen??;
        measurement.tokens += seen.tokens;
        measurement.first_token_ms.extend(seen.first_token_ms);
    }
    measurement.seconds = begin.elapsed().as_secs_f64();
    Ok(measurement)
}

#[expect(clippy::cast_precision_loss, reason = "no run produces 2^52 tokens")]
fn to_f64(count: u64) -> f64 {
    count as f64
}
