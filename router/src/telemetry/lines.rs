//! Which requests get a line of the log: those that cost something all do, others at a bounded rate.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use inferyard_listen::Throttle;

/// Lines for each kind of refusal, in each period.
const MOST_LINES: u32 = 50;
const PERIOD: Duration = Duration::from_secs(10);

/// The lines of requests that no worker had: anyone can cause them, as often as the network carries.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<HashMap<Kind, Throttle>>);

/// Route and code; both are from closed sets.
type Kind = (&'static str, &'static str);

// === impl Lines ===

impl Lines {
    /// Whether a line of this kind may be written now, and if so how many were suppressed since the last one.
    pub(crate) fn admit(&self, route: &'static str, code: &'static str) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry((route, code));
        kind.or_insert_with(|| Throttle::new(MOST_LINES, PERIOD))
            .admit()
    }
}
