//! The way to Redis: one server or a cluster, with TLS and users.

mod address;
mod connection;
mod explain;

pub use address::{Address, AddressError};
pub use connection::{Connection, Timeouts};
pub use explain::explain;
