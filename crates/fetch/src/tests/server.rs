//! A server whose misbehaviour a test decides: it counts what is asked and can cut anywhere.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Path and query.
    pub(crate) path: String,
    headers: BTreeMap<String, String>,
}

/// What it answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: u16,
    /// Headers but for the length.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The whole body.
    pub(crate) body: Vec<u8>,
    /// After so many bytes of the body the connection is closed.
    pub(crate) cut: Option<usize>,
    /// After what is sent it stays open and silent.
    pub(crate) hold: bool,
}

/// A server that ends with the test.
pub(crate) struct Server {
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    log: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers what the function says; it gets the number of the request, from 0.
    pub(crate) async fn start(
        answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (of_task, answer) = (Arc::clone(&log), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answer) = (Arc::clone(&of_task), Arc::clone(&answer));
                // A client that leaves early is part of the tests.
                tokio::spawn(async move { serve(stream, &log, &*answer).await.ok() });
            }
        });
        Self { url, log, task }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// How often a path was asked for that contains this.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.path.contains(part))
            .count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Asked {
    /// The value of a header; its name is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Where the range begins.
    pub(crate) fn from(&self) -> Option<usize> {
        self.header("range")?
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    }
}

impl Reply {
    /// An answer without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// A whole body.
    pub(crate) fn whole(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            body: body.into(),
            ..Self::default()
        }
    }

    /// What a good server answers for a file: ranges, and whether they still fit.
    pub(crate) fn file(asked: &Asked, content: &[u8], tag: &str) -> Self {
        let same = asked.header("if-range").is_none_or(|before| before == tag);
        let mut reply = match asked.from().filter(|_| same) {
            Some(from) if from >= content.len() => {
                Self::status(416).with("content-range", format!("bytes */{}", content.len()))
            }
            Some(from) => {
                let (last, all) = (content.len() - 1, content.len());
                let range = format!("bytes {from}-{last}/{all}");
                Self {
                    status: 206,
                    ..Self::whole(&content[from..])
                }
                .with("content-range", range)
            }
            None => Self::whole(content),
        };
        reply.headers.push(("etag", tag.to_owned()));
        reply
    }

    /// One more header.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The connection ends after so many bytes of the body.
    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after.min(self.body.len()));
        self
    }

    /// So many bytes, and nothing more, ever.
    pub(crate) fn hold(self, after: usize) -> Self {
        Self {
            hold: true,
            ..self.cut(after)
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Asked>>,
    answer: &(impl Fn(usize, &Asked) -> Reply + ?Sized),
) -> io::Result<()> {
    let asked = read(&mut stream).await?;
    let number = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    let reply = answer(number, &asked);
    let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    let length = reply.body.len().to_string();
    head.extend(["content-length: ", &length, "\r\n\r\n"]);
    stream.write_all(head.as_bytes()).await?;
    let end = reply.cut.unwrap_or(reply.body.len());
    stream.write_all(&reply.body[..end]).await?;
    if reply.hold {
        // Until the other side has gone.
        let _gone = stream.read(&mut [0; 1]).await?;
    }
    stream.shutdown().await
}

async fn read(stream: &mut TcpStream) -> io::Result<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let path = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .unwrap_or_default()
        .to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Ok(Asked { path, headers })
}
