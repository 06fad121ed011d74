//! Turns `ModelDeployment`s into running workers, and says why where it cannot.
//!
//! Every change of a resource, or of what belongs to it, ends in [`reconcile`]: read what it refers to,
//! check it, build what should exist (pure), apply the difference, look at what became of it, say so.

mod config;
mod app;
mod client;
mod lease;
mod claims;
mod controller;
mod reconcile;
mod memory;
mod dereference;
mod validate;
mod build;
mod scale_down;
mod apply;
mod observe;
mod status;
mod events;
mod accounts;
mod plans;
mod secrets;
mod keys;
mod kind;
mod names;
mod metrics;

pub use app::{StartError, run};
pub use client::ConnectError;
pub use config::{AcceleratorClass, Config, ReleaseName};
