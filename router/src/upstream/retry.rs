//! Which failures before the first token are tried again on another worker.

use std::sync::Arc;

use super::error::{DispatchError, StreamError};
use crate::place::{PlaceError, Worker};

/// A full fleet is not asked through to the last worker.
const MOST_TRIES: usize = 5;

/// What the attempts of one request have come to.
#[derive(Default)]
pub(crate) struct RetryPolicy {
    workers: Vec<Arc<Worker>>,
    /// Whether a worker broke under the request. A second one may break because of it, and one
    /// request must not go on to break the fleet.
    broke: bool,
    /// Workers that said that they had room, and had none; since it last waited.
    refusals: usize,
    last: Option<StreamError>,
}

// === impl RetryPolicy ===

impl RetryPolicy {
    /// The workers that are not asked again.
    pub(crate) fn workers(&self) -> &[Arc<Worker>] {
        &self.workers
    }

    /// Takes note of a failure and gives its label; an error is final.
    pub(crate) fn failed(
        &mut self,
        worker: Arc<Worker>,
        error: StreamError,
    ) -> Result<&'static str, StreamError> {
        let again = match &error {
            // It will have room again, and until it says so it is not asked.
            StreamError::Overloaded => {
                self.refusals += 1;
                return Ok(self.last.insert(error).label());
            }
            StreamError::Loading
            | StreamError::Draining
            | StreamError::WrongModel
            | StreamError::Unreachable { .. } => true,
            StreamError::Died { .. } | StreamError::EngineCrashed { .. } if self.broke => {
                return Err(StreamError::DiedAgain);
            }
            StreamError::Died { .. }
            | StreamError::EngineCrashed { .. }
            | StreamError::Internal { .. }
            | StreamError::Contract(_) => !std::mem::replace(&mut self.broke, true),
            StreamError::Invalid { .. }
            | StreamError::ContextLength { .. }
            | StreamError::PromptTooExpensive { .. }
            | StreamError::DeadlineExceeded
            | StreamError::SlowReader
            | StreamError::DiedAgain
            | StreamError::CrashesEngine => false,
        };
        self.workers.push(worker);
        if !again || self.workers.len() >= MOST_TRIES {
            return Err(error);
        }
        Ok(self.last.insert(error).label())
    }

    /// Whether so many refused it that it should wait before it asks again.
    pub(crate) fn should_wait(&mut self) -> bool {
        let enough = self.refusals >= MOST_TRIES;
        if enough {
            self.refusals = 0;
        }
        enough
    }

    /// What to say when no worker is left: the last one's failure says more than its absence, and the line
    /// knows best when to come back.
    pub(crate) fn none_left(self, none: PlaceError) -> DispatchError {
        match (self.last, none) {
            (
                Some(last),
                PlaceError::Loading { .. } | PlaceError::NoWorker | PlaceError::ShuttingDown,
            ) => last.into(),
            (_, none) => none.into(),
        }
    }
}
