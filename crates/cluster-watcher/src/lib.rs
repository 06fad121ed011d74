//! Watches a Kubernetes cluster and turns its resources and worker pods into the router's
//! [`Catalog`](inferyard_catalog::Catalog).
//!
//! One task per kind and namespace lists and watches (`watch`). Objects are checked (`parsed`), stored by name (`store`)
//! and linked into a catalog (`link`), which is published when it differs from the last one (`cluster`). A file caches
//! the last state for a start while the API server cannot be reached (`cache`).

mod object;
mod parsed;
mod client;
mod watch;
mod sync;
mod store;
mod link;
mod cache;
mod metrics;
mod cluster;
#[cfg(test)]
mod tests;

pub use cluster::{ClusterWatcher, ConnectError, Namespaces, Settings};
pub use metrics::Metrics;
