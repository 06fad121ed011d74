//! Rows of the error table for rejected heads.

use http::StatusCode;
use http::header::{ALLOW, CONNECTION};

use super::row::Row;
use crate::accept::{AcceptError, Unreadable};

pub(super) fn row(error: &AcceptError) -> Row<'_> {
    match error {
        AcceptError::UnknownPath { method, path } => Row::invalid(
            StatusCode::NOT_FOUND,
            "unknown_url",
            format!(
                "Unknown request URL: {method} {path}. Make sure the base URL ends with /v1 and \
                 you call /chat/completions."
            ),
        ),
        AcceptError::Host | AcceptError::SeveralKeys | AcceptError::TransferCoding => head(error),
        AcceptError::Unreadable(why) => unreadable(*why),
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
        AcceptError::UnknownRequest { id } => Row::invalid(
            StatusCode::NOT_FOUND,
            "not_found",
            format!(
                "This router does not remember where the request '{id}' went. It remembers the last few \
                 thousand, and every router its own: ask the others too."
            ),
        ),
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

/// A head that implementations interpret differently. The connection is closed, because the bytes after the
/// head are ambiguous too.
fn head(error: &AcceptError) -> Row<'static> {
    let (status, label, message) = match error {
        AcceptError::TransferCoding => (
            StatusCode::NOT_IMPLEMENTED,
            "unknown_transfer_coding",
            "The body has a Transfer-Encoding that is not supported. Send it as it is, with Content-Length or \
             with `Transfer-Encoding: chunked` alone.",
        ),
        AcceptError::SeveralKeys => (
            StatusCode::BAD_REQUEST,
            "several_keys",
            "The request has several Authorization headers. Send one.",
        ),
        _ => (
            StatusCode::BAD_REQUEST,
            "bad_host",
            "The request must have exactly one Host header, with the name of the server.",
        ),
    };
    Row {
        code: None,
        header: Some((CONNECTION, "close")),
        ..Row::invalid(status, label, message)
    }
}

fn unreadable(why: Unreadable) -> Row<'static> {
    let (status, label, message) = match why {
        Unreadable::Malformed => (
            StatusCode::BAD_REQUEST,
            "malformed_request",
            "This is not a valid HTTP/1.1 request. Check the first line and the headers.",
        ),
        Unreadable::LongUri => (
            StatusCode::URI_TOO_LONG,
            "uri_too_long",
            "The path and query of the request are too long. Send parameters in the body.",
        ),
        Unreadable::LargeHead => (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers_too_large",
            "The headers of the request are too many or too large. Send at most 100, of less than 128 KiB in all.",
        ),
    };
    Row {
        code: None,
        ..Row::invalid(status, label, message)
    }
}
