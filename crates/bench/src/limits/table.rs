//! The results as tables.

use std::fmt::Write as _;

use super::latency::Latency;
use super::{Report, Row};

// === impl Row ===

impl Row {
    /// Server time divided by that of the empty script, per round.
    fn ratios(&self) -> Vec<f64> {
        let rounds = self.server.iter().zip(&self.empty);
        rounds.map(|(server, empty)| server / empty).collect()
    }
}

pub(crate) fn markdown(report: &Report) -> String {
    let mut out = String::new();
    out.push_str(
        "| call | round trips | server time, µs | an empty script with the same arguments, µs | times the empty script |\n\
         | --- | ---: | ---: | ---: | ---: |\n",
    );
    for row in &report.rows {
        let (least, middle, most) = spread(&row.ratios());
        let (_, server, _) = spread(&row.server);
        let (_, empty, _) = spread(&row.empty);
        let written = writeln!(
            out,
            "| {} | {} | {server:.1} | {empty:.1} | {middle:.1} ({least:.1} to {most:.1}) |",
            row.call, row.round_trips,
        );
        written.expect("a string should take any text");
    }
    let (least, middle, most) = spread(&report.requests_per_second);
    let written = write!(
        out,
        "\nRedis {}, {} requests in flight; eight meters: seven of the plan, one of the key. One core of Redis \
         admits and settles {middle:.0} requests per second ({least:.0} to {most:.0}).",
        report.redis, report.in_flight,
    );
    written.expect("a string should take any text");
    out.push_str(
        "\n\n| requests in flight | | p50, ms | p99, ms |\n| ---: | --- | ---: | ---: |\n",
    );
    for latency in &report.latency {
        for (way, p50, p99) in latency.rows() {
            let written = writeln!(
                out,
                "| {} | {way} | {p50:.3} | {p99:.3} |",
                latency.in_flight
            );
            written.expect("a string should take any text");
        }
    }
    out.truncate(out.trim_end().len());
    out
}

// === impl Latency ===

impl Latency {
    /// Every system with its percentiles, and the difference that limits make.
    fn rows(&self) -> [(&'static str, f64, f64); 4] {
        let [direct, without, with] =
            [&self.direct, &self.without_limits, &self.with_limits].map(|times| percentiles(times));
        [
            ("the worker alone, over gRPC", direct.0, direct.1),
            ("a router without limits", without.0, without.1),
            ("a router with eight meters in Redis", with.0, with.1),
            ("so limits add", with.0 - without.0, with.1 - without.1),
        ]
    }
}

/// Returns p50 and p99.
fn percentiles(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
    (at(sorted.len() / 2), at(sorted.len() * 99 / 100))
}

/// Returns minimum, median and maximum.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
    (
        at(0),
        at(sorted.len() / 2),
        at(sorted.len().saturating_sub(1)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_between_the_least_and_the_most() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (1.0, 2.0, 3.0));
    }
}
