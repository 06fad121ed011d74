//! One row of the error table, and how it is written.

use std::borrow::Cow;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::wire;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// One row of the table.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) status: StatusCode,
    /// OpenAI's `type`.
    pub(super) kind: &'static str,
    pub(super) code: Option<&'static str>,
    pub(super) param: Option<&'a str>,
    pub(super) message: Cow<'a, str>,
    pub(super) header: Option<(HeaderName, &'static str)>,
    /// When the same request may be made again, where a limit says so.
    pub(super) retry: Option<Retry>,
    /// For metrics and logs.
    pub(super) label: &'static str,
}

/// What the SDKs are told about another try.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    /// After this time; `None`: waiting does not help.
    pub(super) after: Option<Duration>,
    /// Whether they shall try again by themselves.
    pub(super) by_itself: bool,
}

// === impl Row ===

impl<'a> Row<'a> {
    /// The caller's mistake.
    pub(super) fn invalid(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'a, str>>,
    ) -> Self {
        Self {
            status,
            kind: "invalid_request_error",
            code: Some(code),
            param: None,
            message: message.into(),
            header: None,
            retry: None,
            label: code,
        }
    }

    /// Nobody's mistake; it passes by itself.
    pub(super) fn unavailable(
        code: &'static str,
        retry_after: &'static str,
        message: impl Into<Cow<'a, str>>,
    ) -> Self {
        Self {
            header: Some((RETRY_AFTER, retry_after)),
            ..Self::refused(code, message)
        }
    }

    /// The same; when it passes stands in `retry`.
    pub(super) fn refused(code: &'static str, message: impl Into<Cow<'a, str>>) -> Self {
        Self {
            kind: "service_unavailable_error",
            ..Self::invalid(StatusCode::SERVICE_UNAVAILABLE, code, message)
        }
    }

    /// Our mistake.
    pub(super) fn server(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'a, str>>,
    ) -> Self {
        Self {
            kind: "server_error",
            ..Self::invalid(status, code, message)
        }
    }

    /// Our mistake, of which the caller needs to know no more.
    pub(super) fn broken(label: &'static str) -> Self {
        let message = "The server had an error while processing your request. Sorry about that! You \
                       can retry your request.";
        Self {
            code: None,
            ..Self::server(StatusCode::INTERNAL_SERVER_ERROR, label, message)
        }
    }

    /// Adds the headers that belong to the failure.
    pub(super) fn head(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = &self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(retry) = self.retry {
            retry.head(headers);
        }
    }

    /// Appends the error object. All four keys are always there.
    pub(super) fn write(&self, request_id: &str, out: &mut BytesMut) {
        out.extend_from_slice(b"{\"error\":{\"message\":\"");
        wire::escape(&self.message, out);
        if self.status.is_server_error() {
            out.extend_from_slice(b" (request id: ");
            wire::escape(request_id, out);
            out.extend_from_slice(b")");
        }
        out.extend_from_slice(b"\",\"type\":");
        wire::quote(self.kind, out);
        for (key, value) in [(",\"param\":", self.param), (",\"code\":", self.code)] {
            out.extend_from_slice(key.as_bytes());
            match value {
                Some(value) => wire::quote(value, out),
                None => out.extend_from_slice(b"null"),
            }
        }
        out.extend_from_slice(b"}}");
    }
}

// === impl Retry ===

impl Retry {
    /// The same request would fail again.
    pub(super) const NEVER: Self = Self {
        after: None,
        by_itself: false,
    };

    /// `Retry-After` has whole seconds; clients that know `retry-after-ms` wait no longer than needed.
    fn head(self, headers: &mut HeaderMap) {
        if let Some(after) = self.after {
            let milliseconds = after.as_micros().div_ceil(1_000);
            let milliseconds = u64::try_from(milliseconds).unwrap_or(u64::MAX).max(1);
            headers.insert(RETRY_AFTER, milliseconds.div_ceil(1_000).into());
            headers.insert(RETRY_AFTER_MS, milliseconds.into());
        }
        if !self.by_itself {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
    }
}
