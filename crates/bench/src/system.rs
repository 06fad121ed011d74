//! The system under test: a router and a worker, each a process on its own core.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::grpc::Grpc;
use crate::http::Api;
use crate::load::{Measurement, drive};
use crate::process::{Memory, Process};
use crate::way::Way;

/// Number of sequences that the engine runs at once: the benchmark's maximum of streams.
pub(crate) const MAX_RUNNING: usize = 64;
/// Cells of the KV cache: enough for this number of the longest requests.
pub(crate) const KV_TOKENS: u64 = 49_152;

/// The manifest that every process under test reads.
pub(crate) const QUICKSTART: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/quickstart.yaml"
);

/// A running router and worker.
pub(crate) struct System {
    router: Process,
    worker: Process,
    /// `host:port` of the worker.
    pub(crate) worker_address: String,
    /// The router's API.
    pub(crate) api: Api,
}

/// Memory of both processes after the load.
#[derive(Debug, Serialize)]
pub(crate) struct SystemMemory {
    /// Memory of the router.
    pub(crate) router: Memory,
    /// Memory of the worker.
    pub(crate) worker: Memory,
}

// === impl System ===

impl System {
    /// Starts both, and waits until the model is loaded.
    pub(crate) async fn start(
        binary: &Path,
        engine_core: usize,
        router_core: usize,
    ) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args([
            "worker",
            "--model",
            inferyard_demo_model::NAME,
            "--builtin",
            "demo",
        ]);
        command.args(["--listen", "127.0.0.1:0", "--threads", "1"]);
        command.args(["--max-running", &MAX_RUNNING.to_string()]);
        command.args(["--kv-tokens", &KV_TOKENS.to_string()]);
        let mut worker = Process::start(command, Some(engine_core))?;
        let worker_address = listening(&mut worker).await?;
        Grpc::connect(&worker_address).await?.ready().await?;

        let key = random_key()?;
        let mut command = Command::new(binary);
        let endpoint = format!("{}={worker_address}", inferyard_demo_model::NAME);
        command.args(["router", "-f", QUICKSTART, "--listen", "127.0.0.1:0"]);
        command.args(["--worker", &endpoint, "--key-hash", &hash(&key)]);
        let mut router = Process::start(command, Some(router_core))?;
        let address = listening(&mut router).await?;
        let api = Api {
            address,
            key,
            model: inferyard_demo_model::NAME.to_owned(),
        };
        Ok(Self {
            router,
            worker,
            worker_address,
            api,
        })
    }

    /// Drives these streams, and adds the CPU time of both processes.
    pub(crate) async fn measure<W: Way>(
        &self,
        ways: Vec<W>,
        length: Duration,
    ) -> Result<Measurement> {
        let before = (self.worker.cpu()?, self.router.cpu()?);
        let mut measurement = drive(ways, length).await?;
        let worker = self.worker.cpu()?.saturating_sub(before.0);
        let router = self.router.cpu()?.saturating_sub(before.1);
        measurement.engine_us_per_token = measurement.us_per_token(worker);
        measurement.router_us_per_token = measurement.us_per_token(router);
        Ok(measurement)
    }

    /// Current memory of both processes.
    pub(crate) fn memory(&self) -> Result<SystemMemory> {
        Ok(SystemMemory {
            router: self.router.memory()?,
            worker: self.worker.memory()?,
        })
    }
}

/// Reads `host:port` from the line in which a child prints its address.
pub(crate) async fn listening(process: &mut Process) -> Result<String> {
    let line = process.line().await?;
    let address = line
        .strip_prefix("listening on ")
        .with_context(|| format!("expected where it listens, found `{line}`"))?;
    Ok(address
        .trim_start_matches("http://")
        .trim_end_matches("/v1")
        .to_owned())
}

/// A key in the project's format: `iy-` and 43 characters of base64url.
pub(crate) fn random_key() -> Result<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = [0_u8; 43];
    getrandom::fill(&mut random).context("drawing a key")?;
    let text = random.map(|byte| char::from(ALPHABET[usize::from(byte % 64)]));
    Ok(format!("iy-{}", String::from_iter(text)))
}

/// The hash of a key, as in manifests and on the command line.
pub(crate) fn hash(key: &str) -> String {
    Sha256::digest(key)
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing into a string should not fail");
            text
        })
}
