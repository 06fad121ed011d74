//! The settings of a router; the command line fills them.

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

/// What a router is told when it starts.
///
/// It holds secrets, so it cannot be printed.
#[derive(Clone)]
pub struct Config {
    /// Where the API listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// What makes clients' connections TLS; `None`: they are clear text.
    pub tls: Option<TlsFiles>,
    /// Where `/metrics` listens; `None`: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// The largest body of a request, in bytes.
    pub body_limit: usize,
    /// From the accept of a connection to the end of its first request's head, a TLS handshake included.
    pub first_request_timeout: Duration,
    /// How long the head of a later request may take, and how long an idle connection is kept.
    pub header_timeout: Duration,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// How long a request may take from its head to the end of its answer.
    pub request_timeout: Duration,
    /// After this time without a token a stream begins with its head, and a comment follows as often until
    /// there is one: clients and proxies take silence for death.
    pub keep_alive: Duration,
    /// How long running answers may go on after the shutdown has begun.
    pub drain_timeout: Duration,
    /// How long bytes may wait for a client that takes none of them; then its connection is closed.
    pub write_timeout: Duration,
    /// Open connections; further ones wait in the listener's backlog.
    pub max_connections: usize,
    /// Open connections of one client (an IPv4 address, or an IPv6 /56), unless it is a trusted proxy; further ones
    /// are closed at once. `None`: a quarter of `max_connections`.
    pub max_client_connections: Option<usize>,
    /// Which web pages may call the API.
    pub cors: CorsOrigins,
    /// What `/v1/models` says in `owned_by`.
    pub model_owner: String,
    /// Where keys are that no manifest declares; `None`: nowhere.
    pub key_store: Option<KeyStore>,
    /// Where and how limits are counted.
    pub limits: LimitsConfig,
    /// Who answers `/v1/organization/*`; `None`: nobody.
    pub ledger: Option<Endpoint>,
    /// Who may ask why a request went where it did.
    pub admin_keys: Vec<KeyHash>,
    /// Where everything that placement hears and decides is written down; `None`: nowhere.
    pub record_placements: Option<PathBuf>,
    /// Signs the cookies of the preview's visitors, and hides their addresses. The same for all
    /// routers that share limits; by default random, so that a router forgets its visitors when it
    /// ends.
    pub cookie_secret: [u8; 32],
    /// Proxies in front of this router, whose word on the caller's address is believed.
    pub trusted_proxies: Vec<Network>,
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

impl Config {
    /// What the API's port grants its clients.
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
