//! What the server told about itself when it came up.

use crate::dialect::Dialect;
use crate::engine_metrics::EngineMetrics;

/// What the server told about itself when it came up.
pub(crate) struct ServerInfo {
    /// Its dialect of the API.
    pub(crate) dialect: Dialect,
    /// Its name for the model.
    pub(crate) model: String,
    /// Tokens of one sequence; 0: the server does not tell.
    pub(crate) context_length: u32,
    /// The path of its health check.
    pub(crate) health: &'static str,
    /// Its metrics; None: it serves none that are read.
    pub(crate) metrics: Option<EngineMetrics>,
}
