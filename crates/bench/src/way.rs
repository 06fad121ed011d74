//! A way to get an answer: the same load drives all of them.

use std::future::Future;
use std::time::Instant;

use anyhow::Result;

/// What one answer was.
#[derive(Debug)]
pub(crate) struct Answer {
    /// When its first text arrived.
    pub(crate) first_token: Instant,
    /// Its tokens, as the usage says.
    pub(crate) tokens: u32,
}

/// One stream of requests, each after the end of the one before.
pub(crate) trait Way: Send + 'static {
    /// Sends the request with this number and reads its whole answer.
    fn answer(&mut self, number: usize) -> impl Future<Output = Result<Answer>> + Send;
}
