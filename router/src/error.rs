//! The error table: the only place where the error of a step gets its status, type, code and public text.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use inferyard_admission::LimitStatus;

use crate::accept::AcceptError;
use crate::authenticate::AuthenticateError;
use crate::collect::ReceiveError;
use crate::organization::OrganizationError;
use crate::stopped::StoppedError;
use inferyard_admission::ReserveError;
use inferyard_upstream::CrashesEngine;
use inferyard_upstream::PlaceError;
use inferyard_upstream::{DispatchError, StreamError};
use inferyard_wire::ContractError;
use inferyard_wire::{Frames, ReadError};

mod accept;
mod authenticate;
mod limits;
mod place;
mod row;
mod stopped;

use row::Row;

/// Maximum length of a worker's message in a response, in characters.
const LONGEST_MESSAGE: usize = 1_000;

/// An error of any step.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) enum Error {
    /// The head is rejected.
    Accept(#[from] AcceptError),
    /// The caller is not authenticated.
    Authenticate(#[from] AuthenticateError),
    /// The body could not be received.
    Receive(#[from] ReceiveError),
    /// The body is not a valid request.
    Read(#[from] ReadError),
    /// The model gets no workers.
    Stopped(#[from] StoppedError),
    /// The request has crashed engines.
    Quarantined(#[from] CrashesEngine),
    /// A limit denies the request, or limits cannot be checked.
    Reserve(#[from] ReserveError),
    /// No worker can take the request.
    Place(#[from] PlaceError),
    /// The worker failed.
    Stream(#[from] StreamError),
    /// The ledger did not answer.
    Organization(#[from] OrganizationError),
}

// === impl Error ===

impl Error {
    /// The label for metrics and logs, from a closed set.
    pub(crate) fn label(&self) -> &'static str {
        self.row().label
    }

    /// The limits that were checked, if one of them denied the request.
    pub(crate) fn statuses(&self) -> Option<&[LimitStatus]> {
        match self {
            Self::Reserve(
                ReserveError::Denied { statuses, .. }
                | ReserveError::PreviewExhausted { statuses, .. },
            ) => Some(statuses),
            _ => None,
        }
    }

    /// Whether the request itself is at fault, as found by the router or a worker; it is then not charged. This
    /// includes a prompt that costs more than the rest of the budget.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Receive(_) | Self::Read(_) | Self::Reserve(_) => true,
            Self::Organization(error) => matches!(error, OrganizationError::Receive(_)),
            Self::Stream(error) => error.is_of_the_caller(),
            Self::Accept(_)
            | Self::Authenticate(_)
            | Self::Stopped(_)
            | Self::Quarantined(_)
            | Self::Place(_) => false,
        }
    }

    /// The complete response: status, headers of the error, and JSON body.
    pub(crate) fn response(&self, request_id: &str) -> Response<Bytes> {
        let row = self.row();
        let mut body = BytesMut::with_capacity(512);
        row.object().write(request_id, &mut body);
        let mut response = Response::new(body.freeze());
        *response.status_mut() = row.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        row.head(headers);
        response
    }

    /// Ends a started stream with the error object.
    pub(crate) fn end(&self, frames: &mut Frames, out: &mut BytesMut) {
        frames.fail(&self.row().object(), out);
    }

    fn row(&self) -> Row<'_> {
        match self {
            Self::Accept(error) => accept::row(error),
            Self::Authenticate(error) => authenticate::row(error),
            Self::Receive(error) => receive(error),
            Self::Read(error) => Row {
                code: error.code(),
                param: error.param(),
                ..Row::invalid(
                    StatusCode::BAD_REQUEST,
                    error.code().unwrap_or("invalid_request"),
                    error.to_string(),
                )
            },
            Self::Stopped(error) => stopped::row(error),
            Self::Quarantined(CrashesEngine) => crashes_engine(),
            Self::Reserve(error) => limits::reserve(error),
            Self::Place(error) => place::row(error),
            Self::Stream(error) => stream(error),
            Self::Organization(error) => organization(error),
        }
    }
}

impl From<DispatchError> for Error {
    fn from(error: DispatchError) -> Self {
        match error {
            DispatchError::Place(error) => error.into(),
            DispatchError::Reserve(error) => error.into(),
            DispatchError::Stream(error) => error.into(),
        }
    }
}

impl From<ContractError> for Error {
    fn from(ContractError(what): ContractError) -> Self {
        StreamError::Contract(what).into()
    }
}

fn receive(error: &ReceiveError) -> Row<'_> {
    let (status, label, message) = match error {
        ReceiveError::NotJson { content_type } => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            format!(
                "The body must be JSON: send the header `Content-Type: application/json`{}.",
                content_type
                    .as_ref()
                    .map_or_else(String::new, |got| format!(" instead of `{got}`"))
            ),
        ),
        ReceiveError::Encoded { encoding } => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "encoded",
            format!(
                "The body must not be compressed: send it without `Content-Encoding: {encoding}`."
            ),
        ),
        ReceiveError::TooLarge { limit } => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("The body is larger than the limit of {limit} bytes. Send a shorter request."),
        ),
        ReceiveError::TooSlow { limit } => (
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            format!(
                "The body did not arrive within {} seconds. Send it again.",
                limit.as_secs()
            ),
        ),
        ReceiveError::CutOff => (
            StatusCode::BAD_REQUEST,
            "body_cut_off",
            "The body ended before its end. Send it again.".to_owned(),
        ),
    };
    Row {
        code: None,
        ..Row::invalid(status, label, message)
    }
}

fn stream(error: &StreamError) -> Row<'_> {
    match error {
        StreamError::Invalid { message, param } => Row {
            param: named(param),
            ..Row::invalid(StatusCode::BAD_REQUEST, "invalid_value", public(message))
        },
        StreamError::ContextLength { message, param } => Row {
            param: named(param).or(Some("messages")),
            ..Row::invalid(
                StatusCode::BAD_REQUEST,
                "context_length_exceeded",
                public(message),
            )
        },
        StreamError::PromptTooExpensive { prompt_tokens } => limits::too_expensive(*prompt_tokens),
        StreamError::Overloaded => Row::unavailable(
            "server_is_overloaded",
            "2",
            "The model is overloaded at the moment. Try again in a few seconds.",
        ),
        StreamError::Loading => Row::unavailable(
            "model_loading",
            "5",
            "The model is being loaded. Try again in a few seconds.",
        ),
        StreamError::Draining => Row::unavailable(
            "no_worker",
            "2",
            "The model's workers are being replaced. Try again in a few seconds.",
        ),
        StreamError::WrongModel => Row::unavailable(
            "no_worker",
            "5",
            "No worker of this model is available at the moment. Try again in a few seconds.",
        ),
        StreamError::DeadlineExceeded => Row::server(
            StatusCode::GATEWAY_TIMEOUT,
            "deadline_exceeded",
            "The answer was not complete within the time limit. Ask for fewer tokens, or stream.",
        ),
        StreamError::SlowReader => Row {
            code: None,
            ..Row::server(
                StatusCode::INTERNAL_SERVER_ERROR,
                "slow_reader",
                "The answer was given up because it was not read for too long.",
            )
        },
        StreamError::Internal { .. } => Row::broken("worker_internal"),
        StreamError::Unreachable { .. } => Row::broken("worker_unreachable"),
        StreamError::Died { .. } => Row::broken("worker_died"),
        StreamError::EngineCrashed { .. } => Row::broken("engine_crashed"),
        StreamError::DiedAgain => died_again(),
        StreamError::CrashesEngine => crashes_engine(),
        StreamError::Contract(_) => Row::broken("worker_contract"),
    }
}

