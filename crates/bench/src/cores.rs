//! `make bench-cores`: the embedded engine on quiet, shared and limited cores, compared with llama.cpp itself.

mod condition;
mod engine;
mod ggml;
mod install;
mod stretch;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use condition::Condition;
use engine::Engine;
use stretch::Stretch;

/// Options of the benchmark.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Numbers of concurrent streams
    #[arg(long = "at", value_delimiter = ',', default_values_t = [1, 4, 8, 16])]
    streams: Vec<usize>,
    /// The loads on the machine
    #[arg(long, value_delimiter = ',', value_enum,
          default_values_t = [Condition::Quiet, Condition::Burnt, Condition::Half])]
    conditions: Vec<Condition>,
    /// Number of repetitions of everything
    #[arg(long, default_value_t = 1)]
    repetitions: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4)]
    length: u64,
    /// Also measure the worker with these values of `GOMP_SPINCOUNT`
    #[arg(long, value_delimiter = ',')]
    spin_counts: Vec<u64>,
    /// The model [default: Gemma 3 270M, a package of PyPI that is kept in ~/.cache/inferyard]
    #[arg(long)]
    gguf: Option<PathBuf>,
    /// Do not measure llama.cpp itself
    #[arg(long)]
    alone: bool,
}

/// Tokens per second of an engine with a number of streams, by condition.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    streams: usize,
    engine: String,
    tokens_per_second: BTreeMap<Condition, Vec<f64>>,
}

/// Measures everything; returns the rows and their table.
pub(crate) async fn measure(binary: &Path, arguments: &Arguments) -> Result<(Vec<Row>, String)> {
    let gguf = match &arguments.gguf {
        Some(gguf) => gguf.clone(),
        None => install::gemma().await?,
    };
    let stretch = Stretch {
        warm_up: Duration::from_millis(1_500),
        length: Duration::from_secs(arguments.length),
    };
    let engines = engines(binary, &gguf, arguments).await;
    let mut rows = Vec::new();
    for &streams in &arguments.streams {
        rows.extend(engines.iter().map(|engine| Row {
            streams,
            engine: engine.name(),
            tokens_per_second: BTreeMap::new(),
        }));
    }
    for repetition in 1..=arguments.repetitions {
        for &condition in &arguments.conditions {
            eprintln!(
                "{}, {repetition} of {}",
                condition.name(),
                arguments.repetitions
            );
            let ground = match condition.make() {
                Ok(ground) => ground,
                Err(error) => {
                    eprintln!("skipped: {error:#}");
                    continue;
                }
            };
            for engine in &engines {
                let mut running = engine.start(&ground).await?;
                let name = engine.name();
                for row in rows.iter_mut().filter(|row| row.engine == name) {
                    let speed = running.speed(&ground, row.streams, stretch).await?;
                    eprintln!("{name}, {} streams: {speed:.1} tokens/s", row.streams);
                    row.tokens_per_second
                        .entry(condition)
                        .or_default()
                        .push(speed);
                }
                running.end().await?;
            }
        }
    }
    let table = table(&rows, &arguments.conditions);
    Ok((rows, table))
}

/// The engines to measure.
async fn engines(binary: &Path, gguf: &Path, arguments: &Arguments) -> Vec<Engine> {
    let mut engines = vec![Engine::worker(binary, gguf, None)];
    for count in &arguments.spin_counts {
        engines.push(Engine::worker(binary, gguf, Some(*count)));
    }
    if !arguments.alone {
        match install::node().await {
            Ok(folder) => engines.push(Engine::llama_cpp(&folder, gguf)),
            Err(error) => eprintln!("llama.cpp is skipped: {error:#}"),
        }
    }
    engines
}

fn table(rows: &[Row], conditions: &[Condition]) -> String {
    let mut table = "| streams | engine |".to_owned();
    for condition in conditions {
        let _ = write!(table, " {}, tokens/s |", condition.name());
    }
    table += "\n| ---: | --- |";
    table += &" ---: |".repeat(conditions.len());
    table.push('\n');
    for row in rows {
        let _ = write!(table, "| {} | {} |", row.streams, row.engine);
        for condition in conditions {
            match row.tokens_per_second.get(condition) {
                Some(speeds) => {
                    let _ = write!(table, " {:.1} |", median(speeds));
                }
                None => table += " not shown |",
            }
        }
        table.push('\n');
    }
    table
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
