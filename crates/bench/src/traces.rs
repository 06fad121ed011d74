//! `make bench-traces`: recorded traffic on simulated fleets, in virtual time.
//!
//! The routers place requests with the real router's code; the workers are the timing model of the `simulated`
//! engine. An hour with 64 workers takes seconds.

pub(crate) mod lru;
mod machine;
pub(crate) mod outcome;
pub(crate) mod policy;
mod table;
pub(crate) mod trace;
pub(crate) mod world;

use std::path::PathBuf;

use anyhow::Result;
use inferyard_engine_simulated::Settings;
use inferyard_placement::Weights;
use serde::Serialize;

use outcome::Outcome;
use policy::Kind;
use trace::Request;
use world::Setup;

/// Options of the benchmark.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A trace: `.jsonl` as Mooncake publishes it, or `.csv` as Azure does
    #[arg(required = true)]
    traces: Vec<PathBuf>,
    /// Sizes of the fleet
    #[arg(long, value_delimiter = ',', default_values_t = [4, 16, 64])]
    workers: Vec<usize>,
    /// Numbers of routers
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    routers: Vec<usize>,
    /// How routers select workers
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Kind::Inferyard, Kind::RoundRobin, Kind::LeastLoad])]
    policies: Vec<Kind>,
    /// How many times faster than recorded a trace is played, for each worker of the fleet [default: 0.3
    /// with Mooncake's, 1 with Azure's, which load the workers alike]
    #[arg(long)]
    speed_per_worker: Option<f64>,
    /// Tokens that each worker's cache holds
    #[arg(long, default_value_t = 1_000_000)]
    kv_tokens: u64,
    /// Weight of the prompt's uncached part
    #[arg(long, default_value_t = Weights::default().prompt)]
    weight_prompt: f64,
    /// Weight of the work of the last minutes
    #[arg(long, default_value_t = Weights::default().balance)]
    weight_balance: f64,
}

/// One trace on fleets of one size.
#[derive(Debug, Serialize)]
pub(crate) struct Played {
    trace: String,
    workers: usize,
    /// The hit rate of a single cache as large as all workers' caches together.
    best_hits: f64,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    policy: &'static str,
    routers: usize,
    outcome: Outcome,
}

/// Plays everything; returns the results and their tables.
pub(crate) fn play(arguments: &Arguments) -> Result<(Vec<Played>, String)> {
    let mut all = Vec::new();
    for path in &arguments.traces {
        let trace = trace::read(path)?;
        let name = path
            .file_stem()
            .map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        for &workers in &arguments.workers {
            let best_hits = lru::hits(&trace, arguments.kv_tokens * workers as u64);
            let speed = arguments
                .speed_per_worker
                .unwrap_or_else(|| trace::usual_speed(path));
            let rows = rows(arguments, &trace, workers, speed)?;
            all.push(Played {
                trace: name.clone(),
                workers,
                best_hits,
                rows,
            });
        }
    }
    let tables = table::markdown(&all);
    Ok((all, tables))
}

fn rows(
    arguments: &Arguments,
    trace: &[Request],
    workers: usize,
    speed_per_worker: f64,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &policy in &arguments.policies {
        for &routers in &arguments.routers {
            #[expect(clippy::cast_precision_loss, reason = "a few workers")]
            let speed = speed_per_worker * workers as f64;
            let setup = Setup {
                policy,
                workers,
                routers,
                speed,
                gpu: Settings {
                    kv_tokens: arguments.kv_tokens,
                    ..Settings::default()
                },
                weights: Weights {
                    prompt: arguments.weight_prompt,
                    balance: arguments.weight_balance,
                },
            };
            let outcome = world::play(trace, &setup)?;
            eprintln!("{workers} workers, {routers} routers, {policy:?}: {outcome:?}");
            rows.push(Row {
                policy: policy.name(),
                routers,
                outcome,
            });
        }
    }
    Ok(rows)
}
