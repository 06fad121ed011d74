//! Why a head leads nowhere.

use http::Method;

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
