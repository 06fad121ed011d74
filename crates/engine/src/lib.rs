//! The contract between the gRPC server of a worker and its engines, and what all engines share.
//!
//! ```text
//!  request   what a caller wants, checked, in types that cannot be wrong
//!  contract  an engine is started, loads its model, takes requests, drains and ends
//!   queue     requests wait: bounded, by priority, then by arrival
//!   requests  the requests that run: their usage, and how they end
//!   rates     how fast the engine computes, for the routers
//!   reply     one bounded channel of events per request
//!  event     what an engine tells of a request: deltas, finish reasons, usage, failures
//! ```
//!
//! Beside them, `state` is what a worker tells every router about itself: queue and engine write it.
//!
//! No engine is in this crate, so the queue compiles and is tested without any of them.

pub mod request;
pub mod contract;
pub mod queue;
pub mod requests;
pub mod rates;
pub mod reply;
pub mod event;
pub mod state;

pub use contract::{Engine, EngineHandle, EngineLimits, StartEngine};
