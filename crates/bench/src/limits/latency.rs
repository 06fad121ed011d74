//! The latency that limits add: the same router and load without limits and with eight limits in Redis, and the
//! worker without a router.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::instant;
use super::redis::Redis;
use crate::grpc::Grpc;
use crate::http::{Api, Http};
use crate::process::Process;
use crate::system::{QUICKSTART, hash, listening, random_key};
use crate::way::Way;

/// Milliseconds per request, from its first byte to the end of its answer.
#[derive(Default, Serialize)]
pub(crate) struct Latency {
    /// Number of concurrent requests.
    pub(crate) in_flight: usize,
    pub(crate) direct: Vec<f64>,
    pub(crate) without_limits: Vec<f64>,
    pub(crate) with_limits: Vec<f64>,
}

/// The systems that are compared.
pub(crate) struct Bed {
    worker: instant::Instant,
    without_limits: Router,
    with_limits: Router,
    redis: Redis,
    _folder: TempDir,
}

struct Router {
    process: Process,
    api: Api,
}

/// Requests per round and system, in total over all concurrent streams.
const REQUESTS: usize = 640;

/// Seven limits of the plan and one of the key, none of which is ever reached.
pub(crate) const LIMITED: &str = "
---
apiVersion: inferyard.dev/v1alpha1
kind: Plan
metadata: {name: pro}
spec:
  limits:
    requestsPerMinute: 1000000000
    requestsPerDay: 1000000000
    requestsTotal: 1000000000
    tokensPerMinute: 1000000000000
    tokensPerDay: 1000000000000
    concurrentRequests: 1000000
    budgetPerMonth: \"999999.00\"
---
apiVersion: inferyard.dev/v1alpha1
kind: ApiKey
metadata: {name: bench}
spec:
  plan: pro
  hash: HASH
  limits: {tokensPerMinute: 1000000000000}
";

// === impl Bed ===

impl Bed {
    /// Starts everything: Redis and the routers on `core`, the worker on the core of the load.
    pub(crate) async fn start(binary: &Path, core: usize) -> Result<Self> {
        let worker = instant::Instant::start().await?;
        let redis = Redis::start(core).await?;
        let key = random_key()?;
        let folder = tempfile::tempdir()?;
        let limits = folder.path().join("limits.yaml");
        std::fs::write(&limits, LIMITED.replace("HASH", &hash(&key)))?;

        let mut command = router(binary, &worker.address);
        command.args(["--key-hash", &hash(&key)]);
        let without_limits = Router::start(command, core, &key).await?;
        let mut command = router(binary, &worker.address);
        command.arg("-f").arg(limits);
        command.args(["--redis", &redis.url(), "--key-store", "none"]);
        let with_limits = Router::start(command, core, &key).await?;
        Ok(Self {
            worker,
            without_limits,
            with_limits,
            redis,
            _folder: folder,
        })
    }

    /// Measures every system once, in turn.
    pub(crate) async fn round(&self, latency: &mut Latency) -> Result<()> {
        let in_flight = latency.in_flight;
        let way = Grpc::connect(&self.worker.address).await?;
        latency.direct.extend(drive(vec![way; in_flight]).await?);
        for (router, times) in [
            (&self.without_limits, &mut latency.without_limits),
            (&self.with_limits, &mut latency.with_limits),
        ] {
            let mut ways = Vec::with_capacity(in_flight);
            for _ in 0..in_flight {
                ways.push(Http::connect(&router.api).await?);
            }
            times.extend(drive(ways).await?);
        }
        Ok(())
    }

    pub(crate) async fn end(self) -> Result<()> {
        self.without_limits.process.end().await?;
        self.with_limits.process.end().await?;
        self.redis.end().await
    }
}

// === impl Router ===

impl Router {
    async fn start(command: Command, core: usize, key: &str) -> Result<Self> {
        let mut process = Process::start(command, Some(core))?;
        let api = Api {
            address: listening(&mut process).await?,
            key: key.to_owned(),
            model: inferyard_demo_model::NAME.to_owned(),
        };
        Ok(Self { process, api })
    }
}

fn router(binary: &Path, worker: &str) -> Command {
    let mut command = Command::new(binary);
    let endpoint = format!("{}={worker}", inferyard_demo_model::NAME);
    command.args(["router", "-f", QUICKSTART, "--listen", "127.0.0.1:0"]);
    command.args(["--worker", &endpoint]);
    command
}

/// Sends `REQUESTS` requests in total, one after the other on each stream; returns their milliseconds.
async fn drive<W: Way>(ways: Vec<W>) -> Result<Vec<f64>> {
    let each = REQUESTS / ways.len();
    let mut streams = JoinSet::new();
    for mut way in ways {
        streams.spawn(async move {
            // The first request opens connections and fills caches, so it is not counted.
            way.answer(0).await?;
            let mut times = Vec::with_capacity(each);
            for number in 1..=each {
                let asked = Instant::now();
                way.answer(number).await?;
                times.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Vec::with_capacity(REQUESTS);
    while let Some(times) = streams.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}
