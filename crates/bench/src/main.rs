//! `make bench`: the cost of the path from HTTP to the engine, compared with the engine alone; and other
//! benchmarks as subcommands.
//!
//! The engine always runs on one core, the router and the load on another. Each round measures every way once,
//! so that a slowdown of the machine affects all of them.

mod prompt;
mod way;
mod load;
mod alone;
mod grpc;
mod http;
mod system;
mod process;
mod start;
mod report;
mod document;
mod limits;
mod peers;
mod standing;
mod fairness;
mod traces;
mod live;
mod cores;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::alone::Alone;
use crate::grpc::Grpc;
use crate::http::Http;
use crate::load::Measurement;
use crate::report::{Report, Row};
use crate::system::System;

/// Compares the engine alone with gRPC and with HTTP end to end.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The `inferyard` binary [default: beside this one].
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Numbers of concurrent streams.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16, 64])]
    streams: Vec<usize>,
    /// Number of rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds during which new requests are started.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// The core of the engine, alone or in its worker.
    #[arg(long, default_value_t = 1)]
    engine_core: usize,
    /// The core of the router and the load.
    #[arg(long, default_value_t = 0)]
    router_core: usize,
    /// Also write the figures to this file, as JSON.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Also put the tables between the two marks of this Markdown file: `bench`, or `bench-` and the name of
    /// the subcommand.
    #[arg(long, global = true)]
    update: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Drives the engine inside this process, controlled by standard input; the benchmark starts it.
    #[command(hide = true)]
    Engine {
        /// The file of the model.
        gguf: PathBuf,
    },
    /// Measures the scripts of the limits in Redis.
    Limits(limits::Arguments),
    /// Compares the CPU use of routers.
    Peers(peers::Arguments),
    /// Measures routers under little load: latency at half load, idle, open streams.
    Standing(standing::Arguments),
    /// Measures how a flood on one plan affects another plan.
    Fairness(fairness::Arguments),
    /// Plays recorded traffic over simulated fleets, in virtual time.
    Traces(traces::Arguments),
    /// Plays recorded traffic in real time, on real routers and simulated workers.
    Live(live::Arguments),
    /// Measures the embedded engine on quiet, shared and limited cores, compared with llama.cpp.
    Cores(cores::Arguments),
}

/// Results, and the mark of their place in a page.
struct Figures {
    json: Vec<u8>,
    tables: String,
    /// Name of the marks in a Markdown file.
    mark: &'static str,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    let figures = match arguments.command.take() {
        Some(Command::Engine { gguf }) => return alone::serve(gguf).await,
        Some(command) => command.measure(&arguments).await?,
        None => {
            let report = measure(&arguments).await?;
            Figures::new(&report, report.markdown(), "bench")?
        }
    };
    println!("{}", figures.tables);
    if let Some(path) = &arguments.update {
        document::update(path, figures.mark, &figures.tables)?;
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, figures.json)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

// === impl Figures ===

impl Figures {
    fn new(report: &impl Serialize, tables: String, mark: &'static str) -> Result<Self> {
        let json = serde_json::to_vec_pretty(report)?;
        Ok(Self { json, tables, mark })
    }
}

// === impl Command ===

impl Command {
    async fn measure(self, arguments: &Arguments) -> Result<Figures> {
        if let Self::Traces(what) = self {
            let (report, tables) = traces::play(&what)?;
            return Figures::new(&report, tables, "bench-traces");
        }
        let binary = process::binary(arguments.binary.as_deref())?;
        // The engines share a core with the load; the router has a core of its own.
        let (load, router) = (arguments.engine_core, arguments.router_core);
        match self {
            Self::Engine { .. } | Self::Traces(_) => unreachable!("it measures no binary"),
            Self::Limits(what) => {
                process::pin_to(router)?;
                let (report, tables) = limits::measure(&binary, &what).await?;
                Figures::new(&report, tables, "bench-limits")
            }
            Self::Peers(what) => {
                process::pin_to(load)?;
                let (report, tables) = peers::measure(&binary, &what, load, router).await?;
                Figures::new(&report, tables, "bench-peers")
            }
            Self::Standing(what) => {
                process::pin_to(load)?;
                let (report, tables) = standing::measure(&binary, &what, load, router).await?;
                Figures::new(&report, tables, "bench-standing")
            }
            Self::Fairness(what) => {
                process::pin_to(load)?;
                let (report, tables) = fairness::measure(&binary, &what, load, router).await?;
                Figures::new(&report, tables, "bench-fairness")
            }
            Self::Cores(what) => {
                let (report, tables) = cores::measure(&binary, &what).await?;
                Figures::new(&report, tables, "bench-cores")
            }
            Self::Live(what) => {
                let (report, tables) = live::measure(&binary, &what).await?;
                Figures::new(&report, tables, "bench-live")
            }
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<Report> {
    let binary = process::binary(arguments.binary.as_deref())?;
    let start = start::measure(&binary).await?;
    process::pin_to(arguments.router_core)?;

    let mut alone = Alone::start(arguments.engine_core).await?;
    let system = System::start(&binary, arguments.engine_core, arguments.router_core).await?;
    let length = Duration::from_secs(arguments.seconds);
    warm_up(&mut alone, &system, &arguments.streams, length).await?;
    let mut rows = Vec::new();
    for &streams in &arguments.streams {
        let mut row = Row::new(streams);
        for round in 1..=arguments.rounds {
            eprintln!("{streams} streams, round {round} of {}", arguments.rounds);
            row.alone.push(alone.measure(streams, length).await?);
            row.grpc.push(over_grpc(&system, streams, length).await?);
            row.http.push(over_http(&system, streams, length).await?);
        }
        rows.push(row);
    }
    let memory = system.memory()?;
    Ok(Report {
        start,
        memory,
        rows,
    })
}

/// Fills both KV caches: an engine with an empty cache is faster than in normal operation.
async fn warm_up(
    alone: &mut Alone,
    system: &System,
    streams: &[usize],
    length: Duration,
) -> Result<()> {
    eprintln!("warming up");
    let most = streams.iter().copied().max().unwrap_or(1);
    alone.measure(most, length).await?;
    over_http(system, most, length).await?;
    Ok(())
}

async fn over_grpc(system: &System, streams: usize, length: Duration) -> Result<Measurement> {
    let way = Grpc::connect(&system.worker_address).await?;
    system.measure(vec![way; streams], length).await
}

async fn over_http(system: &System, streams: usize, length: Duration) -> Result<Measurement> {
    let mut ways = Vec::with_capacity(streams);
    for _ in 0..streams {
        ways.push(Http::connect(&system.api).await?);
    }
    system.measure(ways, length).await
}
