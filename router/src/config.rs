//! The settings of a router; the command line fills them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::HeaderValue;

/// What a router is told when it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the API listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where `/metrics` listens; `None`: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// The largest body of a request, in bytes.
    pub body_limit: usize,
    /// How long the head of a request may take, and how long an idle connection is kept.
    pub header_timeout: Duration,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// How long a request may take from its head to the end of its answer.
    pub request_timeout: Duration,
    /// How long running answers may go on after the shutdown has begun.
    pub drain_timeout: Duration,
    /// Open connections; further ones wait in the listener's backlog.
    pub max_connections: usize,
    /// Which web pages may call the API.
    pub cors: CorsOrigins,
    /// What `/v1/models` says in `owned_by`.
    pub model_owner: String,
}

/// Web pages that may call the API from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// All: the key is a header that a page must know, never a cookie that a browser adds.
    Any,
    /// Those that come from one of these origins (`https://host`).
    Listed(Vec<HeaderValue>),
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            metrics_listen: None,
            body_limit: 4 << 20,
            header_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_mins(1),
            request_timeout: Duration::from_mins(10),
            drain_timeout: Duration::from_secs(30),
            max_connections: 8192,
            cors: CorsOrigins::Any,
            model_owner: "inferyard".to_owned(),
        }
    }
}
