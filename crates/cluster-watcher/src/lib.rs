//! Watches a Kubernetes cluster and turns its resources and worker pods into the router's
//! [`Catalog`](inferyard_catalog::Catalog).
//!
//! One task per kind and namespace lists and watches (`watch`); what it sees is kept by name (`known`),
//! linked into a catalog (`link`) and handed out once it differs. A file keeps what was known for a start
//! while the API server is away (`cache`).

mod object;
mod meaning;
mod client;
mod watch;
mod lists;
mod known;
mod link;
mod cache;
mod metrics;
mod cluster;
#[cfg(test)]
mod tests;

pub use cluster::{ConnectError, Kubernetes, Namespaces, Settings};
pub use metrics::Metrics;
