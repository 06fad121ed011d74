//! The table of the traces in real time.

use std::fmt::Write as _;

use super::{Played, Row};

/// One row per run; rows from virtual time have no failures and no processor use.
pub(super) fn markdown(all: &[Played]) -> String {
    let mut text = String::from(
        "| trace | requests | workers | faster | routers | router | hits | of one cache | spread | first token p50, s | p95, s | p99, s | failed | late p99, ms | CPU of routers, cores | of workers and load | machine idle |\n\
         | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for played in all {
        for row in &played.rows {
            write_row(played, row, &mut text).expect("a String should take text");
        }
    }
    text
}

fn write_row(played: &Played, row: &Row, text: &mut String) -> std::fmt::Result {
    let of_best = if played.best_hits > 0.0 {
        format!("{:.1} %", 100.0 * row.hits / played.best_hits)
    } else {
        "–".to_owned()
    };
    let [p50, p95, p99] = row.first_token;
    write!(
        text,
        "| {} | {} | {} | {} | {} | {} | {:.1} % | {of_best} | {:.2} | {p50:.2} | {p95:.2} | {p99:.2} |",
        played.trace,
        played.requests,
        played.workers,
        played.faster,
        row.routers,
        row.router,
        100.0 * row.hits,
        row.spread,
    )?;
    let Some(live) = &row.live else {
        return writeln!(text, " | | | | |");
    };
    let failed: usize = live.failures.iter().map(|(_, count)| count).sum();
    let (cpu, late) = (&live.cpu, 1000.0 * live.late[2]);
    writeln!(
        text,
        " {failed} | {late:.1} | {:.2} | {:.2} | {:.0} % |",
        cpu.routers,
        cpu.workers + cpu.load,
        100.0 * cpu.idle,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Live;
    use crate::live::cpu::Cpu;

    fn row(live: Option<Live>) -> Row {
        Row {
            router: "r",
            routers: 1,
            answered: 8,
            hits: 0.2,
            spread: 1.05,
            first_token: [0.1, 1.0, 2.0],
            live,
        }
    }

    #[test]
    fn failures_are_told_and_rows_are_as_wide_as_the_head() {
        let live = Live {
            failures: vec![("a".to_owned(), 2), ("b".to_owned(), 1)],
            late: [0.0, 0.001, 0.002],
            cpu: Cpu {
                routers: 0.5,
                workers: 0.25,
                load: 0.25,
                idle: 0.1,
            },
        };
        let played = Played {
            trace: "t".to_owned(),
            requests: 11,
            workers: 4,
            faster: 1,
            best_hits: 0.25,
            rows: vec![row(None), row(Some(live))],
        };
        let table = markdown(&[played]);
        let last =
            "| 20.0 % | 80.0 % | 1.05 | 0.10 | 1.00 | 2.00 | 3 | 2.0 | 0.50 | 0.50 | 10 % |\n";
        assert!(table.ends_with(last), "{table}");
        let widths: Vec<usize> = table
            .lines()
            .map(|line| line.matches('|').count())
            .collect();
        assert_eq!(widths, [widths[0]; 4]);
    }
}
