//! `inferyard audit` compares what workers counted with what the ledger billed for them.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use inferyard_catalog::Endpoint;
use inferyard_ledger::{Store, WorkerTotals, instance_text};
use inferyard_proto::worker::v1::{WatchRequest, WorkerState};
use serde::Serialize;
use tokio::runtime;
use tokio::time::{Instant, sleep};

use crate::calendar::{DAY, now};
use crate::failure::Failure;
use crate::{dial, duration};

mod verdict;

use verdict::{Tokens, Verdict};

const EXAMPLES: &str = "\
Examples:
  inferyard audit --store sqlite:ledger.sqlite --worker 127.0.0.1:50051
  inferyard audit --store postgres://ledger@127.0.0.1/ledger --worker unix:/run/w0.sock \\
      --worker unix:/run/w1.sock --output json

Exit codes: 0 the sums agree as far as open and dropped requests allow, 1 they do not, or it failed,
2 wrong command line.";

/// Pause between two comparisons.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Compare what workers counted with what was billed
///
/// Every worker counts the tokens of each request when the request ends; the ledger sums the events of each
/// worker process. The comparison is repeated until both agree or --wait is over, because an event takes a
/// moment to arrive. After a router died, a worker may have counted tokens that no router read; it reports
/// how many at most.
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
    /// Address of a worker: `host:port`, or `unix:/path` of its socket
    #[arg(long = "worker", value_name = "ADDRESS", required = true)]
    workers: Vec<Endpoint>,
    /// How long to wait for events that have not arrived yet
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    wait: Duration,
    /// Output format; json prints one object per line
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// One worker process, from its start to its exit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    /// Its address; `None`: it does not run any more, or was not queried.
    worker: Option<String>,
    instance_id: String,
    model: String,
    verdict: Verdict,
    /// Tokens that the worker counted for requests that have ended.
    counted: Option<Tokens>,
    /// Tokens that the ledger has stored for it.
    billed: Tokens,
    /// Counted minus billed.
    difference: Option<Tokens>,
    /// The part of `counted` that belongs to requests whose stream was dropped.
    dropped: Option<Tokens>,
    /// Requests that have not ended.
    open_requests: u32,
}

/// Prints one line for each worker process.
///
/// # Errors
///
/// A worker or the store cannot be reached, or the sums differ by more than open and dropped requests explain.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let lines = runtime.block_on(compare(args))?;
    let mut out = io::stdout().lock();
    let written = match args.output {
        Output::Table => table(&lines, &mut out),
        Output::Json => lines.iter().try_for_each(|line| {
            let line = serde_json::to_string(line)?;
            writeln!(out, "{line}")
        }),
    };
    written.context("cannot write")?;
    let differ = lines
        .iter()
        .filter(|line| line.verdict == Verdict::Differs)
        .count();
    if differ > 0 {
        return Err(Failure::failed(format!(
            "{differ} of {} workers counted other sums than were billed",
            args.workers.len()
        )));
    }
    Ok(())
}

/// Compares until all agree, nothing changes any more, or the time is over.
async fn compare(args: &Args) -> anyhow::Result<Vec<Line>> {
    let store = Store::open_existing(&args.store).await?;
    let end = Instant::now() + args.wait;
    let mut before = None;
    loop {
        // Workers are queried before the store: what they have counted may be billed a moment later, and in the
        // other order a request could look unbilled.
        let mut states = Vec::new();
        for worker in &args.workers {
            states.push((worker, state(worker).await?));
        }
        let since = (now() - DAY) * 1_000_000;
        let billed = store.workers(0).await?;
        let lines = lines(&states, billed, since);
        let agree = lines.iter().all(|line| line.verdict.is_final());
        let settled = lines.iter().all(|line| line.verdict != Verdict::Differs)
            && before.as_ref() == Some(&lines);
        if agree || settled || Instant::now() >= end {
            return Ok(lines);
        }
        before = Some(lines);
        sleep(POLL_INTERVAL).await;
    }
}

async fn state(worker: &Endpoint) -> anyhow::Result<WorkerState> {
    let mut states = dial::worker(worker)
        .await?
        .watch(WatchRequest {})
        .await
        .with_context(|| format!("the worker at {worker} refused"))?
        .into_inner();
    let state = states.message().await;
    let state = state.with_context(|| format!("the worker at {worker} went away"))?;
    state.with_context(|| format!("the worker at {worker} says nothing"))
}

/// One line for each worker that was queried, then one for each other worker with events since `since_us`
/// (microseconds since the Unix epoch).
fn lines(
    states: &[(&Endpoint, WorkerState)],
    billed: Vec<WorkerTotals>,
    since_us: i64,
) -> Vec<Line> {
    let mut billed: HashMap<String, WorkerTotals> = billed
        .into_iter()
        .map(|totals| (totals.instance.clone(), totals))
        .collect();
    let mut lines: Vec<Line> = states
        .iter()
        .map(|(worker, state)| {
            let instance_id = instance_text(state.instance_id);
            let billed = billed.remove(&instance_id).map(|totals| tokens(&totals));
            let billed = billed.unwrap_or_default();
            let counted = verdict::counted(state);
            Line {
                worker: Some(worker.to_string()),
                instance_id,
                model: state.model.clone(),
                verdict: Verdict::of(state, billed),
                counted: Some(counted),
                billed,
                difference: Some(counted.less(billed)),
                dropped: Some(verdict::dropped(state)),
                open_requests: state.open_requests,
            }
        })
        .collect();
    let mut gone: Vec<WorkerTotals> = billed
        .into_values()
        .filter(|totals| totals.last_us >= since_us)
        .collect();
    gone.sort_by(|a, b| (a.last_us, &a.instance).cmp(&(b.last_us, &b.instance)));
    lines.extend(gone.iter().map(|totals| Line {
        worker: None,
        instance_id: totals.instance.clone(),
        model: totals.model.clone(),
        verdict: Verdict::NotRunning,
        counted: None,
        billed: tokens(totals),
        difference: None,
        dropped: None,
        open_requests: 0,
    }));
    lines
}

fn tokens(totals: &WorkerTotals) -> Tokens {
    Tokens {
        prompt: totals.prompt_tokens,
        cached: totals.cached_tokens,
        completion: totals.completion_tokens,
    }
}

fn table(lines: &[Line], out: &mut impl Write) -> io::Result<()> {
    for line in lines {
        let worker = line.worker.as_deref().unwrap_or("-");
        writeln!(
            out,
            "{worker}  instance {}  model {}: {}",
            line.instance_id, line.model, line.verdict
        )?;
        if let Some(counted) = line.counted {
            writeln!(out, "  counted     {counted}")?;
        }
        writeln!(out, "  billed      {}", line.billed)?;
        if let Some(difference) = line.difference {
            writeln!(out, "  difference  {difference}")?;
        }
        if let Some(dropped) = line.dropped.filter(|dropped| *dropped != Tokens::default()) {
            writeln!(
                out,
                "  dropped     {dropped}  (streams that were not read to their end)"
            )?;
        }
        if line.open_requests > 0 {
            writeln!(
                out,
                "  open        {} requests, not counted yet",
                line.open_requests
            )?;
        }
    }
    Ok(())
}
