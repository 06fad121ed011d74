//! The settings of the server before the engine.

use std::net::SocketAddr;
use std::time::Duration;

use inferyard_listen::Listen;

/// The settings of a worker that do not depend on its engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// The canonical name of the model it serves.
    pub model: String,
    /// How long running requests may take to finish after a shutdown was requested.
    pub drain_timeout: Duration,
    /// Where Prometheus metrics are served. None: nowhere.
    pub metrics: Option<SocketAddr>,
}

// === impl Config ===

impl Config {
    /// The default settings: running requests have 30 seconds to finish, and metrics are served nowhere.
    #[must_use]
    pub fn new(listen: Listen, model: impl Into<String>) -> Self {
        Self {
            listen,
            model: model.into(),
            drain_timeout: Duration::from_secs(30),
            metrics: None,
        }
    }
}
