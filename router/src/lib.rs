//! The OpenAI-compatible HTTP server: HTTP requests in, JSON or SSE answers out.
//!
//! [`Router`] binds its ports and serves what the [catalog](inferyard_catalog) declares. The modules are listed
//! in the order in which a request passes them; `flow` shows all steps on one page.

mod config;

mod tls;
mod unreadable;
mod serve;
mod app;
mod flow;

mod accept;
mod authenticate;
mod preview;
mod collect;
mod stopped;
mod reply;
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
mod telemetry;
mod scrape;

pub use app::StartError;
pub use config::{Config, CorsOrigins, Network, NetworkError};
pub use inferyard_upstream::RecordError;
pub use serve::{BindError, Router, RunError};
pub use tls::{TlsError, TlsFiles};
