//! The last placement decisions of this router, for explanations.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use inferyard_placement::{Candidate, Weights};
use parking_lot::Mutex;

use inferyard_domain::{ModelId, RequestId};

/// Candidates in all remembered decisions; bounds the log to about 5 MB.
const MOST_ROWS: usize = 1 << 16;
/// Decisions remembered at most.
const MOST_DECISIONS: usize = 8192;

/// Why a request went to its worker.
pub struct PlacementDecision {
    /// The request.
    pub request: RequestId,
    /// The id of its model.
    pub model: ModelId,
    /// When it was placed.
    pub at: SystemTime,
    /// How long it waited in the queue.
    pub waited: Duration,
    /// Bytes of its prompt.
    pub prompt_bytes: u64,
    /// Estimated tokens of its prompt.
    pub prompt_tokens: u64,
    /// Prefix blocks of its prompt.
    pub blocks: usize,
    /// The weights of the cost function.
    pub weights: Weights,
    /// Every worker of the model with its verdict.
    pub candidates: Vec<Candidate>,
    /// The index of the chosen candidate.
    pub chosen: usize,
}

/// A bounded log of decisions.
#[derive(Default)]
pub struct DecisionLog(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    decisions: VecDeque<Arc<PlacementDecision>>,
    rows: usize,
}

// === impl DecisionLog ===

impl DecisionLog {
    /// Adds a decision, and drops the oldest ones beyond the bounds.
    pub fn enter(&self, decision: Arc<PlacementDecision>) {
        let mut ring = self.0.lock();
        ring.rows += decision.candidates.len();
        ring.decisions.push_back(decision);
        while ring.rows > MOST_ROWS || ring.decisions.len() > MOST_DECISIONS {
            let Some(oldest) = ring.decisions.pop_front() else {
                return;
            };
            ring.rows -= oldest.candidates.len();
        }
    }

    /// All decisions about a request, oldest first.
    pub fn of(&self, request: &str) -> Vec<Arc<PlacementDecision>> {
        let ring = self.0.lock();
        let about = ring.decisions.iter();
        about
            .filter(|decision| decision.request.as_str() == request)
            .map(Arc::clone)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use inferyard_placement::Verdict;

    use super::*;

    fn decision(request: RequestId, workers: usize) -> Arc<PlacementDecision> {
        let row = Candidate {
            worker: "w".into(),
            verdict: Verdict::Unready,
        };
        Arc::new(PlacementDecision {
            request,
            model: "m".into(),
            at: SystemTime::now(),
            waited: Duration::ZERO,
            prompt_bytes: 1,
            prompt_tokens: 1,
            blocks: 0,
            weights: Weights::default(),
            candidates: vec![row; workers],
            chosen: 0,
        })
    }

    #[test]
    fn a_request_has_all_its_decisions_and_memory_is_bounded() {
        let decision_log = DecisionLog::default();
        let request = RequestId::random();
        decision_log.enter(decision(request, 2));
        decision_log.enter(decision(RequestId::random(), 2));
        decision_log.enter(decision(request, 3));
        let found = decision_log.of(request.as_str());
        let workers: Vec<usize> = found.iter().map(|one| one.candidates.len()).collect();
        assert_eq!(workers, [2, 3]);
        for _ in 0..40 {
            decision_log.enter(decision(RequestId::random(), MOST_ROWS / 32));
        }
        assert!(decision_log.of(request.as_str()).is_empty());
        let ring = decision_log.0.lock();
        assert_eq!((ring.decisions.len(), ring.rows), (32, MOST_ROWS));
    }
}
