//! Errors of a request against the workers.

use inferyard_proto::worker::v1::{Failed, Usage, failed::Kind};

use crate::place::PlaceError;
use inferyard_admission::ReserveError;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum DispatchError {
    /// No worker can take it.
    Place(#[from] PlaceError),
    /// The exact cost of its prompt cannot be reserved.
    Reserve(#[from] ReserveError),
    /// The worker failed.
    Stream(#[from] StreamError),
}

/// The worker gave no answer, or an incomplete one.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// No worker of this model can serve the request.
    #[error("the worker refused the request")]
    Invalid {
        /// For the caller.
        message: String,
        /// The field at fault; empty: none.
        param: String,
    },
    /// The prompt exceeds the context length.
    #[error("the prompt is longer than the context")]
    ContextLength {
        /// For the caller, with the numbers.
        message: String,
        /// The field at fault; empty: none.
        param: String,
    },
    /// The prompt has more tokens than the reservation pays for.
    #[error("the prompt has {prompt_tokens} tokens, more than is set aside for it")]
    PromptTooExpensive {
        /// The worker's count.
        prompt_tokens: u64,
    },
    /// The worker's queue is full.
    #[error("the worker's queue is full")]
    Overloaded,
    /// The worker is still reading the model.
    #[error("the worker is loading its model")]
    Loading,
    /// The worker is shutting down.
    #[error("the worker is shutting down")]
    Draining,
    /// The deadline passed, here or at the worker.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// The client did not read its answer for too long.
    #[error("the answer was left unread for too long")]
    SlowReader,
    /// The engine failed the request.
    #[error("the engine broke: {message}")]
    Internal {
        /// For the log.
        message: String,
    },
    /// The worker serves another model than the catalog declares.
    #[error("the worker serves another model")]
    WrongModel,
    /// The worker could not be reached.
    #[error("the worker cannot be reached: {message}")]
    Unreachable {
        /// For the log.
        message: String,
    },
    /// The connection broke after the request was sent.
    #[error("the worker died under the request: {message}")]
    Died {
        /// For the log.
        message: String,
    },
    /// The engine process crashed while it had only this request.
    #[error("the engine ended under the request: {message}")]
    EngineCrashed {
        /// For the log.
        message: String,
    },
    /// A second worker died under the request: another attempt could kill a third one.
    #[error("two workers died under the request")]
    DiedAgain,
    /// The request crashed two engines that had no other request, and is refused for a while.
    #[error("the request ends engines")]
    CrashesEngine,
    /// The events violate the worker protocol.
    #[error("the worker broke the contract: {0}")]
    Contract(&'static str),
}

// === impl StreamError ===

impl StreamError {
    /// The label for metrics and logs, from a closed set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid_value",
            Self::ContextLength { .. } => "context_length_exceeded",
            Self::PromptTooExpensive { .. } => "insufficient_quota",
            Self::Overloaded => "server_is_overloaded",
            Self::Loading => "model_loading",
            Self::Draining | Self::WrongModel => "no_worker",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::SlowReader => "slow_reader",
            Self::Internal { .. } => "worker_internal",
            Self::Unreachable { .. } => "worker_unreachable",
            Self::Died { .. } => "worker_died",
            Self::EngineCrashed { .. } => "engine_crashed",
            Self::DiedAgain => "worker_died_again",
            Self::CrashesEngine => "request_crashes_engine",
            Self::Contract(_) => "worker_contract",
        }
    }

    /// Whether the request is at fault.
    #[must_use]
    pub fn is_of_the_caller(&self) -> bool {
        matches!(
            self,
            Self::Invalid { .. } | Self::ContextLength { .. } | Self::PromptTooExpensive { .. }
        )
    }

    /// Whether the worker or its engine is at fault, and not the request, the load, or a regular start or shutdown.
    #[must_use]
    pub fn is_of_the_worker(&self) -> bool {
        match self {
            Self::Internal { .. }
            | Self::Unreachable { .. }
            | Self::Died { .. }
            | Self::EngineCrashed { .. }
            | Self::Contract(_) => true,
            Self::Invalid { .. }
            | Self::ContextLength { .. }
            | Self::PromptTooExpensive { .. }
            | Self::Overloaded
            | Self::Loading
            | Self::Draining
            | Self::DeadlineExceeded
            | Self::SlowReader
            | Self::WrongModel
            | Self::DiedAgain
            | Self::CrashesEngine => false,
        }
    }

    /// Converts a worker's `Failed`.
    #[must_use]
    pub fn from_failed(failed: Failed) -> (Self, Option<Usage>) {
        let Failed {
            message,
            param,
            usage,
            prompt_tokens,
            ..
        } = failed;
        let error = match Kind::try_from(failed.kind).unwrap_or(Kind::Unspecified) {
            Kind::InvalidRequest => Self::Invalid { message, param },
            Kind::ContextLengthExceeded => Self::ContextLength { message, param },
            Kind::Overloaded => Self::Overloaded,
            Kind::Loading => Self::Loading,
            Kind::Draining => Self::Draining,
            Kind::DeadlineExceeded => Self::DeadlineExceeded,
            Kind::SlowReader => Self::SlowReader,
            Kind::UnknownModel => Self::WrongModel,
            Kind::Cancelled => Self::Contract("a request that goes on was cancelled"),
            Kind::PromptTooExpensive => Self::PromptTooExpensive {
                prompt_tokens: prompt_tokens.into(),
            },
            Kind::EngineCrashed => Self::EngineCrashed { message },
            Kind::Internal | Kind::Unspecified => Self::Internal { message },
        };
        (error, usage)
    }
}
