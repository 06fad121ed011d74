//! The router from outside: bytes in, bytes out, with workers that say what each test wants.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod answers;
mod retries;
mod leaving;
mod shutdown;
mod refusals;
mod endpoints;
mod telemetry;
