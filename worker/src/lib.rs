//! The worker: the gRPC server before an engine, which its caller gives it.
//!
//! ```text
//!  app       binds its addresses, starts the engine, serves, drains and ends
//!   rpc       `GenerateRequest` → the engine's request; the engine's events → `GenerateEvent`
//!   metrics   the state that routers are told, for Prometheus
//! ```
//!
//! What engines and the server share is in `inferyard-engine`.

mod config;
mod app;
mod rpc;
mod metrics;

pub use app::{BindError, RunError, Worker};
pub use config::Config;
pub use inferyard_listen::{Address, Listen};
