//! A worker in front of a server that speaks OpenAI's API: every shape, every end.

#![expect(
    clippy::unwrap_used,
    reason = "the harness of these tests is a test as well"
)]

mod ends;
mod failures;
mod harness;
mod health;
mod life;
mod odd;
mod poison;
mod server;
mod shapes;
