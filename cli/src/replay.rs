//! `inferyard replay` repeats the placement decisions of a recording with the router's own code.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use inferyard_placement::recording::{Entry, Head, VERSION};
use inferyard_placement::{Replay, Report, Weights};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  inferyard router … --record-placements placements.jsonl      A router writes one
  inferyard replay placements.jsonl                            The same decisions come out
  inferyard replay placements.jsonl --weight-prompt 1          What another weight would have changed

A recording holds no prompt and no output, and no hash that could be tried against them.
With the recorded weights every decision comes out as it was; otherwise the exit code is 1.

Exit codes: 0 done, 1 failed or decided differently, 2 wrong command line.";

/// Number of changed decisions that are printed.
const MOST_SHOWN: usize = 10;

/// Repeat the placement decisions of a recording, with the same or other weights
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// File of `inferyard router --record-placements`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Weight of computing prompt tokens that are not cached [default: as recorded]
    #[arg(long, value_name = "NUMBER")]
    weight_prompt: Option<f64>,
    /// Weight of a worker's work of the last minutes [default: as recorded]
    #[arg(long, value_name = "NUMBER")]
    weight_balance: Option<f64>,
}

/// Repeats the decisions and prints a report.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (report, changed) = replay(args).map_err(Failure::Failed)?;
    let mut out = io::stdout().lock();
    print(&mut out, &report)
        .context("cannot print")
        .map_err(Failure::Failed)?;
    if !changed && !report.differing.is_empty() {
        return Err(Failure::failed(
            "the same weights decided differently: was the recording made by another version?"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The report, and whether other weights were given.
fn replay(args: &Args) -> anyhow::Result<(Report, bool)> {
    let file = &args.file;
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut lines = BufReader::new(opened).lines().enumerate().peekable();
    let Some((_, first)) = lines.next() else {
        bail!("{} is empty", file.display());
    };
    let head: Head = serde_json::from_str(&first?)
        .with_context(|| format!("{} does not begin as a recording does", file.display()))?;
    if head.inferyard_recording != VERSION {
        let found = head.inferyard_recording;
        bail!(
            "{}: version {found} of the format; this is {VERSION}",
            file.display()
        );
    }
    let weights = Weights {
        prompt: args.weight_prompt.unwrap_or(head.weights.prompt),
        balance: args.weight_balance.unwrap_or(head.weights.balance),
    };
    let mut replay = Replay::new(weights, head.seed);
    while let Some((number, line)) = lines.next() {
        let line = line?;
        let entry: Entry = match serde_json::from_str(&line) {
            Ok(entry) => entry,
            // The last line is incomplete: the router was killed while it wrote.
            Err(_) if lines.peek().is_none() => break,
            Err(error) => return Err(error).with_context(|| place(file, number)),
        };
        replay.take(entry).with_context(|| place(file, number))?;
    }
    Ok((replay.report(), weights != head.weights))
}

fn place(file: &Path, number: usize) -> String {
    format!("{}, line {}", file.display(), number + 1)
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let differing = report.differing.len();
    writeln!(
        out,
        "{} decisions, {differing} of them differ",
        report.decisions
    )?;
    if report.decisions > 0 {
        let (was, is) = report.seconds;
        let decisions = float(report.decisions);
        writeln!(
            out,
            "expected time to the first token: {:.4} s as recorded, {:.4} s now (mean)",
            was / decisions,
            is / decisions,
        )?;
    }
    if report.blocks > 0 {
        let share = |blocks: u64| 100.0 * float(blocks) / float(report.blocks);
        let (was, is) = report.cached_blocks;
        writeln!(
            out,
            "prompt blocks held where requests went: {:.1} % as recorded, {:.1} % now",
            share(was),
            share(is),
        )?;
    }
    for differing in report.differing.iter().take(MOST_SHOWN) {
        let (request, was, is) = (&differing.request, &differing.was, &differing.is);
        writeln!(out, "{request}  {was} → {is}")?;
    }
    if differing > MOST_SHOWN {
        writeln!(out, "… and {} more", differing - MOST_SHOWN)?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a mean")]
fn float(count: u64) -> f64 {
    count as f64
}
