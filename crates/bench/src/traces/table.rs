//! The tables of the traces.

use std::fmt::Write as _;

use super::Played;

/// One row per router and policy, for each trace and size of fleet.
pub(crate) fn markdown(all: &[Played]) -> String {
    let mut text = String::from(
        "| trace | workers | routers | policy | hits | of one cache | spread | first token p50, s | p95, s | p99, s | busy |\n\
         | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for played in all {
        for row in &played.rows {
            let outcome = &row.outcome;
            let [p50, p95, p99] = outcome.first_token;
            let of_best = if played.best_hits > 0.0 {
                format!("{:.1} %", 100.0 * outcome.hits / played.best_hits)
            } else {
                "–".to_owned()
            };
            writeln!(
                text,
                "| {} | {} | {} | {} | {:.1} % | {of_best} | {:.2} | {p50:.2} | {p95:.2} | {p99:.2} | {:.0} % |",
                played.trace,
                played.workers,
                row.routers,
                row.policy,
                100.0 * outcome.hits,
                outcome.spread,
                100.0 * outcome.busy,
            )
            .expect("a String should take text");
        }
    }
    text
}
