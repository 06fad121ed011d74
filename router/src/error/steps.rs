//! What the steps before and after `read` can fail with.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use inferyard_proto::worker::v1::{Failed, Usage, failed::Kind};

use inferyard_admission::{NoRoom, Reading};

/// The head of the request leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    /// No endpoint has this path.
    #[error("no endpoint at {method} {path}")]
    UnknownPath {
        /// The method.
        method: Method,
        /// The path.
        path: String,
    },
    /// HTTP wants exactly one valid `Host`, and only HTTP/1.0 may be without.
    #[error("not one valid Host")]
    Host,
    /// Two `Authorization` headers: readers differ in which one they take.
    #[error("several Authorization headers")]
    SeveralKeys,
    /// The body has another coding than `chunked`.
    #[error("a transfer coding that is not known")]
    TransferCoding,
    /// No request could be read from the first line and the headers.
    #[error("no request: {0:?}")]
    Unreadable(Unreadable),
    /// The endpoint has other methods.
    #[error("{path} does not take {method}")]
    WrongMethod {
        /// The method.
        method: Method,
        /// The path.
        path: String,
        /// The value of the `Allow` header: `GET, HEAD`.
        allow: &'static str,
    },
    /// `GET /v1/organization/placements/{id}` of a request that this router does not remember.
    #[error("no placement of {id}")]
    UnknownRequest {
        /// As the client named it.
        id: String,
    },
    /// `GET /v1/models/{id}` of a model that is not there.
    #[error("no model {id}")]
    UnknownModel {
        /// As the client named it.
        id: String,
    },
}

/// Why no request could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is not HTTP.
    Malformed,
    /// The path and query are too long.
    LongUri,
    /// The headers are too many or too large.
    LargeHead,
}

/// The caller is nobody we know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthenticateError {
    /// No `Authorization` header, or an empty one.
    #[error("no key")]
    NoKey,
    /// `Authorization` is not `Bearer …`.
    #[error("not a bearer key")]
    NotBearer,
    /// No such key; holds what may be shown of it, see [`super::masked`].
    #[error("unknown key")]
    UnknownKey {
        /// First and last characters only.
        masked: String,
    },
    /// The key is past its date.
    #[error("expired key")]
    Expired,
    /// The key is disabled.
    #[error("disabled key")]
    Disabled,
    /// The key is good, but nobody declares its plan any more.
    #[error("a key on the plan {plan}, which does not exist")]
    NoPlan {
        /// Its name.
        plan: String,
    },
    /// The key is good, but its plan grants what only the platform's plans may.
    #[error("a key on the plan {plan}, which is refused")]
    PlanRefused {
        /// Its name.
        plan: String,
    },
    /// Whether there is such a key cannot be found out at the moment.
    #[error("the key store cannot be reached")]
    StoreAway,
    /// The router has just started and knows of no key.
    #[error("nothing is known yet of what is declared")]
    Pending,
}

/// The body did not arrive as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// `Content-Type` is not JSON.
    #[error("not JSON by its content type")]
    NotJson {
        /// What it is instead.
        content_type: Option<String>,
    },
    /// `Content-Encoding` is not `identity`.
    #[error("compressed")]
    Encoded {
        /// What it is.
        encoding: String,
    },
    /// More bytes than the limit.
    #[error("body above {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body came too slowly.
    #[error("body not complete after {limit:?}")]
    TooSlow {
        /// The limit.
        limit: Duration,
    },
    /// The connection broke or the framing is wrong.
    #[error("body cut off")]
    CutOff,
}

