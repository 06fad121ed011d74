//! Requests over HTTP as a client of the OpenAI API sends them: one connection, one stream at a time.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::prompt;
use crate::way::{Answer, Way};

/// Address of the API, and its key.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    /// `host:port`.
    pub(crate) address: String,
    /// The text of the key.
    pub(crate) key: String,
    /// The name of the model.
    pub(crate) model: String,
}

/// A connection to the API.
pub(crate) struct Http {
    api: Api,
    requests: SendRequest<Full<Bytes>>,
}

/// The fields of the last chunk that are used.
#[derive(Deserialize)]
struct LastChunk {
    usage: Usage,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: u32,
}

// === impl Http ===

impl Http {
    /// Opens a connection.
    pub(crate) async fn connect(api: &Api) -> Result<Self> {
        let connection = TcpStream::connect(&api.address)
            .await
            .with_context(|| format!("connecting to the router at {}", api.address))?;
        connection.set_nodelay(true)?;
        let (requests, connection) = http1::handshake(TokioIo::new(connection)).await?;
        // The task ends when `requests` is dropped.
        tokio::spawn(connection);
        Ok(Self {
            api: api.clone(),
            requests,
        })
    }

    fn request(&self, number: usize) -> Result<Request<Full<Bytes>>> {
        let body = format!(
            r#"{{"model":"{}","messages":{},"max_tokens":{},"temperature":0,"stream":true,"stream_options":{{"include_usage":true}}}}"#,
            self.api.model,
            prompt::messages(number),
            prompt::MAX_TOKENS,
        );
        Request::post("/v1/chat/completions")
            .header(HOST, &self.api.address)
            .header(AUTHORIZATION, format!("Bearer {}", self.api.key))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))
            .context("the request should be valid")
    }
}

impl Way for Http {
    async fn answer(&mut self, number: usize) -> Result<Answer> {
        let request = self.request(number)?;
        self.requests.ready().await?;
        let answer = self.requests.send_request(request).await?;
        let status = answer.status();
        let mut body = answer.into_body();
        ensure!(
            status == StatusCode::OK,
            "the router answered {status}: {}",
            String::from_utf8_lossy(&body.collect().await?.to_bytes())
        );
        let (mut text, mut first_token) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                text.extend_from_slice(data);
            }
            if first_token.is_none() && has_content(&text) {
                first_token = Some(Instant::now());
            }
        }
        let first_token = first_token.context("the answer has no text")?;
        Ok(Answer {
            first_token,
            tokens: completion_tokens(&text)?,
        })
    }
}

/// Whether a chunk contains a non-empty text.
fn has_content(sse: &[u8]) -> bool {
    const CONTENT: &[u8] = br#""content":""#;
    memmem::find_iter(sse, CONTENT).any(|at| {
        sse.get(at + CONTENT.len())
            .is_some_and(|next| *next != b'"')
    })
}

/// The token count in the last chunk before `[DONE]`.
fn completion_tokens(sse: &[u8]) -> Result<u32> {
    let text = std::str::from_utf8(sse)?;
    let mut chunks = text
        .rsplit("\n\n")
        .filter_map(|frame| frame.strip_prefix("data: "));
    let end = chunks.next().context("the stream is empty")?;
    ensure!(end == "[DONE]", "the stream broke off");
    let last = chunks.next().context("the stream has no chunk")?;
    let last: LastChunk = serde_json::from_str(last).context("the last chunk has no usage")?;
    Ok(last.usage.completion_tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":7}}\n\n",
        "data: [DONE]\n\n",
    );

    #[test]
    fn first_token_is_text_and_not_the_role() {
        let role = STREAM.find("\n\n").unwrap();
        assert!(!has_content(&STREAM.as_bytes()[..role]));
        assert!(has_content(STREAM.as_bytes()));
    }

    #[test]
    fn tokens_are_those_of_the_usage_and_a_cut_stream_is_an_error() {
        assert_eq!(completion_tokens(STREAM.as_bytes()).unwrap(), 7);
        let cut = STREAM.strip_suffix("data: [DONE]\n\n").unwrap();
        assert!(completion_tokens(cut.as_bytes()).is_err());
    }
}
