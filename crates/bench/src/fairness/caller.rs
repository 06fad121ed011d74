//! Clients of one key: each sends a request, reads the stream to its end, pauses, and repeats.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::peers::client::Client;
use crate::peers::work::request;

/// Tokens per answer.
const TOKENS: u32 = 32;
const PATIENCE: Duration = Duration::from_secs(10);

/// Clients of one key.
pub(crate) struct Caller {
    address: String,
    request: Arc<[u8]>,
    clients: usize,
    pause: Duration,
}

/// Times and rate that the clients measured; p50 and p95 in seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Times {
    pub(crate) first_token: (f64, f64),
    pub(crate) answer: (f64, f64),
    pub(crate) per_second: f64,
}

// === impl Caller ===

impl Caller {
    pub(crate) fn new(address: &str, key: &str, clients: usize, pause: Duration) -> Self {
        let text = "Hello there, how are you?";
        Self {
            address: address.to_owned(),
            request: request(address, key, text, TOKENS, true).into(),
            clients,
            pause,
        }
    }

    /// Waits until a request is answered, which shows that the router has found its workers.
    pub(crate) async fn answers(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let mut client = Client::connect(&self.address).await?;
            match timeout(PATIENCE, client.ask(&self.request)).await? {
                Ok(_) => return Ok(()),
                Err(error) => ensure!(begun.elapsed() < PATIENCE, error),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends requests for this time; answers that have begun are read to their end.
    pub(crate) async fn ask(&self, length: Duration) -> Result<Times> {
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            let mut client = Client::connect(&self.address).await?;
            let (request, pause) = (Arc::clone(&self.request), self.pause);
            clients.spawn(async move {
                let mut seen = Vec::new();
                while begun.elapsed() < length {
                    let asked = Instant::now();
                    client.begin(&request).await?;
                    let first = asked.elapsed().as_secs_f64();
                    client.finish().await?;
                    seen.push((first, asked.elapsed().as_secs_f64()));
                    sleep(pause).await;
                }
                anyhow::Ok(seen)
            });
        }
        let mut all = Vec::new();
        while let Some(seen) = clients.join_next().await {
            all.extend(seen??);
        }
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(!all.is_empty(), "nothing was answered");
        #[expect(clippy::cast_precision_loss, reason = "some thousand answers")]
        let count = all.len() as f64;
        Ok(Times {
            first_token: quantiles(all.iter().map(|(first, _)| *first)),
            answer: quantiles(all.iter().map(|(_, whole)| *whole)),
            per_second: count / seconds,
        })
    }
}

fn quantiles(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() * 95 / 100])
}
