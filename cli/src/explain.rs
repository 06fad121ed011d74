//! `inferyard explain` prints why a request was placed on its worker.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime;

use crate::admin::{Service, ServiceUrl};
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  inferyard explain req_0123456789abcdef0123456789abcdef --url https://api.example.com
  inferyard explain req_… --url http://10.0.0.5:8080 --url http://10.0.0.6:8080 --json

A router remembers its last few thousand decisions, and every router its own: name all of them.
The id is in the header x-request-id of every answer. A request with the header
`x-inferyard-explain: ADMIN_KEY` gets the same in its answer's header x-inferyard-placement.

Exit codes: 0 explained, 1 failed or not remembered, 2 wrong command line.";

/// Explain why a request was placed on its worker
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Request ID, as in the response header x-request-id
    #[arg(value_name = "REQUEST", value_parser = request_id)]
    request: String,
    /// URL of a router, as in https://api.example.com; with several routers, repeat it
    #[arg(long = "url", value_name = "URL", required = true)]
    urls: Vec<ServiceUrl>,
    /// File with the admin key [default: the key is in INFERYARD_ADMIN_KEY]
    #[arg(long, value_name = "FILE")]
    admin_key_file: Option<PathBuf>,
    /// PEM file of certificates that are trusted in addition to the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print the router's JSON unchanged
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Explanation {
    request_id: String,
    model: String,
    decisions: Vec<Decision>,
}

#[derive(Deserialize)]
struct Decision {
    waited: f64,
    prompt_bytes: u64,
    prompt_tokens: u64,
    blocks: u64,
    chosen: String,
    considered: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    worker: String,
    verdict: String,
    cached_blocks: Option<u64>,
    queue: Option<f64>,
    prompt: Option<f64>,
    decode: Option<f64>,
    expected: Option<f64>,
    balance: Option<f64>,
    weighed: Option<f64>,
}

/// Queries the routers in turn until one has the request.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
        .map_err(Failure::Failed)?;
    let said = runtime.block_on(ask(args))?;
    let mut out = io::stdout().lock();
    let written = if args.json {
        writeln!(out, "{said:#}")
    } else {
        let explanation = Explanation::deserialize(&said)
            .context("the router's answer is not what this version understands")
            .map_err(Failure::Failed)?;
        print(&mut out, &explanation)
    };
    written.context("cannot print").map_err(Failure::Failed)
}

async fn ask(args: &Args) -> Result<Value, Failure> {
    let mut forgotten = None;
    for url in &args.urls {
        let key = args.admin_key_file.as_deref();
        let service = Service::open(url.clone(), key, args.ca.as_deref())?;
        match service.get(&["placements", &args.request], &[]).await {
            Ok(said) => return Ok(said),
            Err(error) if error.has_code("not_found") => forgotten = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    let forgotten = forgotten.expect("clap should require an address");
    Err(Failure::Failed(forgotten.into()))
}

fn print(out: &mut impl Write, explanation: &Explanation) -> io::Result<()> {
    writeln!(out, "{} of {}", explanation.request_id, explanation.model)?;
    for decision in &explanation.decisions {
        if decision.waited > 0.0 {
            writeln!(out, "waited {:.3} s, until there was room", decision.waited)?;
        }
        writeln!(
            out,
            "went to {}: a prompt of {} bytes, about {} tokens, {} blocks",
            decision.chosen, decision.prompt_bytes, decision.prompt_tokens, decision.blocks,
        )?;
        let width = decision.considered.iter().map(|row| row.worker.len());
        let width = width.max().unwrap_or(0).max("WORKER".len());
        writeln!(
            out,
            "  {:width$}  {:>6}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}",
            "WORKER", "HELD", "QUEUE", "PROMPT", "DECODE", "EXPECTED", "BALANCE", "WEIGHED",
        )?;
        for row in &decision.considered {
            let mark = if row.worker == decision.chosen {
                "→"
            } else {
                " "
            };
            write!(out, "{mark} {:width$}", row.worker)?;
            print_terms(out, row)?;
        }
    }
    writeln!(
        out,
        "Seconds; EXPECTED is until the first token, WEIGHED is what was compared."
    )
}

fn print_terms(out: &mut impl Write, row: &Row) -> io::Result<()> {
    let Some(held) = row.cached_blocks else {
        return writeln!(out, "  {}", row.verdict);
    };
    write!(out, "  {held:>6}")?;
    for term in [
        row.queue,
        row.prompt,
        row.decode,
        row.expected,
        row.balance,
        row.weighed,
    ] {
        match term {
            Some(seconds) => write!(out, "  {seconds:>8.4}")?,
            None => write!(out, "  {:>8}", "–")?,
        }
    }
    if row.verdict == "full" {
        write!(out, "  full")?;
    }
    writeln!(out)
}

fn request_id(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("req_").unwrap_or_default();
    let is_id = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id {
        Ok(text.to_owned())
    } else {
        Err("expected `req_` and 32 hexadecimal digits, as in the header x-request-id".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_has_its_line_and_the_chosen_one_is_marked() {
        let said = serde_json::json!({
            "request_id": "req_1", "model": "m", "decisions": [{
                "at_ms": 1, "waited": 1.25, "prompt_bytes": 4096, "prompt_tokens": 1000, "blocks": 4,
                "weights": {"prompt": 12.0, "balance": 0.02}, "chosen": "b:1", "considered": [
                    {"worker": "a:1", "verdict": "tried"},
                    {"worker": "c:1", "verdict": "full", "queue": 0.0, "prompt": 0.25, "decode": 0.0,
                     "balance": 1.0, "cached_blocks": 4, "expected": 0.75, "weighed": 1.52},
                    {"worker": "b:1", "verdict": "able", "queue": 0.5, "prompt": 0.25, "decode": 0.0,
                     "balance": 1.0, "cached_blocks": 3, "expected": 0.75, "weighed": 3.52},
                ]}]
        });
        let mut out = Vec::new();
        print(&mut out, &Explanation::deserialize(&said).unwrap()).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "waited 1.250 s, until there was room");
        assert_eq!(
            lines[2],
            "went to b:1: a prompt of 4096 bytes, about 1000 tokens, 4 blocks"
        );
        assert_eq!(lines[4], "  a:1     tried");
        assert!(
            lines[5].starts_with("  c:1") && lines[5].ends_with("  full"),
            "{text}"
        );
        assert!(
            lines[6].starts_with("→ b:1          3    0.5000    0.2500"),
            "{text}"
        );
    }

    #[test]
    fn an_id_is_checked_before_anybody_is_asked() {
        assert!(request_id("req_0123456789abcdef0123456789ABCDEF").is_ok());
        for wrong in ["", "req_", "0123456789abcdef0123456789abcdef", "req_zz"] {
            assert!(request_id(wrong).is_err(), "{wrong}");
        }
    }
}
