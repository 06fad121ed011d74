//! `inferyard usage` prints usage and costs from the ledger's store.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::Context;
use clap::ValueEnum;
use inferyard_ledger::{Dimension, Period, Row, Store, Totals, dollars};
use jiff::civil::Date;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::runtime;

use crate::calendar::{DAY, day_of, first_second, month_text, now, parse_day};
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  inferyard usage --store sqlite:ledger.sqlite --by key --day
  inferyard usage --by account --month --output csv > invoices.csv   # INFERYARD_STORE is set
  inferyard usage --by model --from 2026-11-01 --to 2026-11-30

Days and months are UTC's. Exit codes: 0 done, 1 failed, 2 wrong command line.";

/// How many days `--day` shows by default.
const DAYS_SHOWN: i64 = 30;

/// Print usage and costs
///
/// It reads the ledger's store; a ledger may be running.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The ledger's store: `postgres://USER:PASSWORD@HOST/DATABASE` or `sqlite:PATH`
    #[arg(
        long,
        value_name = "URL",
        env = "INFERYARD_STORE",
        hide_env_values = true
    )]
    store: String,
    /// Dimension that usage is grouped by
    #[arg(long, value_enum, default_value = "account")]
    by: By,
    /// Time unit that usage is grouped by
    #[arg(long, value_enum, default_value = "total")]
    per: Per,
    /// Same as --per day
    #[arg(long, conflicts_with_all = ["per", "month"])]
    day: bool,
    /// Same as --per month
    #[arg(long, conflicts_with = "per")]
    month: bool,
    /// First day, as in 2026-11-01 [default: the first with usage; with --per day, 30 days ago]
    #[arg(long, value_name = "DAY", value_parser = parse_day)]
    from: Option<Date>,
    /// Last day [default: today]
    #[arg(long, value_name = "DAY", value_parser = parse_day)]
    to: Option<Date>,
    /// Output format; json prints one object per line
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Account,
    Key,
    Plan,
    Model,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Per {
    Day,
    Month,
    Total,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
    Csv,
}

/// The printed table: column names, and rows of texts with their sums.
struct Sheet {
    names: Vec<&'static str>,
    rows: BTreeMap<Vec<String>, Totals>,
}

/// Prints the sums.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let per = match (args.day, args.month) {
        (true, _) => Per::Day,
        (_, true) => Per::Month,
        _ => args.per,
    };
    let period = period(args, per)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let rows = runtime.block_on(async {
        let store = Store::open_existing(&args.store).await?;
        let rows = store.usage(&period).await?;
        anyhow::Ok(rows)
    })?;
    let sheet = Sheet::new(args.by, per, rows);
    let mut out = io::stdout().lock();
    let written = match args.output {
        Output::Table => sheet.table(&mut out),
        Output::Json => sheet.json(&mut out),
        Output::Csv => sheet.csv(&mut out),
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("cannot write")?),
    }
}

fn period(args: &Args, per: Per) -> Result<Period, Failure> {
    let to = args.to.map_or_else(now, first_second) + DAY;
    let from = match args.from {
        Some(date) => first_second(date),
        None if per == Per::Day => first_second(day_of(to - DAY * (DAYS_SHOWN + 1))),
        None => 0,
    };
    if from >= to {
        return Err(Failure::usage(
            "--from is after --to: nothing lies between".to_owned(),
        ));
    }
    let group_by = match args.by {
        By::Account => vec![Dimension::Account],
        // Keys of two accounts may have the same name.
        By::Key => vec![Dimension::Account, Dimension::Key],
        By::Plan => vec![Dimension::Plan],
        By::Model => vec![Dimension::Model],
    };
    Ok(Period {
        from,
        to,
        width: if per == Per::Total { 0 } else { DAY },
        group_by,
        filters: Vec::new(),
        limit: i64::MAX,
    })
}

// === impl Sheet ===

impl Sheet {
    fn new(by: By, per: Per, rows: Vec<Row>) -> Self {
        let mut names = match per {
            Per::Day => vec!["day"],
            Per::Month => vec!["month"],
            Per::Total => vec![],
        };
        match by {
            By::Account => names.push("account"),
            By::Key => names.extend(["account", "key"]),
            By::Plan => names.push("plan"),
            By::Model => names.push("model"),
        }
        let mut sums: BTreeMap<Vec<String>, Totals> = BTreeMap::new();
        for row in rows {
            let day = day_of(row.bucket);
            let mut cells = match per {
                Per::Day => vec![day.to_string()],
                Per::Month => vec![month_text(day)],
                Per::Total => vec![],
            };
            cells.extend(row.groups);
            *sums.entry(cells).or_default() += row.totals;
        }
        Self { names, rows: sums }
    }

