//! A way to get an answer; the same load drives all ways.

use std::future::Future;
use std::time::Instant;

use anyhow::Result;

/// An answer that was read.
#[derive(Debug)]
pub(crate) struct Answer {
    /// When its first text arrived.
    pub(crate) first_token: Instant,
    /// Number of tokens according to the usage.
    pub(crate) tokens: u32,
}

/// A stream of requests, each sent after the end of the one before.
pub(crate) trait Way: Send + 'static {
    /// Sends the request with this number and reads its whole answer.
    fn answer(&mut self, number: usize) -> impl Future<Output = Result<Answer>> + Send;
}
