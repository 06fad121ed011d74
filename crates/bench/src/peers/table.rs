//! The table that compares the routers.

use std::fmt::Write as _;

use serde::Serialize;

use super::contestant::Peer;
use super::drive::Cost;
use super::work::Work;

/// One router with one kind of work, over all repetitions.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) work: &'static str,
    pub(crate) peer: &'static str,
    /// Each cost, with HAProxy's in the same repetition.
    pub(crate) costs: Vec<(Cost, Cost)>,
    /// Why there is no cost.
    pub(crate) failure: Option<String>,
}

// === impl Row ===

impl Row {
    pub(crate) fn new(work: Work, peer: Peer) -> Self {
        Self {
            work: work.name(),
            peer: peer.name(),
            costs: Vec::new(),
            failure: None,
        }
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let (work, peer) = (self.work, self.peer);
        if let (true, Some(failure)) = (self.costs.is_empty(), &self.failure) {
            return writeln!(out, "| {work} | {peer} | failed: {failure} | | | |");
        }
        let mut us: Vec<f64> = self.costs.iter().map(|(cost, _)| cost.us).collect();
        let mut ratios: Vec<f64> = self
            .costs
            .iter()
            .map(|(cost, floor)| cost.us / floor.us)
            .collect();
        let mut rates: Vec<f64> = self
            .costs
            .iter()
            .map(|(cost, _)| cost.requests_per_second)
            .collect();
        let peak = self
            .costs
            .iter()
            .map(|(cost, _)| cost.peak_mib)
            .fold(0.0, f64::max);
        let middle = median(&mut ratios);
        let (least, most) = (ratios.first().copied(), ratios.last().copied());
        writeln!(
            out,
            "| {work} | {peer} | {:.2} | {middle:.2} ({:.2}–{:.2}) | {:.0} | {peak:.0} |",
            median(&mut us),
            least.unwrap_or_default(),
            most.unwrap_or_default(),
            median(&mut rates),
        )
    }
}

/// All rows.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut out = String::from(
        "| work | router | CPU, µs | of HAProxy's, no-delay | requests/s | peak, MiB |\n\
         | --- | --- | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        row.write(&mut out).expect("a String should take text");
    }
    out
}

/// Sorts the values and returns the median.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_same_repetition() {
        let cost = |us| Cost {
            us,
            requests_per_second: 100.0,
            peak_mib: 3.0,
        };
        let mut row = Row::new(Work::Short, Peer::Nginx);
        row.costs = vec![
            (cost(20.0), cost(10.0)),
            (cost(90.0), cost(30.0)),
            (cost(11.0), cost(10.0)),
        ];
        let table = markdown(&[row]);
        assert!(
            table.contains("| nginx | 20.00 | 2.00 (1.10–3.00) | 100 | 3 |"),
            "{table}"
        );
    }
}
