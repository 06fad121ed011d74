//! `make bench-fairness`: how a flood of requests on one plan affects the answers of another plan.

mod caller;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::peers::contestant::{self, Peer, Place};
use crate::peers::engines::{Engines, Pace};
use crate::system::{hash, random_key};
use caller::{Caller, Times};

/// Options of the benchmark.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Clients of the flood, each with one request at a time
    #[arg(long, default_value_t = 200)]
    flood: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 15)]
    length: u64,
}

/// The answers of the watched plan.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    what: &'static str,
    flooded: bool,
    times: Times,
    /// Answers per second that the flood got.
    flood: f64,
}

/// Two workers with eight concurrent answers each; the watched plan alone never fills them.
const WORKERS: usize = 2;
const WATCHED: usize = 4;

/// Measures everything; returns the rows and their table.
pub(crate) async fn measure(
    binary: &Path,
    arguments: &Arguments,
    load_core: usize,
    router_core: usize,
) -> Result<(Vec<Row>, String)> {
    let flags = Pace::Narrow.flags();
    let engines = Engines::start(binary, Some(load_core), WORKERS, &flags).await?;
    let place = Place {
        binary,
        before: None,
        venv: &PathBuf::new(),
        engines: &engines,
        router_core: Some(router_core),
        load_core,
    };
    let mut rows = Vec::new();
    for (what, priority) in [
        ("a plan of a higher priority", Some(100)),
        ("a plan of the same priority and weight", Some(0)),
        ("HAProxy: the workers' own queues", None),
    ] {
        let (watched, flooding) = (random_key()?, random_key()?);
        let folder = tempfile::tempdir()?;
        let router = match priority {
            Some(priority) => {
                let plans = plans(&[("team", priority, &watched), ("free", 0, &flooding)]);
                contestant::ours(&place, folder, &plans, None).await?
            }
            None => Peer::Haproxy.start(&place).await?,
        };
        let team = Caller::new(
            &router.address,
            &watched,
            WATCHED,
            Duration::from_millis(50),
        );
        let free = Caller::new(&router.address, &flooding, arguments.flood, Duration::ZERO);
        team.answers().await?;
        for flooded in [false, true] {
            let length = Duration::from_secs(arguments.length);
            let (times, flood) = if flooded {
                let (times, flood) = tokio::join!(team.ask(length), free.ask(length));
                (times?, flood?.per_second)
            } else {
                (team.ask(length).await?, 0.0)
            };
            let row = Row {
                what,
                flooded,
                times,
                flood,
            };
            eprintln!("{row:?}");
            rows.push(row);
        }
        router.end().await?;
    }
    engines.end().await?;
    let table = markdown(&rows);
    Ok((rows, table))
}

fn plans(plans: &[(&str, i32, &str)]) -> String {
    let mut out = String::new();
    for (name, priority, key) in plans {
        let hash = hash(key);
        write!(
            out,
            "---\napiVersion: inferyard.dev/v1alpha1\nkind: Plan\nmetadata: {{name: {name}}}\n\
             spec: {{priority: {priority}, queue: {{maxRequests: 1024, maxWait: 5m}}}}\n\
             ---\napiVersion: inferyard.dev/v1alpha1\nkind: ApiKey\nmetadata: {{name: {name}}}\n\
             spec: {{plan: {name}, hash: {hash}}}\n"
        )
        .expect("a String should take text");
    }
    out
}

fn markdown(rows: &[Row]) -> String {
    let mut out = String::from(
        "| the other is | flood | first token p50, s | p95, s | answer p50, s | p95, s | answers/s | of the flood |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        let times = &row.times;
        writeln!(
            out,
            "| {} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.1} | {:.1} |",
            row.what,
            if row.flooded { "yes" } else { "no" },
            times.first_token.0,
            times.first_token.1,
            times.answer.0,
            times.answer.1,
            times.per_second,
            row.flood,
        )
        .expect("a String should take text");
    }
    out
}
