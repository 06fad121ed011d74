//! The worker as a router sees it: real gRPC, the real demo model, nothing played.

#![expect(
    clippy::unwrap_used,
    reason = "the harness of these tests is a test as well"
)]

mod harness;
mod keys;
mod answers;
mod sampling;
mod shapes;
mod cache;
mod load;
mod life;
mod long_prompts;
mod texts;
mod templates;
