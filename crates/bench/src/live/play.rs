//! Sends each request of a trace when it is due, and reads its answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memchr::memmem;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::prompt;
use crate::peers::client::Client;
use crate::peers::contestant::Contestant;
use crate::traces::trace::Request;

/// The results of all requests.
#[derive(Default)]
pub(super) struct Answers {
    /// Time from the due time of each request to its first token.
    pub(super) first_tokens: Vec<Duration>,
    /// Delay between the due time and the sending of each request.
    pub(super) late: Vec<Duration>,
    pub(super) prompt: u64,
    pub(super) cached: u64,
    pub(super) failures: BTreeMap<String, usize>,
}

/// A complete answer.
struct Answer {
    first_token: Instant,
    usage: Usage,
}

#[derive(Deserialize)]
struct Chunk {
    usage: Usage,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    prompt_tokens_details: Details,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
struct Details {
    cached_tokens: u64,
}

/// Plays a trace `speed` times faster than recorded, until its last answer has ended.
pub(super) async fn play(trace: &[Request], routers: &[Contestant], speed: f64) -> Result<Answers> {
    let begun = Instant::now();
    let mut answers = Answers::default();
    let mut open = JoinSet::new();
    for (number, request) in trace.iter().enumerate() {
        let due = begun + request.at.div_f64(speed);
        tokio::time::sleep_until(due.into()).await;
        let router = &routers[number % routers.len()];
        let address = router.address.clone();
        let wire = prompt::post(request, number, &address, &router.key);
        let tokens = request.answer_tokens;
        answers.late.push(due.elapsed());
        open.spawn(async move { (due, ask(&address, &wire, tokens).await) });
        while let Some(done) = open.try_join_next() {
            let (due, answer) = done?;
            answers.add(due, answer);
        }
    }
    while let Some(done) = open.join_next().await {
        let (due, answer) = done?;
        answers.add(due, answer);
    }
    Ok(answers)
}

/// Sends one request on a connection of its own; an incomplete answer is an error.
async fn ask(address: &str, wire: &[u8], tokens: u32) -> Result<Answer> {
    let mut client = Client::connect(address).await?;
    let (first_token, body) = client.ask_timed(wire).await?;
    let usage = usage(&body)?;
    let said = usage.completion_tokens;
    ensure!(
        said == u64::from(tokens),
        "an answer has not as many tokens as were asked for"
    );
    Ok(Answer { first_token, usage })
}

/// The usage in the last chunk of a stream.
fn usage(body: &[u8]) -> Result<Usage> {
    let at = memmem::rfind(body, br#""usage":{"#).context("a stream without usage")?;
    let begin = memmem::rfind(&body[..at], b"data: ").context("usage outside of a chunk")?;
    let line = body[begin..].split(|byte| *byte == b'\n').next();
    let chunk = line.unwrap_or_default().strip_prefix(b"data: ");
    let chunk: Chunk = serde_json::from_slice(chunk.unwrap_or_default())?;
    Ok(chunk.usage)
}

// === impl Answers ===

impl Answers {
    fn add(&mut self, due: Instant, answer: Result<Answer>) {
        match answer {
            Ok(Answer { first_token, usage }) => {
                self.first_tokens
                    .push(first_token.saturating_duration_since(due));
                self.prompt += usage.prompt_tokens;
                self.cached += usage.prompt_tokens_details.cached_tokens;
            }
            Err(error) => *self.failures.entry(format!("{error:#}")).or_default() += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_that_of_the_last_chunk() {
        let body = b"data: {\"choices\":[],\"usage\":null}\n\n\
            data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\
            \"total_tokens\":11,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\ndata: [DONE]\n\n";
        let expected = Usage {
            prompt_tokens: 9,
            completion_tokens: 2,
            prompt_tokens_details: Details { cached_tokens: 4 },
        };
        assert_eq!(usage(body).unwrap(), expected);
        assert!(usage(b"data: {\"error\":{}}\n\n").is_err());
    }
}
