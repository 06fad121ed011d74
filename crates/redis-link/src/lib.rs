//! The way to Redis: one server or a cluster, with TLS and users.

mod address;
mod backoff;
mod client;
mod connection;
mod explain;
mod patience;
mod refusal;
mod script;

pub use address::{Address, AddressError};
pub use backoff::backoff;
pub use client::{Client, Live};
pub use connection::{Connection, Timeouts};
pub use explain::explain;
pub use patience::within;
pub use refusal::concerns_keys;
pub use script::{Script, is_unknown_script};
