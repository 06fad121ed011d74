//! Errors of requests to a service, and what to do about them.

use reqwest::StatusCode;

use super::ServiceUrl;
use crate::failure::Failure;

/// Why a request to a service failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No connection could be made.
    #[error("cannot reach {url}: {cause}. Is the service running, and is --url right?")]
    Unreachable { url: ServiceUrl, cause: String },
    /// The TLS certificate is not trusted.
    #[error(
        "{url} is not trusted: {cause}. Where an authority of your own has signed its certificate, \
         give that authority's with --ca FILE"
    )]
    Untrusted { url: ServiceUrl, cause: String },
    /// The request may have been sent, and there is no complete response.
    #[error("{url} did not answer: {cause}")]
    Unanswered { url: ServiceUrl, cause: String },
    /// The service answered with an error.
    #[error("{url} says {}: {message}{}", status.as_u16(), advice(*status))]
    Refused {
        url: ServiceUrl,
        status: StatusCode,
        code: Option<String>,
        message: String,
    },
    /// The response is not one of an Inferyard service.
    #[error(
        "what {url} answers ({}) is not Inferyard's: give the address of a router or of a ledger \
         with --url, and where it is right, look at what stands before it",
        status.as_u16()
    )]
    Stranger { url: ServiceUrl, status: StatusCode },
    /// The service redirects, and keys are not sent to other addresses.
    #[error(
        "{url} points to {target}. An admin key goes only to the address that you name: give the \
         right one with --url"
    )]
    Redirected { url: ServiceUrl, target: String },
}

// === impl AskError ===

impl AskError {
    /// Whether a retry of the same request may succeed.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unanswered { .. } => true,
            Self::Refused { status, .. } | Self::Stranger { status, .. } => {
                matches!(status.as_u16(), 502..=504)
            }
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::Redirected { .. } => false,
        }
    }

    /// Whether the request may have been carried out although there is no answer.
    pub(crate) fn leaves_open(&self) -> bool {
        match self {
            Self::Unanswered { .. } => true,
            Self::Refused { status, .. } | Self::Stranger { status, .. } => {
                status.is_server_error()
            }
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::Redirected { .. } => false,
        }
    }

    /// Whether the service answered with this error code.
    pub(crate) fn has_code(&self, expected: &str) -> bool {
        matches!(self, Self::Refused { code: Some(code), .. } if code == expected)
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused { status, .. } | AskError::Stranger { status, .. }
                if status.is_server_error() =>
            {
                Self::Failed(error.into())
            }
            AskError::Refused { .. } | AskError::Stranger { .. } | AskError::Redirected { .. } => {
                Self::Usage(error.into())
            }
            AskError::Unreachable { .. }
            | AskError::Untrusted { .. }
            | AskError::Unanswered { .. } => Self::Failed(error.into()),
        }
    }
}

/// What the service cannot know: how this command line is mended.
fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            " Give the service's admin key with --admin-key-file FILE or in INFERYARD_ADMIN_KEY"
        }
        _ => "",
    }
}
