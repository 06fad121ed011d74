//! The ledger from outside: real Redis, real PostgreSQL, SQLite, real HTTP.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and so does what only tests call"
)]

mod connections;
mod events;
mod hosted;
mod http;

mod cluster;
mod ending;
mod full_disk;
mod keys;
mod once;
mod postgresql;
mod questions;
mod ready;
mod recovery;