/// Two workers died with this request: another attempt could crash more.
fn died_again() -> Row<'static> {
    Row {
        code: None,
        retry: Some(row::Retry::NEVER),
        ..Row::server(
            StatusCode::INTERNAL_SERVER_ERROR,
            "worker_died_again",
            "Two workers failed while they processed your request, so it was not tried again.",
        )
    }
}

fn crashes_engine() -> Row<'static> {
    Row {
        retry: Some(row::Retry::NEVER),
        ..Row::invalid(
            StatusCode::BAD_REQUEST,
            "request_crashes_engine",
            "This request ended the engine of this model twice, so it is refused for five minutes. \
             Please change it; leave out fields that are not part of OpenAI's API first.",
        )
    }
}

fn organization(error: &OrganizationError) -> Row<'_> {
    match error {
        OrganizationError::Receive(error) => receive(error),
        OrganizationError::NoLedger => Row::invalid(
            StatusCode::NOT_FOUND,
            "no_ledger",
            "This router has no ledger, so it cannot say what was used. Start it with --ledger and \
             the address of an `inferyard ledger`, or with --sqlite and a path to keep one itself.",
        ),
        OrganizationError::Unreachable { .. } => Row::unavailable(
            "ledger_unavailable",
            "5",
            "The ledger is not available at the moment. Try again in a few seconds.",
        ),
    }
}

/// Workers leave the field empty if no parameter is at fault.
fn named(param: &str) -> Option<&str> {
    Some(param).filter(|param| !param.is_empty())
}

/// A worker's message for the caller, truncated to `LONGEST_MESSAGE`.
fn public(message: &str) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        _ if message.is_empty() => "The model cannot serve this request.".to_owned(),
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
