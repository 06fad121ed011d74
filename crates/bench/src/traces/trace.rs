//! Public traces of requests, in either of two formats.
//!
//! Mooncake (JSON lines): `timestamp` in ms, `input_length`, `output_length`, and `hash_ids`, one per 512
//! tokens of the prompt; equal ids mean equal text after equal prefixes. Azure (CSV with a header):
//! `TIMESTAMP,ContextTokens,GeneratedTokens`, without information about the text.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Tokens per id of a trace.
pub(crate) const ID_TOKENS: u32 = 512;
/// Tokens per prefix block: 1,024 bytes of text, four per token.
pub(crate) const BLOCK_TOKENS: u32 = 256;

/// One request of a trace.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    /// Time since the first request.
    pub(crate) at: Duration,
    pub(crate) prompt_tokens: u32,
    pub(crate) answer_tokens: u32,
    /// The hashes of its complete prefix blocks.
    pub(crate) blocks: Vec<u64>,
}

#[derive(Deserialize)]
struct Line {
    timestamp: u64,
    input_length: u32,
    output_length: u32,
    hash_ids: Vec<u64>,
}

/// Reads a trace; the file's extension determines the format.
pub(crate) fn read(path: &Path) -> Result<Vec<Request>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the trace {}", path.display()))?;
    let requests = match path.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => text.lines().map(mooncake).collect::<Result<Vec<_>>>(),
        Some("csv") => azure(&text),
        _ => bail!(
            "{}: a trace ends with .jsonl (Mooncake) or .csv (Azure)",
            path.display()
        ),
    };
    let mut requests = requests.with_context(|| format!("in {}", path.display()))?;
    ensure!(!requests.is_empty(), "{} has no requests", path.display());
    requests.sort_by_key(|request| request.at);
    let first = requests[0].at;
    for request in &mut requests {
        request.at -= first;
    }
    spread_out(&mut requests);
    Ok(requests)
}

/// Spreads requests evenly over a tick: Mooncake's clock has a resolution of three seconds.
fn spread_out(requests: &mut [Request]) {
    let mut begin = 0;
    while begin < requests.len() {
        let at = requests[begin].at;
        let together = requests[begin..]
            .iter()
            .take_while(|request| request.at == at);
        let end = begin + together.count();
        let Some(next) = requests.get(end).map(|request| request.at) else {
            return;
        };
        let count = u32::try_from(end - begin).unwrap_or(u32::MAX);
        for (number, request) in (0..).zip(&mut requests[begin..end]) {
            request.at += next.saturating_sub(at) * number / count;
        }
        begin = end;
    }
}

/// Speed of a trace per worker at which the fleet is busy but not overloaded.
pub(crate) fn usual_speed(path: &Path) -> f64 {
    if path.extension().is_some_and(|extension| extension == "csv") {
        1.0
    } else {
        0.3
    }
}

fn mooncake(line: &str) -> Result<Request> {
    let line: Line = serde_json::from_str(line).context("a line of the trace")?;
    let mut blocks = Vec::with_capacity(line.hash_ids.len() * 2);
    let whole = (line.input_length / BLOCK_TOKENS) as usize;
    for id in line.hash_ids {
        for half in 0..u64::from(ID_TOKENS / BLOCK_TOKENS) {
            blocks.push(spread(id * 2 + half));
        }
    }
    blocks.truncate(whole);
    Ok(Request {
        at: Duration::from_millis(line.timestamp),
        prompt_tokens: line.input_length.max(1),
        answer_tokens: line.output_length.max(1),
        blocks,
    })
}

fn azure(text: &str) -> Result<Vec<Request>> {
    let rows = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    let mut next = 0;
    rows.map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        let &[time, prompt, answer] = fields.as_slice() else {
            bail!("expected three fields: `{line}`");
        };
        let prompt_tokens: u32 = prompt.trim().parse().context("ContextTokens")?;
        let answer_tokens: u32 = answer.trim().parse().context("GeneratedTokens")?;
        let blocks = (0..prompt_tokens / BLOCK_TOKENS).map(|_| {
            next += 1;
            spread(next)
        });
        Ok(Request {
            at: clock(time).with_context(|| format!("the time `{time}`"))?,
            prompt_tokens: prompt_tokens.max(1),
            answer_tokens: answer_tokens.max(1),
            blocks: blocks.collect(),
        })
    })
    .collect()
}

/// Parses `2023-11-16 18:15:46.6805900` as a time within the month.
fn clock(text: &str) -> Result<Duration> {
    let (date, time) = text.trim().split_once(' ').context("no date")?;
    let day: u64 = date.rsplit('-').next().context("no day")?.parse()?;
    let mut parts = time.split(':');
    let mut part = || parts.next().context("expected h:m:s");
    let (hours, minutes): (u64, u64) = (part()?.parse()?, part()?.parse()?);
    let seconds: f64 = part()?.parse()?;
    let whole = Duration::from_secs(((day * 24 + hours) * 60 + minutes) * 60);
    Ok(whole + Duration::from_secs_f64(seconds))
}

/// Turns small ids into hashes.
fn spread(id: u64) -> u64 {
    (id + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mooncake_has_two_blocks_for_an_id() {
        let line = r#"{"timestamp": 3000, "input_length": 1300, "output_length": 5, "hash_ids": [0, 7, 9]}"#;
        let request = mooncake(line).unwrap();
        assert_eq!(request.at, Duration::from_secs(3));
        assert_eq!((request.prompt_tokens, request.answer_tokens), (1300, 5));
        // 1,300 tokens are five complete blocks of 256.
        let expected: Vec<u64> = [0, 1, 14, 15, 18].map(spread).into();
        assert_eq!(request.blocks, expected);
    }

    #[test]
    fn azure_shares_nothing_and_keeps_its_times() {
        let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
            2023-11-16 18:15:46.6805900,600,44\n2023-11-16 18:15:50.5,600,109\n";
        let requests = azure(text).unwrap();
        assert_eq!(requests[0].blocks.len(), 2);
        assert!(
            requests[0]
                .blocks
                .iter()
                .all(|block| !requests[1].blocks.contains(block))
        );
        let apart = requests[1].at.as_secs_f64() - requests[0].at.as_secs_f64();
        assert!((apart - 3.81941).abs() < 1e-5, "{apart}");
        assert!(azure("head\n1,2\n").is_err());
    }
}
