//! HTTP in, SSE out.
//!
//! [`Router`] takes its ports and serves what the [catalog](inferyard_catalog) names. The modules stand in the order
//! in which a request meets them; `flow` has its whole way on one page.

mod config;

mod app;
mod tls;
mod unreadable;
mod flow;

mod accept;
mod authenticate;
mod preview;
mod collect;
mod read;
mod quarantine;
mod reserve;
mod begin;
mod place;
mod hop;
mod stream;
mod reply;
mod sse;
mod answer;
mod respond;
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

pub use app::{BindError, Router, RunError};
pub use config::{Config, CorsOrigins, Network, NetworkError};
pub use place::RecordError;
pub use tls::{TlsError, TlsFiles};
