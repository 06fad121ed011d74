//! Pauses between tries that fail.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Pauses without end: the first one, twice as long each time, up to the longest; and each once more by
/// a random part of itself, so that clients that failed together do not come back together.
#[must_use]
pub fn backoff(first: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(longest)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_differ() {
        let (first, longest) = (Duration::from_millis(25), Duration::from_secs(1));
        let pauses: Vec<Vec<_>> = (0..100)
            .map(|_| backoff(first, longest).take(12).collect())
            .collect();
        for pauses in &pauses {
            for (index, pause) in (0_u32..).zip(pauses) {
                let least = (first * 2_u32.pow(index)).min(longest);
                assert!((least..=least * 2).contains(pause), "{index}: {pause:?}");
            }
        }
        let firsts: HashSet<_> = pauses.iter().map(|pauses| pauses[0]).collect();
        assert!(firsts.len() > 90, "{} of 100 differ", firsts.len());
    }
}
