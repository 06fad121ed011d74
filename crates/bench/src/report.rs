//! The results, as tables and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::load::Measurement;
use crate::process::Memory;
use crate::start::Start;
use crate::system::SystemMemory;

/// All results.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Times and memory of the start.
    pub(crate) start: Start,
    /// Memory of router and worker after the load.
    pub(crate) memory: SystemMemory,
    /// One row per number of streams.
    pub(crate) rows: Vec<Row>,
}

/// All rounds with one number of streams.
#[derive(Serialize)]
pub(crate) struct Row {
    streams: usize,
    /// The engine alone.
    pub(crate) alone: Vec<Measurement>,
    /// gRPC to a worker.
    pub(crate) grpc: Vec<Measurement>,
    /// HTTP to a router.
    pub(crate) http: Vec<Measurement>,
}

// === impl Row ===

impl Row {
    /// A row without any round.
    pub(crate) fn new(streams: usize) -> Self {
        Self {
            streams,
            alone: Vec::new(),
            grpc: Vec::new(),
            http: Vec::new(),
        }
    }

    /// Throughput over HTTP divided by that of the engine alone, per round.
    fn ratios(&self) -> Vec<f64> {
        let rounds = self.http.iter().zip(&self.alone);
        rounds
            .map(|(http, alone)| http.tokens_per_second() / alone.tokens_per_second())
            .collect()
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let ways = [
            ("engine alone", &self.alone),
            ("gRPC", &self.grpc),
            ("HTTP", &self.http),
        ];
        for (name, rounds) in ways {
            let rate = median(rounds.iter().map(Measurement::tokens_per_second));
            let ratio = if name == "HTTP" {
                spread(&self.ratios())
            } else {
                String::new()
            };
            let waits = || {
                rounds
                    .iter()
                    .flat_map(|round| round.first_token_ms.iter().copied())
            };
            let engine = median(rounds.iter().map(|round| round.engine_us_per_token));
            let router = median(rounds.iter().map(|round| round.router_us_per_token));
            let router = if name == "HTTP" {
                format!("{router:.1}")
            } else {
                String::new()
            };
            writeln!(
                out,
                "| {} | {name} | {rate:.0} | {ratio} | {:.1} | {:.1} | {engine:.1} | {router} |",
                self.streams,
                percentile(waits(), 0.5),
                percentile(waits(), 0.95),
            )?;
        }
        Ok(())
    }
}

// === impl Report ===

impl Report {
    /// The tables of `docs/performance.md`.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        self.write(&mut out)
            .expect("writing into a string should not fail");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "| streams | way | tokens/s | of the engine alone | first token p50, ms | p95, ms | \
             CPU of the engine's process, µs/token | CPU of the router, µs/token |\n\
             | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        )?;
        for row in &self.rows {
            row.write(out)?;
        }
        writeln!(
            out,
            "\n`inferyard up` is ready after {:.0} ms; the first token comes after {:.0} ms.\n\n\
             | process | resident, MiB | peak, MiB |\n| --- | ---: | ---: |",
            self.start.ready_ms, self.start.first_token_ms
        )?;
        for (role, memory) in &self.start.memory {
            write_memory(out, &format!("{role}, after one request"), *memory)?;
        }
        write_memory(out, "router, after the load", self.memory.router)?;
        write_memory(out, "worker, after the load", self.memory.worker)
    }
}

fn write_memory(out: &mut String, process: &str, memory: Memory) -> std::fmt::Result {
    let tenths = |kib: u64| kib * 10 / 1024;
    let (resident, peak) = (tenths(memory.resident), tenths(memory.peak));
    writeln!(
        out,
        "| {process} | {}.{} | {}.{} |",
        resident / 10,
        resident % 10,
        peak / 10,
        peak % 10
    )
}

fn spread(ratios: &[f64]) -> String {
    let (least, most) = (
        percentile(ratios.iter().copied(), 0.0),
        percentile(ratios.iter().copied(), 1.0),
    );
    format!(
        "{:.2} ({least:.2} to {most:.2})",
        median(ratios.iter().copied())
    )
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    percentile(values, 0.5)
}

/// The value at this share of the sorted values, by nearest rank.
fn percentile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank below the number of values, which fit into memory"
    )]
    let rank = (share * values.len().saturating_sub(1) as f64).round() as usize;
    values.get(rank).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_the_nearest_rank() {
        let values = || [4.0, 1.0, 3.0, 2.0, 5.0].into_iter();
        let ranks = [0.0, 0.5, 0.95, 1.0].map(|share| percentile(values(), share));
        assert_eq!(
            ranks.map(f64::to_bits),
            [1.0, 3.0, 5.0, 5.0].map(f64::to_bits)
        );
    }
}
