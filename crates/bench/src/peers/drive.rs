//! Drives one router with one kind of work for a while, and reads its cost from the kernel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use tokio::task::JoinSet;

use super::client::Client;
use super::contestant::Contestant;
use super::work::Work;

/// The cost of one interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    /// CPU time of the router per request or token, in µs.
    pub(crate) us: f64,
    pub(crate) requests_per_second: f64,
    /// Peak memory, in MiB.
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

/// Sends requests on all connections until the time is over; a wrong answer is an error.
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
                // A router may join tokens, so their number may differ; the last chunk shows that the answer is
                // complete.
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
