//! Black-box tests of the router: bytes in, bytes out, with scripted workers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod answers;
mod bills;
mod budgets;
mod retries;
mod ejection;
mod goaway;
mod poison;
mod keep_alive;
mod heads;
mod leaving;
mod limits;
mod namespaces;
mod organization;
mod pending;
mod preview;
mod shutdown;
mod refusals;
mod connections;
mod endpoints;
mod stopped;
mod stored_keys;
mod telemetry;
mod tls;
mod waiting;
