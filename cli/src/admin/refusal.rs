//! Why a service did not do what it was asked, and what to do about it.

use reqwest::StatusCode;

use super::ServiceUrl;
use crate::failure::Failure;

/// What a request to a service fails with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No connection.
    #[error("cannot reach {url}: {cause}. Is the service running, and is --url right?")]
    Unreachable { url: ServiceUrl, cause: String },
    /// TLS found somebody else.
    #[error(
        "{url} is not trusted: {cause}. Where an authority of your own has signed its certificate, \
         give that authority's with --ca FILE"
    )]
    Untrusted { url: ServiceUrl, cause: String },
    /// The request was perhaps sent, and the answer did not come, or not whole.
    #[error("{url} did not answer: {cause}")]
    Unanswered { url: ServiceUrl, cause: String },
    /// It says no.
    #[error("{url} says {}: {message}{}", status.as_u16(), advice(*status))]
    Refused {
        url: ServiceUrl,
        status: StatusCode,
        code: Option<String>,
        message: String,
    },
    /// It answers as nothing of ours does.
    #[error(
        "what {url} answers ({}) is not Inferyard's: give the address of a router or of a ledger \
         with --url, and where it is right, look at what stands before it",
        status.as_u16()
    )]
    Stranger { url: ServiceUrl, status: StatusCode },
    /// Keys do not follow redirects.
    #[error(
        "{url} points to {target}. An admin key goes only to the address that you name: give the \
         right one with --url"
    )]
    Redirected { url: ServiceUrl, target: String },
}

// === impl AskError ===

impl AskError {
    /// Whether the same request may well be answered a moment later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unanswered { .. } => true,
            Self::Refused { status, .. } | Self::Stranger { status, .. } => {
                matches!(status.as_u16(), 502..=504)
            }
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::Redirected { .. } => false,
        }
    }

    /// Whether nobody knows if it was done.
    pub(crate) fn leaves_open(&self) -> bool {
        match self {
            Self::Unanswered { .. } => true,
            Self::Refused { status, .. } | Self::Stranger { status, .. } => {
                status.is_server_error()
            }
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::Redirected { .. } => false,
        }
    }

    /// Whether it was refused with this code.
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
