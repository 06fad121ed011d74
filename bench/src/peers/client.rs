//! A client that costs little: requests that were written once, answers that are only counted.

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What stands in every chunk that carries a token.
const TOKEN: &[u8] = br#""delta":{"content":""#;

/// A connection that is kept.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// How an answer says where it ends.
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

    /// Sends a request and reads its answer: the number of chunks that carry a token, where it is a
    /// stream of them; 0 otherwise.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<u32> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let head = loop {
            self.read().await?;
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let framing = framing(&self.buffer[..head])?;
        match framing {
            Framing::Length(length) => {
                while self.buffer.len() < head + length {
                    self.read().await?;
                }
            }
            // The last chunk is empty; nothing in our answers looks like it.
            Framing::Chunked => {
                while !self.buffer.ends_with(b"0\r\n\r\n") {
                    self.read().await?;
                }
            }
        }
        let tokens = memmem::find_iter(&self.buffer, TOKEN).count();
        Ok(u32::try_from(tokens)?)
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

    /// Reads an answer that has begun to its end.
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

/// Anything but success is an error.
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
    fn heads_say_where_answers_end() {
        let length = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(framing(length).unwrap(), Framing::Length(12));
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(framing(chunked).unwrap(), Framing::Chunked);
        assert!(framing(b"HTTP/1.1 429 Too Many Requests\r\n\r\n").is_err());
        assert!(framing(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
