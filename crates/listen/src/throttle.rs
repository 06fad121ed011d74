//! Rate limit for log lines that unknown clients can cause, with a count of suppressed lines.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lets a bounded number of log lines through in each period.
#[derive(Debug)]
pub struct Throttle {
    most: u32,
    period: Duration,
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    written: u32,
    suppressed: u64,
}

// === impl Throttle ===

impl Throttle {
    /// At most `most` lines in each `period`.
    #[must_use]
    pub const fn new(most: u32, period: Duration) -> Self {
        Self {
            most,
            period,
            window: Mutex::new(None),
        }
    }

    /// Whether a line may be written now, and if so how many were suppressed since the last one.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock();
        let window = window.get_or_insert(Window {
            began: now,
            written: 0,
            suppressed: 0,
        });
        if now.duration_since(window.began) >= self.period {
            window.began = now;
            window.written = 0;
        }
        if window.written >= self.most {
            window.suppressed += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_bound_are_counted_and_told_with_the_next_one() {
        let throttle = Throttle::new(2, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| throttle.admit_at(start + Duration::from_secs(seconds));
        assert_eq!(at(0), Some(0));
        assert_eq!(at(1), Some(0));
        assert_eq!(at(2), None);
        assert_eq!(at(9), None);
        assert_eq!(at(10), Some(2));
        assert_eq!(at(11), Some(0));
        assert_eq!(at(12), None);
    }
}
