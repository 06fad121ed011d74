//! The error table: here alone a step's failure gets a status, a type, a code and a public text.

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

use crate::read::{Length, NumberKind, Param, ReadError};

mod row;
mod steps;

use row::Row;
pub(crate) use steps::{AcceptError, AuthenticateError, PlaceError, ReceiveError, StreamError};

/// What the key page of the documentation says to everybody without a key.
const SET_THE_KEY: &str = "Check that your API key is set and sent as a Bearer token, in the header \
                           `Authorization: Bearer YOUR_KEY`.";
/// The longest text of a worker that goes on to the caller.
const LONGEST_MESSAGE: usize = 1_000;

/// A failure of any step.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) enum Error {
    /// The head leads nowhere.
    Accept(#[from] AcceptError),
    /// The caller is unknown.
    Authenticate(#[from] AuthenticateError),
    /// The body did not arrive.
    Receive(#[from] ReceiveError),
    /// The body is not a request that can be served.
    Read(#[from] ReadError),
    /// No worker can take it.
    Place(#[from] PlaceError),
    /// The worker failed.
    Stream(#[from] StreamError),
}

// === impl Error ===

impl Error {
    /// A word for metrics and logs, from a closed set.
    pub(crate) fn label(&self) -> &'static str {
        self.row().label
    }

    /// The whole answer: the status, the headers that belong to the failure, and the JSON body.
    pub(crate) fn response(&self, request_id: &str) -> Response<Bytes> {
        let row = self.row();
        let mut body = BytesMut::with_capacity(512);
        row.write(request_id, &mut body);
        let mut response = Response::new(body.freeze());
        *response.status_mut() = row.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some((name, value)) = row.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// Appends the same error object, for a stream that has begun.
    pub(crate) fn object(&self, request_id: &str, out: &mut BytesMut) {
        self.row().write(request_id, out);
    }

    fn row(&self) -> Row<'_> {
        match self {
            Self::Accept(error) => accept(error),
            Self::Authenticate(error) => authenticate(error),
            Self::Receive(error) => receive(error),
            Self::Read(error) => read(error),
            Self::Place(error) => place(error),
            Self::Stream(error) => stream(error),
        }
    }
}

fn accept(error: &AcceptError) -> Row<'_> {
    match error {
        AcceptError::UnknownPath { method, path } => Row::invalid(
            StatusCode::NOT_FOUND,
            "unknown_url",
            format!(
                "Unknown request URL: {method} {path}. Make sure the base URL ends with /v1 and \
                 you call /chat/completions."
            ),
        ),
        AcceptError::WrongMethod {
            method,
            path,
            allow,
        } => Row {
            header: Some((ALLOW, allow)),
            ..Row::invalid(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_supported",
                format!("Not allowed to {method} on {path}. (HINT: it takes {allow}.)"),
            )
        },
        AcceptError::UnknownModel { id } => Row {
            param: Some("model"),
            ..Row::invalid(
                StatusCode::NOT_FOUND,
                "model_not_found",
                format!("The model '{id}' does not exist or you do not have access to it."),
            )
        },
    }
}

fn authenticate(error: &AuthenticateError) -> Row<'_> {
    let message = match error {
        AuthenticateError::NoKey => format!(
            "You didn't provide an API key. You need to provide your API key in an Authorization \
             header using Bearer auth. {SET_THE_KEY}"
        ),
        AuthenticateError::NotBearer => {
            format!("The Authorization header does not hold a Bearer token. {SET_THE_KEY}")
        }
        AuthenticateError::UnknownKey { masked } => {
            format!("Incorrect API key provided: {masked}. {SET_THE_KEY}")
        }
        AuthenticateError::Expired => {
            "Your API key has expired. Ask whoever gave it to you for a new one.".to_owned()
        }
        AuthenticateError::Disabled => {
            "Your API key is disabled. Ask whoever gave it to you why.".to_owned()
        }
    };
    let (code, label) = match error {
        AuthenticateError::NoKey => (None, "no_key"),
        AuthenticateError::NotBearer => (None, "not_bearer"),
        AuthenticateError::UnknownKey { .. } => (Some("invalid_api_key"), "unknown_key"),
        AuthenticateError::Expired => (Some("invalid_api_key"), "expired_key"),
        AuthenticateError::Disabled => (Some("invalid_api_key"), "disabled_key"),
    };
    Row {
        code,
        header: Some((WWW_AUTHENTICATE, "Bearer")),
        ..Row::invalid(StatusCode::UNAUTHORIZED, label, message)
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

fn read(error: &ReadError) -> Row<'_> {
    let (code, param): (Option<&'static str>, Option<&Param>) = match error {
        ReadError::NotJson { .. } => (None, None),
        ReadError::NotAnObject { .. } => (Some("invalid_type"), None),
        ReadError::Twice { param } | ReadError::Conflict { param, .. } => (None, Some(param)),
        ReadError::UnknownModel { .. } => (Some("model_not_found"), None),
        ReadError::Missing { param } => (Some("missing_required_parameter"), Some(param)),
        ReadError::Type { param, .. } => (Some("invalid_type"), Some(param)),
        ReadError::OutOfRange {
            param,
            number,
            below,
            ..
        } => {
            let code = match (number, below) {
                (NumberKind::Integer, true) => "integer_below_min_value",
                (NumberKind::Integer, false) => "integer_above_max_value",
                (NumberKind::Decimal, true) => "decimal_below_min_value",
                (NumberKind::Decimal, false) => "decimal_above_max_value",
            };
            (Some(code), Some(param))
        }
        ReadError::Length { param, of, .. } => {
            let code = match of {
                Length::EmptyArray => "empty_array",
                Length::LongArray => "array_above_max_length",
                Length::EmptyString => "empty_string",
                Length::LongString => "string_above_max_length",
                Length::ManyProperties => "object_above_max_properties",
            };
            (Some(code), Some(param))
        }
        ReadError::Value { param, .. } => (Some("invalid_value"), Some(param)),
        ReadError::UnsupportedParameter { param, .. } => {
            (Some("unsupported_parameter"), Some(param))
        }
        ReadError::UnsupportedValue { param, .. } => (Some("unsupported_value"), Some(param)),
    };
    let param = match error {
        ReadError::UnknownModel { .. } => Some("model"),
        _ => param.map(|param| param.0.as_str()),
    };
    Row {
        code,
        param,
        ..Row::invalid(
            StatusCode::BAD_REQUEST,
            code.unwrap_or("invalid_request"),
            error.to_string(),
        )
    }
}

fn place(error: &PlaceError) -> Row<'_> {
    match error {
        PlaceError::Loading { progress } => Row::unavailable(
            "model_loading",
            "5",
            format!(
                "The model is being loaded ({:.0} % so far). Try again in a few seconds.",
                progress.clamp(0.0, 1.0) * 100.0
            ),
        ),
        PlaceError::NoWorker => Row::unavailable(
            "no_worker",
            "5",
            "No worker of this model is available at the moment. Try again in a few seconds.",
        ),
        PlaceError::ShuttingDown => Row::unavailable(
            "shutting_down",
            "1",
            "This server is shutting down. Try again: another one will answer.",
        ),
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
        StreamError::Contract(_) => Row::broken("worker_contract"),
    }
}

/// A worker leaves the field empty where there is none.
fn named(param: &str) -> Option<&str> {
    Some(param).filter(|param| !param.is_empty())
}

/// A worker's sentence for the caller, kept to a sentence's length.
fn public(message: &str) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        _ if message.is_empty() => "The model cannot serve this request.".to_owned(),
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

/// What an answer may show of a key: enough to tell which one was sent, not enough to use it.
pub(crate) fn masked(key: &str) -> String {
    const SHORTEST: usize = 20;
    const LONGEST: usize = 1_024;
    let characters: Vec<char> = key.chars().take(LONGEST).collect();
    let length = characters.len();
    if length < SHORTEST || characters.iter().any(|character| character.is_control()) {
        return "***".to_owned();
    }
    let start: String = characters[..5].iter().collect();
    let end: String = characters[length - 4..].iter().collect();
    format!("{start}***{end}")
}

#[cfg(test)]
mod tests;
