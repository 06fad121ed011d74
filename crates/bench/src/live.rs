//! `make bench-live`: recorded traffic in real time, on real routers and simulated workers.
//!
//! ```text
//!  fleet     simulated workers with the timing model of the virtual fleet, and routers in front of them
//!  prompt    a request of the trace → text with the same prefixes
//!  play      sends each request when it is due, and reads its answer
//!  cpu       measures processor use during a run
//! ```

mod fleet;
mod prompt;
mod play;
mod cpu;
mod table;

use std::path::{Path, PathBuf};

use anyhow::Result;
use inferyard_engine_simulated::Settings;
use inferyard_placement::Weights;
use serde::Serialize;

use crate::peers::contestant::Peer;
use crate::traces::outcome::Outcome;
use crate::traces::policy::Kind;
use crate::traces::world::Setup;
use crate::traces::{lru, trace, world};

use cpu::Cpu;
use fleet::Fleet;

/// Options of the benchmark.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A trace: `.jsonl` as Mooncake publishes it, or `.csv` as Azure does
    #[arg(required = true)]
    traces: Vec<PathBuf>,
    /// Sizes of the fleet
    #[arg(long, value_delimiter = ',', default_values_t = [4, 16])]
    workers: Vec<usize>,
    /// Numbers of routers; requests go to them in turn
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    routers: Vec<usize>,
    /// The routers to compare
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Peer::Inferyard, Peer::SmgCacheAware, Peer::Haproxy])]
    peers: Vec<Peer>,
    /// Requests from the beginning of each trace
    #[arg(long, default_value_t = 3_000)]
    requests: usize,
    /// How many times faster than recorded a trace is played, for each worker of the fleet [default: 0.3
    /// with Mooncake's, 1 with Azure's, which load the workers alike]
    #[arg(long)]
    speed_per_worker: Option<f64>,
    /// How many times faster workers and trace go than real ones would [default: 20 over the number of
    /// workers, so that the processor has as much to do with any fleet; at least 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50))]
    faster: Option<u32>,
    /// Tokens that each worker's cache holds
    #[arg(long, default_value_t = 1_000_000)]
    kv_tokens: u64,
    /// Where the peers' Python packages are [default: ~/.cache/inferyard/venv-peers]
    #[arg(long)]
    venv: Option<PathBuf>,
}

/// One trace on a fleet of one size.
#[derive(Debug, Serialize)]
pub(crate) struct Played {
    trace: String,
    requests: usize,
    workers: usize,
    faster: u32,
    /// The hit rate of a single cache as large as all workers' caches together.
    best_hits: f64,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    router: &'static str,
    routers: usize,
    /// Number of complete answers.
    answered: usize,
    hits: f64,
    spread: f64,
    /// Seconds to the first token: p50, p95, p99; scaled back to real speed.
    first_token: [f64; 3],
    /// `None`: the row is from virtual time.
    live: Option<Live>,
}

/// Results that only real processes have.
#[derive(Debug, Serialize)]
pub(crate) struct Live {
    /// Reasons of failures, and their numbers.
    failures: Vec<(String, usize)>,
    /// Delay between the due time and the sending of requests, in seconds of wall time: p50, p95, p99.
    late: [f64; 3],
    cpu: Cpu,
}

/// Plays everything; returns the results and their table.
pub(crate) async fn measure(binary: &Path, arguments: &Arguments) -> Result<(Vec<Played>, String)> {
    let venv = crate::peers::packages(arguments.venv.as_deref())?;
    let mut all = Vec::new();
    for path in &arguments.traces {
        let mut trace = trace::read(path)?;
        trace.truncate(arguments.requests);
        let name = path.file_stem().unwrap_or_default();
        for &workers in &arguments.workers {
            let (fleet, setup) = arguments.fleet(binary, &venv, path, workers);
            let mut played = Played {
                trace: name.to_string_lossy().into_owned(),
                requests: trace.len(),
                workers,
                faster: fleet.faster,
                best_hits: lru::hits(&trace, arguments.kv_tokens * workers as u64),
                rows: Vec::new(),
            };
            for &routers in &arguments.routers {
                for policy in [Kind::Inferyard, Kind::RoundRobin] {
                    let setup = Setup {
                        policy,
                        routers,
                        ..setup.clone()
                    };
                    let outcome = world::play(&trace, &setup)?;
                    played.rows.push(Row::in_virtual_time(&setup, &outcome));
                }
                for &peer in &arguments.peers {
                    let row = fleet.play(&trace, peer, routers, setup.speed).await?;
                    eprintln!("{workers} workers: {row:?}");
                    played.rows.push(row);
                }
            }
            all.push(played);
        }
    }
    let table = table::markdown(&all);
    Ok((all, table))
}

// === impl Arguments ===

impl Arguments {
    /// The same fleet as processes and in virtual time.
    fn fleet<'a>(
        &self,
        binary: &'a Path,
        venv: &'a Path,
        trace: &Path,
        workers: usize,
    ) -> (Fleet<'a>, Setup) {
        let gpu = Settings {
            kv_tokens: self.kv_tokens,
            ..Settings::default()
        };
        let usual = 20_usize.checked_div(workers).unwrap_or_default().max(1);
        let faster = self
            .faster
            .unwrap_or_else(|| u32::try_from(usual).unwrap_or(1));
        let per_worker = self
            .speed_per_worker
            .unwrap_or_else(|| trace::usual_speed(trace));
        #[expect(clippy::cast_precision_loss, reason = "a few workers")]
        let speed = per_worker * workers as f64;
        let setup = Setup {
            policy: Kind::Inferyard,
            workers,
            routers: 1,
            speed,
            gpu,
            weights: Weights::default(),
        };
        let fleet = Fleet {
            binary,
            venv,
            workers,
            faster,
            gpu,
        };
        (fleet, setup)
    }
}

// === impl Row ===

impl Row {
    fn in_virtual_time(setup: &Setup, outcome: &Outcome) -> Self {
        let router = match setup.policy {
            Kind::Inferyard => "Inferyard, virtual time",
            Kind::RoundRobin => "round robin, virtual time",
            Kind::LeastLoad => "least load, virtual time",
        };
        Self::new(router, setup.routers, outcome, None)
    }

    fn new(router: &'static str, routers: usize, outcome: &Outcome, live: Option<Live>) -> Self {
        Self {
            router,
            routers,
            answered: outcome.requests,
            hits: outcome.hits,
            spread: outcome.spread,
            first_token: outcome.first_token,
            live,
        }
    }
}
