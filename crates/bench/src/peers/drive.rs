//! Drives one router with one kind of work for a while, and reads from the kernel what it cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use tokio::task::JoinSet;

use super::client::Client;
use super::contestant::Contestant;
use super::work::Work;

/// What one stretch of work cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    /// CPU of the router in µs, for each request or token.
    pub(crate) us: f64,
    pub(crate) requests_per_second: f64,
    /// The most memory that it ever had, in MiB.
    pub(crate) peak_mib: f64,
}

/// Warms up for a quarter of the time, then measures.
pub(crate) async fn measure(router: &Contestant, work: Work, length: Duration) -> Result<Cost> {
    drive(router, work, length / 4).await?;
    let (cpu, begun) = (router.cpu()?, Instant::now());
    let requests = drive(router, work, length).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = router.cpu()?.saturating_sub(cpu);
    ensure!(requests > 0, "no request was answered");
    let requests = f64::from(requests);
    Ok(Cost {
        us: cpu.as_secs_f64() * 1e6 / (requests * f64::from(work.tokens())),
        requests_per_second: requests / seconds,
        peak_mib: router.peak_mib()?,
    })
}

/// Requests on all connections until the time is over; any wrong answer ends it.
async fn drive(router: &Contestant, work: Work, length: Duration) -> Result<u32> {
    let request: Arc<[u8]> = work.request(&router.address, &router.key).into();
    let begun = Instant::now();
    let mut connections = JoinSet::new();
    for _ in 0..work.connections() {
        let mut client = Client::connect(&router.address).await?;
        let request = Arc::clone(&request);
        connections.spawn(async move {
            let mut requests = 0;
            while begun.elapsed() < length {
                let tokens = client.ask(&request).await?;
                let expected = if work.is_streamed() { work.tokens() } else { 0 };
                // A router may join tokens; it may not lose them, and the last chunk tells the end.
                ensure!(tokens > 0 || expected == 0, "a stream without tokens");
                requests += 1;
            }
            anyhow::Ok(requests)
        });
    }
    let mut requests = 0;
    while let Some(done) = connections.join_next().await {
        requests += done??;
    }
    Ok(requests)
}
