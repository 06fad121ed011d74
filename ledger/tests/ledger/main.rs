//! The ledger from outside: real Redis, real PostgreSQL, SQLite, real HTTP.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and so does what only tests call"
)]

mod events;
mod http;
mod servers;

mod cluster;
mod keys;
mod once;
mod questions;
mod ready;
mod recovery;