    fn table(&self, out: &mut impl Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return writeln!(out, "no usage in this time");
        }
        let mut lines = vec![self.header()];
        lines.extend(self.rows.iter().map(|(cells, totals)| {
            // The anonymous preview has no key.
            let shown = |cell: &String| match &**cell {
                "" => "-".to_owned(),
                cell => cell.to_owned(),
            };
            cells.iter().map(shown).chain(numbers(totals)).collect()
        }));
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|column| {
                let width = |line: &Vec<String>| line[column].chars().count();
                lines.iter().map(width).max().unwrap_or(0)
            })
            .collect();
        for line in &lines {
            let mut text = String::new();
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                let padding = " ".repeat(width - cell.chars().count());
                // Names are left-aligned, numbers right-aligned.
                if column < self.names.len() {
                    text.push_str(cell);
                    text.push_str(&padding);
                } else {
                    text.push_str(&padding);
                    text.push_str(cell);
                }
                text.push_str("  ");
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }

    fn json(&self, out: &mut impl Write) -> io::Result<()> {
        for (cells, totals) in &self.rows {
            let mut line = Map::new();
            for (name, cell) in self.names.iter().zip(cells) {
                line.insert((*name).to_owned(), Value::from(cell.as_str()));
            }
            let more = json!({
                "requests": totals.requests,
                "input_tokens": totals.prompt_tokens,
                "cached_tokens": totals.cached_tokens,
                "output_tokens": totals.completion_tokens,
                "reasoning_tokens": totals.reasoning_tokens,
                "cost_nanodollars": totals.cost_nanodollars,
            });
            if let Value::Object(more) = more {
                line.extend(more);
            }
            let cost = RawValue::from_string(dollars(totals.cost_nanodollars))
                .expect("a decimal number should be JSON");
            let line = serde_json::to_string(&line)?;
            // A `serde_json::Value` cannot hold the exact decimal number.
            writeln!(out, "{},\"cost_usd\":{cost}}}", line.trim_end_matches('}'))?;
        }
        Ok(())
    }

    fn csv(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.header().join(","))?;
        for (cells, totals) in &self.rows {
            let cells = cells.iter().map(|cell| quoted(cell));
            let line: Vec<String> = cells.chain(numbers(totals)).collect();
            writeln!(out, "{}", line.join(","))?;
        }
        Ok(())
    }

    fn header(&self) -> Vec<String> {
        let sums = ["requests", "input", "cached", "output", "cost_usd"];
        let names = self.names.iter().chain(&sums);
        names.map(|name| (*name).to_owned()).collect()
    }
}

fn numbers(totals: &Totals) -> [String; 5] {
    [
        totals.requests.to_string(),
        totals.prompt_tokens.to_string(),
        totals.cached_tokens.to_string(),
        totals.completion_tokens.to_string(),
        dollars(totals.cost_nanodollars),
    ]
}

/// A CSV cell. One that a spreadsheet would read as a formula is marked as text.
fn quoted(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@']);
    if formula || cell.contains([',', '"', '\n', '\r']) {
        let mark = if formula { "'" } else { "" };
        return format!("\"{mark}{}\"", cell.replace('"', "\"\""));
    }
    cell.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bucket: i64, groups: &[&str], requests: i64, cost: i64) -> Row {
        Row {
            bucket,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            totals: Totals {
                requests,
                prompt_tokens: 10 * requests,
                cached_tokens: requests,
                completion_tokens: 5 * requests,
                reasoning_tokens: 0,
                cost_nanodollars: cost,
            },
        }
    }

    fn printed(sheet: &Sheet, print: fn(&Sheet, &mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(sheet, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn days_are_summed_to_months_and_printed_in_columns() {
        let november = first_second(parse_day("2026-11-30").unwrap());
        let rows = vec![
            row(november - DAY, &["acme", "ci"], 1, 75_000),
            row(november, &["acme", "ci"], 20, 1_500_000_000),
            row(november + DAY, &["acme", ""], 3, 5),
        ];
        let sheet = Sheet::new(By::Key, Per::Month, rows);
        let expected = "\
month    account  key  requests  input  cached  output     cost_usd
2026-11  acme     ci         21    210      21     105     1.500075
2026-12  acme     -           3     30       3      15  0.000000005
";
        assert_eq!(printed(&sheet, Sheet::table), expected);
        let expected = "\
month,account,key,requests,input,cached,output,cost_usd
2026-11,acme,ci,21,210,21,105,1.500075
2026-12,acme,,3,30,3,15,0.000000005
";
        assert_eq!(printed(&sheet, Sheet::csv), expected);
        let expected = r#"{"month":"2026-11","account":"acme","key":"ci","requests":21,"input_tokens":210,"cached_tokens":21,"output_tokens":105,"reasoning_tokens":0,"cost_nanodollars":1500075000,"cost_usd":1.500075}"#;
        let lines = printed(&sheet, Sheet::json);
        assert_eq!(lines.lines().next(), Some(expected));
    }

    #[test]
    fn cells_of_csv_stay_cells() {
        for (cell, expected) in [
            ("acme", "acme"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("=1+1", "\"'=1+1\""),
        ] {
            assert_eq!(quoted(cell), expected);
        }
    }
}
