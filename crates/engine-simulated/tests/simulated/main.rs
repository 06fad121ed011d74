//! A worker without a model behaves like one with a model, and its time is that of its GPU.
//!
//! The clock of most tests stands still until nobody has anything to do: then it jumps to the next
//! step. Such tests call the service in their own process, since a socket has a clock of its own.

#![expect(
    clippy::unwrap_used,
    reason = "the harness of these tests is a test as well"
)]

mod harness;
mod virtual_time;
mod ends;
mod limits;
mod wire;
mod http;
