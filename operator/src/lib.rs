//! Turns `ModelDeployment`s into running workers, and reports in their status why a model is not served.
//!
//! Each change of a resource, or of an object that belongs to it, leads to a [`reconcile`]: look up what the resource
//! refers to, validate it, build the desired objects (pure), apply the difference, observe the result, and write the
//! status.

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
mod child;
mod list_keys;
mod kind;
mod names;
mod pods;
mod workers;
mod metrics;

pub use app::{StartError, run};
pub use client::ConnectError;
pub use config::{AcceleratorClass, Config, ReleaseName};