/// The request may not go on, or not now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReserveError {
    /// A limit of the plan or of the key is reached.
    #[error("a limit is reached")]
    Denied {
        /// What was to be used.
        model: Arc<str>,
        /// Whose limit it is.
        account: Arc<str>,
        /// Every limit; those that deny say so.
        readings: Arc<[Reading]>,
    },
    /// A visitor has used what there is without a key.
    #[error("the visitor's preview is used up")]
    PreviewExhausted {
        /// How many requests that were.
        limit: u64,
        /// Where there are keys.
        sign_up: Option<Arc<str>>,
        /// Every limit.
        readings: Arc<[Reading]>,
    },
    /// Too many requests of a visitor were refused for their own fault.
    #[error("{most} requests of the visitor were refused")]
    TurnedAway {
        /// How many those are.
        most: u32,
        /// When requests are looked at again.
        retry_after: Duration,
        /// Where there are keys.
        sign_up: Option<Arc<str>>,
    },
    /// All visitors together have used what there is without a key.
    #[error("the preview's tokens of today are used up")]
    PoolExhausted {
        /// Where there are keys.
        sign_up: Option<Arc<str>>,
        /// How long it is until there are tokens again.
        tomorrow: Duration,
    },
    /// What the request uses could not be recorded.
    #[error("usage cannot be recorded")]
    NoRoom {
        /// Why.
        #[source]
        why: NoRoom,
        /// When to try again.
        retry_after: Duration,
    },
    /// What the store of limits keeps of the account is damaged.
    #[error("the limits of the account are damaged")]
    Damaged {
        /// Whose they are.
        account: Arc<str>,
    },
    /// The limits cannot be known now, and the plan does not go on without.
    #[error("the limits cannot be known now")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
}

/// The ledger did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrganizationError {
    /// This router has none.
    #[error("there is no ledger")]
    NoLedger,
    /// It cannot be reached, or does not speak HTTP.
    #[error("the ledger cannot be reached")]
    Unreachable {
        /// For the log.
        #[source]
        source: std::io::Error,
    },
}

/// No worker can take the request now, or could within its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// Every worker of the model is still reading it.
    #[error("the model is loading")]
    Loading {
        /// How far the furthest one is, 0 to 1.
        progress: f32,
    },
    /// The model has no worker that answers.
    #[error("no worker answers")]
    NoWorker,
    /// All workers are full, and so is the plan's part of the line.
    #[error("{most} requests of the plan wait already")]
    QueueFull {
        /// How many may wait.
        most: usize,
        /// When to try again, at the pace at which the line moves.
        retry_after: Duration,
    },
    /// All workers were full for as long as the plan lets a request wait.
    #[error("no worker had room within {waited:?}")]
    WaitOver {
        /// How long that was.
        waited: Duration,
        /// When to try again, at the pace at which the line moves.
        retry_after: Duration,
    },
    /// This router is shutting down.
    #[error("the router is shutting down")]
    ShuttingDown,
}

/// The worker did not answer, or not to the end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The request is one that no worker of this model can serve.
    #[error("the worker refused the request")]
    Invalid {
        /// For the caller.
        message: String,
        /// The field at fault; empty: none.
        param: String,
    },
    /// The prompt does not fit.
    #[error("the prompt is longer than the context")]
    ContextLength {
        /// For the caller, with the numbers.
        message: String,
        /// The field at fault; empty: none.
        param: String,
    },
    /// The prompt has more tokens than what was set aside can pay.
    #[error("the prompt has {prompt_tokens} tokens, more than is set aside for it")]
    PromptTooExpensive {
        /// As the worker counted it.
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
    /// The client left its answer unread for too long.
    #[error("the answer was left unread for too long")]
    SlowReader,
    /// The engine broke under this request.
    #[error("the engine broke: {message}")]
    Internal {
        /// For the log.
        message: String,
    },
    /// The worker serves another model than the catalog says.
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
    /// The engine beside the worker broke off while it had only this request.
    #[error("the engine ended under the request: {message}")]
    EngineCrashed {
        /// For the log.
        message: String,
    },
    /// A second worker broke off under the request: a third try would risk a third one.
    #[error("two workers died under the request")]
    DiedAgain,
    /// The request ended two engines that had no other, and is refused for a while.
    #[error("the request ends engines")]
    CrashesEngine,
    /// The events are not in the order of the contract.
    #[error("the worker broke the contract: {0}")]
    Contract(&'static str),
}

impl StreamError {
    /// The request is at fault, not the worker.
    pub(crate) fn is_of_the_caller(&self) -> bool {
        matches!(
            self,
            Self::Invalid { .. } | Self::ContextLength { .. } | Self::PromptTooExpensive { .. }
        )
    }

    /// The worker or its engine is at fault: not the request, the load, a start or an end in order.
    pub(crate) fn is_of_the_worker(&self) -> bool {
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

    /// What a worker's `Failed` means.
    pub(crate) fn from_failed(failed: Failed) -> (Self, Option<Usage>) {
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
