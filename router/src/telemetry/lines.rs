//! Bounds the log lines of requests that cost their clients nothing.

use std::collections::HashMap;

use std::time::Duration;

use inferyard_listen::Throttle;
use parking_lot::Mutex;

/// Maximum number of lines per kind and period.
const MOST_LINES: u32 = 50;
const PERIOD: Duration = Duration::from_secs(10);

/// Log lines of requests that reached no worker or were refused: any client can cause them at any rate.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<HashMap<Kind, Throttle>>);

/// Route and code; both come from closed sets.
type Kind = (&'static str, &'static str);

// === impl Lines ===

impl Lines {
    /// Whether a line of this kind may be written now, and how many were suppressed since the last one.
    pub(crate) fn admit(&self, route: &'static str, code: &'static str) -> Option<u64> {
        let mut kinds = self.0.lock();
        let kind = kinds.entry((route, code));
        kind.or_insert_with(|| Throttle::new(MOST_LINES, PERIOD))
            .admit()
    }
}
