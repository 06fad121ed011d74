//! The settings of a router; the command line sets them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use inferyard_keys::{KeyHash, KeyStore};
use inferyard_listen::Bounds;

use crate::tls::TlsFiles;
use inferyard_admission::LimitsConfig;
use inferyard_catalog::Endpoint;

pub use inferyard_listen::{Network, NetworkError};

/// Settings of a router.
///
/// It contains secrets, so it does not implement `Debug`.
#[derive(Clone)]
pub struct Config {
    /// Address of the API; port 0 selects a free port.
    pub listen: SocketAddr,
    /// Certificate and key for TLS; `None`: connections are clear text.
    pub tls: Option<TlsFiles>,
    /// Address of `/metrics`; `None`: `/metrics` is not served.
    pub metrics_listen: Option<SocketAddr>,
    /// Maximum size of a request body, in bytes.
    pub body_limit: usize,
    /// Maximum time from the accept of a connection to the end of its first request's head, including the TLS
    /// handshake.
    pub first_request_timeout: Duration,
    /// Maximum time for the head of a later request; also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// Maximum time for the body of a request.
    pub body_timeout: Duration,
    /// Maximum time of a request, from its head to the end of its answer.
    pub request_timeout: Duration,
    /// A stream that has no token after this time sends its head, and then a comment in the same interval until
    /// the first token: clients and proxies treat silence as a dead connection.
    pub keep_alive: Duration,
    /// How long running answers may continue after the shutdown has begun.
    pub drain_timeout: Duration,
    /// How long a write may wait for a client that reads nothing; then its connection is closed.
    pub write_timeout: Duration,
    /// Maximum number of open connections; further ones wait in the listener's backlog.
    pub max_connections: usize,
    /// Maximum number of open connections per client (an IPv4 address or an IPv6 /56), except trusted proxies;
    /// further ones are closed at once. `None`: a quarter of `max_connections`.
    pub max_client_connections: Option<usize>,
    /// Origins of web pages that may use the API.
    pub cors: CorsOrigins,
    /// `owned_by` of the models in `/v1/models`.
    pub model_owner: String,
    /// The store of keys that no manifest declares; `None`: there is none.
    pub key_store: Option<KeyStore>,
    /// Settings of limits.
    pub limits: LimitsConfig,
    /// The ledger that serves `/v1/organization/*`; `None`: there is none.
    pub ledger: Option<Endpoint>,
    /// Hashes of the admin keys, which may read placement decisions.
    pub admin_keys: Vec<KeyHash>,
    /// File for the recording of all inputs and decisions of placement; `None`: nothing is recorded.
    pub record_placements: Option<PathBuf>,
    /// Signs the cookies of preview visitors and is the key of the hash of their addresses. All routers that
    /// share limits need the same secret. The default is random, so that a restarted router does not recognize
    /// earlier visitors.
    pub cookie_secret: [u8; 32],
    /// Proxies in front of this router; the `X-Forwarded-*` headers of these alone are trusted.
    pub trusted_proxies: Vec<Network>,
}

/// Origins of web pages that may use the API from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Every origin. This is safe because the key is a header that a page must know, not a cookie that a
    /// browser adds.
    Any,
    /// Only these origins (`https://host`).
    Listed(Vec<HeaderValue>),
}

// === impl Config ===

impl Config {
    /// The bounds of connections to the API.
    pub(crate) fn bounds(&self) -> Bounds {
        let share = (self.max_connections / 4).max(1);
        Bounds {
            connections: self.max_connections,
            per_client: self.max_client_connections.unwrap_or(share),
            proxies: self.trusted_proxies.clone(),
            first_head: self.first_request_timeout,
            head: self.header_timeout,
            stall: self.write_timeout,
            answer: self.request_timeout,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let mut cookie_secret = [0; 32];
        getrandom::fill(&mut cookie_secret).expect("the system should have random numbers");
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls: None,
            metrics_listen: None,
            body_limit: 4 << 20,
            first_request_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_mins(1),
            request_timeout: Duration::from_mins(10),
            keep_alive: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            max_connections: 8192,
            max_client_connections: None,
            cors: CorsOrigins::Any,
            model_owner: "inferyard".to_owned(),
            key_store: None,
            limits: LimitsConfig::default(),
            ledger: None,
            admin_keys: Vec::new(),
            record_placements: None,
            cookie_secret,
            trusted_proxies: Vec::new(),
        }
    }
}
