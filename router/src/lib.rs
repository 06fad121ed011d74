//! HTTP in, SSE out.
//!
//! [`Router`] takes its ports and serves what the [catalog](inferyard_catalog) names. The modules stand in the order
//! in which a request meets them; `flow` has its whole way on one page.

mod config;

mod tls;
mod unreadable;
mod serve;
mod app;
mod flow;

mod request_id;
mod accept;
mod authenticate;
mod preview;
mod collect;
mod read;
mod stopped;
mod quarantine;
mod reserve;
mod upstream;
mod place;
mod hop;
mod reply;
mod sse;
mod answer;
mod respond;
mod limits;
mod body;
mod meter;

mod admin;
mod explain;
mod models;
mod organization;
mod probes;
mod cors;
mod error;
mod wire;
mod telemetry;
mod scrape;

pub use app::StartError;
pub use config::{Config, CorsOrigins, Network, NetworkError};
pub use place::RecordError;
pub use serve::{BindError, Router, RunError};
pub use tls::{TlsError, TlsFiles};
