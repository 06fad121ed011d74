//! One row of the error table, and its response.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

use inferyard_wire::ErrorObject;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// One row of the error table.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) status: StatusCode,
    /// OpenAI's `type`.
    pub(super) kind: &'static str,
    pub(super) code: Option<&'static str>,
    pub(super) param: Option<&'a str>,
    pub(super) message: Cow<'a, str>,
    pub(super) header: Option<(HeaderName, &'static str)>,
    /// `Some`: whether and when the same request may be sent again.
    pub(super) retry: Option<Retry>,
    /// The label for metrics and logs.
    pub(super) label: &'static str,
}

/// What SDKs are told about retries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    /// Wait before a retry; `None`: waiting does not help.
    pub(super) after: Option<Duration>,
    /// Whether SDKs should retry by themselves.
    pub(super) by_itself: bool,
}

// === impl Row ===

impl<'a> Row<'a> {
    /// An error in the request.
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

    /// A temporary state without an error on either side.
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

    /// Like [`Self::unavailable`], with the wait in `retry` instead of a fixed header.
    pub(super) fn refused(code: &'static str, message: impl Into<Cow<'a, str>>) -> Self {
        Self {
            kind: "service_unavailable_error",
            ..Self::invalid(StatusCode::SERVICE_UNAVAILABLE, code, message)
        }
    }

    /// An error of the server.
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

    /// An error of the server, without details for the caller.
    pub(super) fn broken(label: &'static str) -> Self {
        let message = "The server had an error while processing your request. Sorry about that! You \
                       can retry your request.";
        Self {
            code: None,
            ..Self::server(StatusCode::INTERNAL_SERVER_ERROR, label, message)
        }
    }

    /// Adds the headers of the error.
    pub(super) fn head(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = &self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(retry) = self.retry {
            retry.head(headers);
        }
    }

    /// The error object of a body or of the last frame of a stream.
    pub(super) fn object(&self) -> ErrorObject<'_> {
        ErrorObject {
            message: &self.message,
            names_request: self.status.is_server_error(),
            kind: self.kind,
            param: self.param,
            code: self.code,
        }
    }
}

// === impl Retry ===

impl Retry {
    /// The same request would fail again.
    pub(super) const NEVER: Self = Self {
        after: None,
        by_itself: false,
    };

    /// `Retry-After` has whole seconds; clients that support `retry-after-ms` need not wait longer than
    /// necessary.
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
