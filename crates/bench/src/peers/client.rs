//! A client with little overhead: requests are encoded once, answers are only counted.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The text in every chunk that contains a token.
const TOKEN: &[u8] = br#""delta":{"content":""#;

/// A persistent connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// How the end of an answer is marked.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
}

// === impl Client ===

impl Client {
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(64 << 10),
        })
    }

    /// Sends a request and reads its answer. Returns the number of chunks with a token; 0 if the answer is not
    /// a stream.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<u32> {
        self.exchange(request).await?;
        let tokens = memmem::find_iter(&self.buffer, TOKEN).count();
        Ok(u32::try_from(tokens)?)
    }

    /// Like [`Self::ask`]; returns when the first token arrived, and the body.
    pub(crate) async fn ask_timed(&mut self, request: &[u8]) -> Result<(Instant, Vec<u8>)> {
        let (head, first) = self.exchange(request).await?;
        let first = first.context("a stream without tokens")?;
        let body = match framing(&self.buffer[..head])? {
            Framing::Length(_) => self.buffer.split_off(head),
            Framing::Chunked => joined(&self.buffer[head..])?,
        };
        Ok((first, body))
    }

    /// Reads an answer into the buffer. Returns the offset of its body, and when its first token arrived.
    async fn exchange(&mut self, request: &[u8]) -> Result<(usize, Option<Instant>)> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let head = loop {
            self.read().await?;
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let framing = framing(&self.buffer[..head])?;
        let mut first = None;
        loop {
            if first.is_none() && memmem::find(&self.buffer[head..], TOKEN).is_some() {
                first = Some(Instant::now());
            }
            let complete = match framing {
                Framing::Length(length) => self.buffer.len() >= head + length,
                // The last chunk is empty; nothing else in our answers looks like it.
                Framing::Chunked => self.buffer.ends_with(b"0\r\n\r\n"),
            };
            if complete {
                return Ok((head, first));
            }
            self.read().await?;
        }
    }

    /// Sends a request and reads up to the first token of its answer.
    pub(crate) async fn begin(&mut self, request: &[u8]) -> Result<()> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        while memmem::find(&self.buffer, TOKEN).is_none() {
            self.read().await?;
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                framing(&self.buffer[..end + 4])?;
            }
        }
        Ok(())
    }

    /// Reads a started answer to its end.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        while !self.buffer.ends_with(b"0\r\n\r\n") {
            self.read().await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the connection was closed in the answer");
        Ok(())
    }
}

/// The bytes of a request.
pub(crate) fn post(host: &str, key: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Joins chunks, because a proxy may split them anywhere.
fn joined(mut chunks: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::with_capacity(chunks.len());
    loop {
        let end = memmem::find(chunks, b"\r\n").context("a chunk has no length")?;
        let length = std::str::from_utf8(&chunks[..end])?;
        let length = usize::from_str_radix(length, 16).context("the length of a chunk")?;
        if length == 0 {
            return Ok(body);
        }
        let begin = end + 2;
        let chunk = chunks.get(begin..begin + length);
        body.extend_from_slice(chunk.context("a chunk is too short")?);
        chunks = chunks.get(begin + length + 2..).unwrap_or_default();
    }
}

/// The framing of an answer; a status other than 200 is an error.
fn framing(head: &[u8]) -> Result<Framing> {
    let head = std::str::from_utf8(head)?.to_ascii_lowercase();
    let status = head.get(9..12).unwrap_or_default();
    ensure!(
        status == "200",
        "it answered {}",
        head.lines().next().unwrap_or_default()
    );
    for line in head.lines() {
        if let Some(length) = line.strip_prefix("content-length:") {
            return Ok(Framing::Length(length.trim().parse()?));
        }
        if line.starts_with("transfer-encoding:") && line.contains("chunked") {
            return Ok(Framing::Chunked);
        }
    }
    bail!("the answer does not say where it ends")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        let body = joined(b"3\r\n{\"a\r\nA\r\n\": \"\r\n0b\"}\r\n0\r\n\r\n").unwrap();
        assert_eq!(body, b"{\"a\": \"\r\n0b\"}");
        assert!(joined(b"5\r\nab\r\n").is_err());
        assert!(joined(b"no chunk").is_err());
    }

    #[test]
    fn heads_say_where_answers_end() {
        let length = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(framing(length).unwrap(), Framing::Length(12));
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(framing(chunked).unwrap(), Framing::Chunked);
        assert!(framing(b"HTTP/1.1 429 Too Many Requests\r\n\r\n").is_err());
        assert!(framing(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
