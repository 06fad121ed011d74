//! `make bench-standing`: routers under little load: added latency at half load, idle, open streams.

mod latency;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::peers::client::Client;
use crate::peers::contestant::{Contestant, Peer, Place};
use crate::peers::engines::{Engines, Pace};
use crate::peers::packages;
use crate::peers::work::Work;
use latency::{Latency, added};

/// Options of the benchmark.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The routers to measure
    #[arg(long, value_delimiter = ',', value_enum,
          default_values_t = [Peer::Haproxy, Peer::Inferyard, Peer::InferyardRedis, Peer::SmgRoundRobin])]
    peers: Vec<Peer>,
    /// Workers behind the idle router
    #[arg(long, default_value_t = 100)]
    workers: usize,
    /// Number of concurrently open streams
    #[arg(long, default_value_t = 1000)]
    streams: usize,
    /// Number of repetitions of the latency measurement
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4)]
    length: u64,
    /// Where the peers' Python packages are [default: ~/.cache/inferyard/venv-peers]
    #[arg(long)]
    venv: Option<PathBuf>,
}

/// The results of one router.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    peer: &'static str,
    latency: Latency,
    /// CPU seconds per second.
    idle_cores: f64,
    memory: Memory,
}

/// Memory in MiB.
#[derive(Debug, Serialize)]
struct Memory {
    /// Before any stream.
    idle: f64,
    with_streams: f64,
    /// The part of `with_streams` that is not backed by files.
    own: f64,
}

/// Measures everything; returns the rows and their table.
pub(crate) async fn measure(
    binary: &Path,
    arguments: &Arguments,
    load_core: usize,
    router_core: usize,
) -> Result<(Vec<Row>, String)> {
    let venv = packages(arguments.venv.as_deref())?;
    let length = Duration::from_secs(arguments.length);
    let mut rows = Vec::new();
    for peer in &arguments.peers {
        let bed = Bed {
            peer: *peer,
            binary,
            venv: &venv,
            router_core,
            load_core,
        };
        let row = Row {
            peer: peer.name(),
            latency: bed.latency(arguments.repetitions, length).await?,
            idle_cores: bed.idle(arguments.workers, length * 3).await?,
            memory: bed.memory(arguments.streams).await?,
        };
        eprintln!("{row:?}");
        rows.push(row);
    }
    let table = markdown(&rows, arguments);
    Ok((rows, table))
}

/// One router, and how it is started.
struct Bed<'a> {
    peer: Peer,
    binary: &'a Path,
    venv: &'a Path,
    router_core: usize,
    load_core: usize,
}

// === impl Bed ===

impl Bed<'_> {
    async fn latency(&self, repetitions: usize, length: Duration) -> Result<Latency> {
        let engines = self.engines(4, Pace::Instant).await?;
        let router = self.router(&engines).await?;
        let latency = added(&router, &engines, repetitions, length).await?;
        router.end().await?;
        engines.end().await?;
        Ok(latency)
    }

    async fn idle(&self, workers: usize, length: Duration) -> Result<f64> {
        let engines = self.engines(workers, Pace::Instant).await?;
        let router = self.router(&engines).await?;
        let idle = idle(&router, length).await?;
        router.end().await?;
        engines.end().await?;
        Ok(idle)
    }

    async fn memory(&self, streams: usize) -> Result<Memory> {
        let engines = self.engines(4, Pace::Slow).await?;
        let router = self.router(&engines).await?;
        let memory = open(&router, streams).await;
        let memory = memory.with_context(|| self.peer.name())?;
        router.end().await?;
        engines.end().await?;
        Ok(memory)
    }

    async fn engines(&self, count: usize, pace: Pace) -> Result<Engines> {
        Engines::start(self.binary, Some(self.load_core), count, &pace.flags()).await
    }

    async fn router(&self, engines: &Engines) -> Result<Contestant> {
        let place = Place {
            binary: self.binary,
            before: None,
            venv: self.venv,
            engines,
            router_core: Some(self.router_core),
            load_core: self.load_core,
        };
        self.peer.start(&place).await
    }
}

/// CPU seconds per second of an idle router.
async fn idle(router: &Contestant, length: Duration) -> Result<f64> {
    sleep(length / 2).await;
    let (cpu, begun) = (router.cpu()?, Instant::now());
    sleep(length).await;
    let cpu = router.cpu()?.saturating_sub(cpu);
    Ok(cpu.as_secs_f64() / begun.elapsed().as_secs_f64())
}

/// Memory before the first stream, and while all streams are open.
async fn open(router: &Contestant, streams: usize) -> Result<Memory> {
    let idle = router.resident_mib()?;
    let request = Work::Paced.request(&router.address, &router.key);
    let mut opening = JoinSet::new();
    for _ in 0..streams {
        let (address, request) = (router.address.clone(), request.clone());
        opening.spawn(async move {
            let mut client = Client::connect(&address).await?;
            client.begin(&request).await?;
            anyhow::Ok(client)
        });
    }
    let mut clients = Vec::with_capacity(streams);
    while let Some(client) = opening.join_next().await {
        clients.push(client??);
    }
    let (with_streams, own) = (router.resident_mib()?, router.own_mib()?);
    // Each stream has 100 steps of 250 ms: none has ended at the measurement, and all must end well.
    for client in &mut clients {
        client.finish().await?;
    }
    Ok(Memory {
        idle,
        with_streams,
        own,
    })
}

fn markdown(rows: &[Row], arguments: &Arguments) -> String {
    let (workers, streams) = (arguments.workers, arguments.streams);
    let mut out = format!(
        "| router | half load, requests/s | p50 direct, ms | added | p99 direct, ms | added | idle with {workers} workers, \
         cores | memory idle, MiB | with {streams} streams | without files |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for row in rows {
        let latency = &row.latency;
        writeln!(
            out,
            "| {} | {:.0} | {:.3} | {:.3} | {:.3} | {:.3} | {:.4} | {:.1} | {:.1} | {:.1} |",
            row.peer,
            latency.rate,
            latency.direct_ms.0,
            latency.added_ms.0,
            latency.direct_ms.1,
            latency.added_ms.1,
            row.idle_cores,
            row.memory.idle,
            row.memory.with_streams,
            row.memory.own,
        )
        .expect("a String should take text");
    }
    out
}
