//! `make bench-peers`: the CPU use of our router compared with other routers, on the same engines in the same
//! run.

pub(crate) mod client;
pub(crate) mod contestant;
pub(crate) mod drive;
pub(crate) mod engines;
mod table;
pub(crate) mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use contestant::{Peer, Place};
use drive::Cost;
use engines::Engines;
use table::Row;
use work::Work;

/// Number of engines behind a router.
const ENGINES: usize = 4;

/// Options of the benchmark.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Routers to compare with HAProxy [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    peers: Vec<Peer>,
    /// Kinds of work [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    work: Vec<Work>,
    /// Number of repetitions
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3)]
    length: u64,
    /// Another build of this program, to measure its router too
    #[arg(long)]
    before: Option<PathBuf>,
    /// Where the peers' Python packages are [default: ~/.cache/inferyard/venv-peers]
    #[arg(long)]
    venv: Option<PathBuf>,
}

// === impl Arguments ===

impl Arguments {
    /// The routers to measure. "All" includes the other build only if one is named.
    fn peers(&self) -> Vec<Peer> {
        let mut peers = or_all(&self.peers);
        if self.before.is_none() && self.peers.is_empty() {
            peers.retain(|peer| *peer != Peer::InferyardBefore);
        } else if self.before.is_some() && !peers.contains(&Peer::InferyardBefore) {
            peers.push(Peer::InferyardBefore);
        }
        peers
    }
}

/// Measures everything; returns the rows and their table.
pub(crate) async fn measure(
    binary: &Path,
    arguments: &Arguments,
    load_core: usize,
    router_core: usize,
) -> Result<(Vec<Row>, String)> {
    let peers = arguments.peers();
    let works = or_all(&arguments.work);
    let venv = packages(arguments.venv.as_deref())?;
    let mut rows = Vec::new();
    for work in works {
        let flags = work.pace().flags();
        let engines = Engines::start(binary, Some(load_core), ENGINES, &flags).await?;
        let place = Place {
            binary,
            before: arguments.before.as_deref(),
            venv: &venv,
            engines: &engines,
            router_core: Some(router_core),
            load_core,
        };
        rows.extend(compare(&place, work, &peers, arguments).await?);
        engines.end().await?;
    }
    let table = table::markdown(&rows);
    Ok((rows, table))
}

/// Measures all routers with one kind of work, one after the other, in each repetition; HAProxy comes first.
async fn compare(
    place: &Place<'_>,
    work: Work,
    peers: &[Peer],
    arguments: &Arguments,
) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = peers.iter().map(|peer| Row::new(work, *peer)).collect();
    for repetition in 1..=arguments.repetitions {
        let length = Duration::from_secs(arguments.length);
        let floor = run(place, work, Peer::Haproxy, length).await?;
        for (peer, row) in peers.iter().zip(&mut rows) {
            let cost = match peer {
                Peer::Haproxy => Ok(floor),
                peer => run(place, work, *peer, length).await,
            };
            eprintln!(
                "{work:?}, repetition {repetition}, {}: {cost:?}",
                peer.name()
            );
            match cost {
                Ok(cost) => row.costs.push((cost, floor)),
                Err(error) => row.failure = Some(format!("{error:#}")),
            }
        }
    }
    Ok(rows)
}

async fn run(place: &Place<'_>, work: Work, peer: Peer, length: Duration) -> Result<Cost> {
    let contestant = peer.start(place).await?;
    let cost = drive::measure(&contestant, work, length).await;
    contestant.end().await?;
    cost
}

fn or_all<T: clap::ValueEnum + Clone>(chosen: &[T]) -> Vec<T> {
    if chosen.is_empty() {
        T::value_variants().to_vec()
    } else {
        chosen.to_vec()
    }
}

/// The folder of the peers' Python packages.
pub(crate) fn packages(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(venv) = named {
        return Ok(venv.to_owned());
    }
    let home = std::env::home_dir();
    let home = home.context("there is no home folder: name the packages' folder with --venv")?;
    Ok(home.join(".cache/inferyard/venv-peers"))
}
