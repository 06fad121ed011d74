//! A client that reads and writes the bytes of HTTP/1.1 itself.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::within;

/// An open connection; dropping it closes it.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

/// The head of a response.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

/// A complete response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.unwrap();
    }

    /// The head of the next response; `None` if the connection has ended.
    pub(crate) async fn try_head(&mut self) -> Option<Head> {
        let mut status = self.line().await?;
        // Skips `100 Continue`, which a client with `Expect` gets first.
        while status.starts_with("HTTP/1.1 100") {
            self.line().await?;
            status = self.line().await?;
        }
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(Head { status, headers });
            }
            let (name, value) = line.split_once(": ").unwrap();
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }

    pub(crate) async fn head(&mut self) -> Head {
        self.try_head().await.expect("an answer")
    }

    /// The next chunk of a streamed body; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Option<String> {
        let length = self.line().await.expect("a chunk");
        let length = usize::from_str_radix(&length, 16).expect("the length of a chunk");
        let mut data = vec![0; length + 2];
        within(self.stream.read_exact(&mut data)).await.unwrap();
        data.truncate(length);
        (length > 0).then(|| String::from_utf8(data).expect("UTF-8"))
    }

    /// The rest of a streamed body.
    pub(crate) async fn rest(&mut self) -> String {
        let mut whole = String::new();
        while let Some(piece) = self.piece().await {
            whole.push_str(&piece);
        }
        whole
    }

    /// The next response with its body.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let body = match head.header("content-length") {
            Some(length) => {
                let mut body = vec![0; length.parse().unwrap()];
                within(self.stream.read_exact(&mut body)).await.unwrap();
                body
            }
            None if head.header("transfer-encoding") == Some("chunked") => {
                self.rest().await.into_bytes()
            }
            None => Vec::new(),
        };
        Answer { head, body }
    }

    /// Whether the peer has closed the connection without sending more.
    pub(crate) async fn is_at_end(&mut self) -> bool {
        within(self.stream.fill_buf())
            .await
            .is_ok_and(<[u8]>::is_empty)
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        within(self.stream.read_line(&mut line)).await.ok()?;
        let line = line.strip_suffix("\r\n")?;
        Some(line.to_owned())
    }
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name)?;
        Some(&found.1)
    }

    /// The headers with names that start with `prefix`.
    pub(crate) fn starting_with<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let headers = self.headers.iter();
        let found = headers.filter(move |(name, _)| name.starts_with(prefix));
        found.map(|(name, value)| (&**name, &**value))
    }
}

impl Answer {
    pub(crate) fn text(self) -> String {
        String::from_utf8(self.body).expect("UTF-8")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Status, code and param of an error.
    pub(crate) fn error(&self) -> (u16, Option<String>, Option<String>) {
        let body = self.json();
        let error = &body["error"];
        for key in ["message", "type", "param", "code"] {
            assert!(error.get(key).is_some(), "{key} is missing in {body}");
        }
        let text = |key: &str| error[key].as_str().map(ToOwned::to_owned);
        (self.head.status, text("code"), text("param"))
    }

    /// The public text of an error.
    pub(crate) fn message(&self) -> String {
        let body = self.json();
        let message = body["error"]["message"].as_str();
        message.expect("an error should have a message").to_owned()
    }
}
