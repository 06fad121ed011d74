//! The last decisions of this router, for whoever asks why a request went where it did.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use inferyard_placement::{Considered, Weights};

use crate::request_id::RequestId;

/// Workers that are remembered, over all decisions: about 5 MB.
const MOST_ROWS: usize = 1 << 16;
/// Decisions that are remembered.
const MOST_DECISIONS: usize = 8192;

/// One decision.
pub(crate) struct Decided {
    pub(crate) request: RequestId,
    pub(crate) model: Arc<str>,
    pub(crate) at: SystemTime,
    /// In the line, until then.
    pub(crate) waited: Duration,
    pub(crate) prompt_bytes: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) blocks: usize,
    pub(crate) weights: Weights,
    /// Every worker of the model.
    pub(crate) considered: Vec<Considered>,
    /// Which of them got the request.
    pub(crate) chosen: usize,
}

/// The last ones.
#[derive(Default)]
pub(crate) struct Journal(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    decisions: VecDeque<Arc<Decided>>,
    rows: usize,
}

// === impl Journal ===

impl Journal {
    /// Remembers a decision, and forgets the oldest ones where there is no room.
    pub(crate) fn enter(&self, decided: Arc<Decided>) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.rows += decided.considered.len();
        ring.decisions.push_back(decided);
        while ring.rows > MOST_ROWS || ring.decisions.len() > MOST_DECISIONS {
            let Some(oldest) = ring.decisions.pop_front() else {
                return;
            };
            ring.rows -= oldest.considered.len();
        }
    }

    /// All decisions about a request, the first one first.
    pub(crate) fn of(&self, request: &str) -> Vec<Arc<Decided>> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let about = ring.decisions.iter();
        about
            .filter(|decided| decided.request.as_str() == request)
            .map(Arc::clone)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use inferyard_placement::Verdict;

    use super::*;

    fn decided(request: RequestId, workers: usize) -> Arc<Decided> {
        let row = Considered {
            worker: "w".into(),
            verdict: Verdict::Unready,
        };
        Arc::new(Decided {
            request,
            model: "m".into(),
            at: SystemTime::now(),
            waited: Duration::ZERO,
            prompt_bytes: 1,
            prompt_tokens: 1,
            blocks: 0,
            weights: Weights::default(),
            considered: vec![row; workers],
            chosen: 0,
        })
    }

    #[test]
    fn a_request_has_all_its_decisions_and_memory_is_bounded() {
        let journal = Journal::default();
        let request = RequestId::random();
        journal.enter(decided(request, 2));
        journal.enter(decided(RequestId::random(), 2));
        journal.enter(decided(request, 3));
        let found = journal.of(request.as_str());
        let workers: Vec<usize> = found.iter().map(|one| one.considered.len()).collect();
        assert_eq!(workers, [2, 3]);
        for _ in 0..40 {
            journal.enter(decided(RequestId::random(), MOST_ROWS / 32));
        }
        assert!(journal.of(request.as_str()).is_empty());
        let ring = journal.0.lock().unwrap();
        assert_eq!((ring.decisions.len(), ring.rows), (32, MOST_ROWS));
    }
}
