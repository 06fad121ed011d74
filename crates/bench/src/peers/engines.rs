//! The engines behind every router: simulated ones, which serve our gRPC and OpenAI's HTTP.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::process::Process;
use crate::system::listening;

/// The model that all engines serve.
pub(crate) const MODEL: &str = "sim";

/// The speed of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as the answer is read.
    Instant,
    /// A token of every running answer per 5 ms.
    Steps,
    /// A token of every running answer per 250 ms.
    Slow,
    /// At most eight answers at a time, a token of each per 10 ms.
    Narrow,
}

/// Running engines.
pub(crate) struct Engines {
    processes: Vec<Process>,
    /// `host:port` of each, for gRPC.
    pub(crate) grpc: Vec<String>,
    /// `host:port` of each, for HTTP.
    pub(crate) http: Vec<String>,
}

// === impl Pace ===

impl Pace {
    /// The worker's flags.
    pub(crate) fn flags(self) -> Vec<String> {
        let (running, pace) = match self {
            Self::Instant => ("1024", "--simulated-instant".to_owned()),
            Self::Steps => ("1024", steps("5ms")),
            Self::Slow => ("1024", steps("250ms")),
            Self::Narrow => ("8", steps("10ms")),
        };
        let all = format!("--max-running {running} --max-queued 1024 --kv-tokens 4000000 {pace}");
        all.split(' ').map(str::to_owned).collect()
    }
}

/// A step takes this long for any number of answers, and prompts take no time.
fn steps(step: &str) -> String {
    format!(
        "--simulated-step {step} --simulated-step-per-sequence 0us --simulated-prefill 1000000000"
    )
}

// === impl Engines ===

impl Engines {
    /// Starts this number of engines, all on one core if `core` is set.
    pub(crate) async fn start(
        binary: &Path,
        core: Option<usize>,
        count: usize,
        flags: &[String],
    ) -> Result<Self> {
        let mut engines = Self {
            processes: Vec::new(),
            grpc: Vec::new(),
            http: Vec::new(),
        };
        for _ in 0..count {
            let mut command = Command::new(binary);
            command.args(["worker", "--model", MODEL, "--engine", "simulated"]);
            command.args(["--listen", "127.0.0.1:0", "--openai-listen", "127.0.0.1:0"]);
            command.args(flags);
            let mut process = Process::start(command, core)?;
            engines.grpc.push(listening(&mut process).await?);
            let line = process.line().await?;
            let address = line.strip_prefix("OpenAI's API is on http://");
            let address = address.and_then(|address| address.strip_suffix("/v1"));
            let address = address.with_context(|| format!("expected an address: `{line}`"))?;
            engines.http.push(address.to_owned());
            engines.processes.push(process);
        }
        Ok(engines)
    }

    /// CPU time of all so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.processes.iter().map(Process::cpu).sum()
    }

    pub(crate) async fn end(self) -> Result<()> {
        for process in self.processes {
            process.end().await?;
        }
        Ok(())
    }
}
