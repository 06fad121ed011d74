//! Why the head of a request is rejected.

use http::Method;

/// The head of a request is rejected.
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
    /// HTTP requires exactly one valid `Host`; only HTTP/1.0 may omit it.
    #[error("not one valid Host")]
    Host,
    /// Two `Authorization` headers: implementations differ in which one they use.
    #[error("several Authorization headers")]
    SeveralKeys,
    /// `Transfer-Encoding` is not exactly `chunked`.
    #[error("a transfer coding that is not known")]
    TransferCoding,
    /// hyper could not parse the request line or the headers.
    #[error("no request: {0:?}")]
    Unreadable(Unreadable),
    /// The endpoint does not support this method.
    #[error("{path} does not take {method}")]
    WrongMethod {
        /// The method.
        method: Method,
        /// The path.
        path: String,
        /// The value of the `Allow` header, for example `GET, HEAD`.
        allow: &'static str,
    },
    /// `GET /v1/organization/placements/{id}` of a request that is not in this router's decision log.
    #[error("no placement of {id}")]
    UnknownRequest {
        /// The id from the path.
        id: String,
    },
    /// `GET /v1/models/{id}` of a model that is not in the catalog.
    #[error("no model {id}")]
    UnknownModel {
        /// The id from the path.
        id: String,
    },
}

/// Why a request could not be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The bytes are not HTTP.
    Malformed,
    /// The request target is too long.
    LongUri,
    /// There are too many headers, or they are too large.
    LargeHead,
}
