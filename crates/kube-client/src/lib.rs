//! What every client of a Kubernetes API server here needs: its configuration, and a time limit for each request.

mod config;
mod limit;

pub use config::{ConfigError, config};
pub use limit::{Limit, Limited};

/// Whether a request with this query is a watch, whose response does not end.
#[must_use]
pub fn is_watch(query: &str) -> bool {
    query.contains("watch=true")
}
