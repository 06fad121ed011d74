//! `inferyard watch` prints the state of a worker as JSON lines.

use std::io::{self, Write};

use anyhow::Context;
use inferyard_catalog::Endpoint;
use inferyard_proto::worker::v1::{WatchRequest, WorkerState, worker_state::Phase};
use serde::Serialize;
use tokio::runtime;

use crate::dial;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  inferyard watch 127.0.0.1:50051
  inferyard watch unix:/run/user/1000/inferyard-Ab12Cd/0.sock --once";

/// Print the state of a worker, as lines of JSON
///
/// One object per line, at each change and at least once a second: the phase (LOADING, READY or DRAINING), running and
/// waiting requests, and the use of the KV cache. A new `instance_id` means that the worker was restarted.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Address of the worker: `host:port`, or `unix:/path` of its socket
    #[arg(value_name = "ADDRESS")]
    worker: Endpoint,
    /// Print the present state and exit
    #[arg(long)]
    once: bool,
}

/// A [`WorkerState`] for people and scripts.
#[derive(Serialize)]
struct Line<'a> {
    /// Hexadecimal, because JSON parsers lose precision in 64-bit numbers.
    instance_id: String,
    sequence: u64,
    phase: &'static str,
    load_progress: f32,
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fetch: Option<Fetch>,
    model: &'a str,
    running: u32,
    queued: u32,
    queued_prefill_tokens: u64,
    kv_used_tokens: u64,
    kv_cached_tokens: u64,
    prefill_tokens_per_second: f32,
    decode_tokens_per_second: f32,
    open_requests: u32,
    prompt_tokens_total: u64,
    cached_tokens_total: u64,
    completion_tokens_total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<Capacity>,
    prefixes: Prefixes,
}

#[expect(
    clippy::struct_field_names,
    reason = "readers of the JSON are told the unit"
)]
#[derive(Serialize)]
struct Fetch {
    bytes_done: u64,
    bytes_total: u64,
    bytes_per_second: u64,
}

#[derive(Serialize)]
struct Capacity {
    max_running: u32,
    max_queued: u32,
    kv_total_tokens: u64,
    context_length: u32,
    template_tokens: u32,
}

/// Number of blocks. The blocks themselves are hashes, which say nothing to people.
#[derive(Serialize, Default)]
struct Prefixes {
    reset: bool,
    added: usize,
    removed: usize,
}

/// Prints states until the worker ends the stream or standard output is closed.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(print(args)).map_err(Failure::Failed)
}

async fn print(args: &Args) -> anyhow::Result<()> {
    let mut client = dial::worker(&args.worker).await?;
    let mut states = client
        .watch(WatchRequest {})
        .await
        .with_context(|| format!("the worker at {} refused", args.worker))?
        .into_inner();
    let mut output = io::stdout().lock();
    while let Some(state) = states.message().await.context("the worker went away")? {
        let line = serde_json::to_string(&Line::from(&state))?;
        match writeln!(output, "{line}").and_then(|()| output.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
        if args.once {
            break;
        }
    }
    Ok(())
}

/// The phase as the contract writes it, without its prefix.
fn phase_name(phase: Phase) -> &'static str {
    let name = phase.as_str_name();
    name.strip_prefix("PHASE_").unwrap_or(name)
}

// === impl Line ===

impl<'a> From<&'a WorkerState> for Line<'a> {
    fn from(state: &'a WorkerState) -> Self {
        Self {
            instance_id: format!("{:016x}", state.instance_id),
            sequence: state.sequence,
            phase: phase_name(state.phase()),
            load_progress: state.load_progress,
            note: &state.note,
            fetch: state.fetch.map(|fetch| Fetch {
                bytes_done: fetch.bytes_done,
                bytes_total: fetch.bytes_total,
                bytes_per_second: fetch.bytes_per_second,
            }),
            model: &state.model,
            running: state.running,
            queued: state.queued,
            queued_prefill_tokens: state.queued_prefill_tokens,
            kv_used_tokens: state.kv_used_tokens,
            kv_cached_tokens: state.kv_cached_tokens,
            prefill_tokens_per_second: state.prefill_tokens_per_second,
            decode_tokens_per_second: state.decode_tokens_per_second,
            open_requests: state.open_requests,
            prompt_tokens_total: state.prompt_tokens_total,
            cached_tokens_total: state.cached_tokens_total,
            completion_tokens_total: state.completion_tokens_total,
            capacity: state.capacity.map(|capacity| Capacity {
                max_running: capacity.max_running,
                max_queued: capacity.max_queued,
                kv_total_tokens: capacity.kv_total_tokens,
                context_length: capacity.context_length,
                template_tokens: capacity.template_tokens,
            }),
            prefixes: state
                .prefixes
                .as_ref()
                .map_or_else(Prefixes::default, |change| Prefixes {
                    reset: change.reset,
                    added: change.added.len(),
                    removed: change.removed.len(),
                }),
        }
    }
}
