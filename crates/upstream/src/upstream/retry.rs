//! Which failures before the first token are retried on another worker.

use std::sync::Arc;

use super::error::{DispatchError, StreamError};
use crate::place::{PlaceError, Worker};

/// Attempts at most, so that one request does not try every worker of a full fleet.
const MOST_TRIES: usize = 5;

/// The attempts of one request so far.
#[derive(Default)]
pub(crate) struct RetryPolicy {
    workers: Vec<Arc<Worker>>,
    /// Whether a worker died under the request. The request may be the cause, so at most one more attempt follows.
    broke: bool,
    /// Workers that reported room but refused the request, since it last waited.
    refusals: usize,
    last: Option<StreamError>,
}

// === impl RetryPolicy ===

impl RetryPolicy {
    /// Workers that are not tried again.
    pub(crate) fn workers(&self) -> &[Arc<Worker>] {
        &self.workers
    }

    /// Records a failure and returns its label for a retry; an error is final.
    pub(crate) fn failed(
        &mut self,
        worker: Arc<Worker>,
        error: StreamError,
    ) -> Result<&'static str, StreamError> {
        let again = match &error {
            // The worker may be tried again: the pool excludes it until it reports room.
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

    /// Whether the request should wait in the queue, because workers refused it [`MOST_TRIES`] times.
    pub(crate) fn should_wait(&mut self) -> bool {
        let enough = self.refusals >= MOST_TRIES;
        if enough {
            self.refusals = 0;
        }
        enough
    }

    /// The error if no worker is left. The last attempt's failure is more useful than the lack of workers; an error
    /// of the queue has its time to retry.
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
