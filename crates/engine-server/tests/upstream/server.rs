//! An engine of the test: a real HTTP server that says what it is told, cut as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What it answers to the next request.
#[derive(Clone, Debug)]
pub(crate) struct Play {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) cut: Cut,
    pub(crate) then: Then,
}

/// How a body is cut into chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    Whole,
    Bytes,
    /// Somewhere; the number says where.
    Anywhere(u64),
}

/// What comes after the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The next request, on the same connection.
    KeepAlive,
    /// The connection is cut in the middle of the body.
    Break,
    /// Nothing, until the client closes the connection.
    Hang,
    /// The body again and again.
    Repeat,
    /// Not even a head comes: nothing, until the client closes the connection.
    Mute,
    /// The connection is cut before the head.
    Drop,
}

/// A request that came.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) body: Value,
    /// Which connection it came on.
    pub(crate) connection: usize,
}

/// What it says when it is asked what it is.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) models: String,
    pub(crate) metrics: Option<String>,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// What was asked.
    pub(crate) asked: mpsc::UnboundedReceiver<Asked>,
    /// Rings when a client has left in the middle of an answer.
    pub(crate) left: mpsc::UnboundedReceiver<()>,
    stage: Arc<Stage>,
    end: CancellationToken,
    tasks: TaskTracker,
}

struct Stage {
    plays: Mutex<VecDeque<Play>>,
    about: Mutex<About>,
    asked: mpsc::UnboundedSender<Asked>,
    left: mpsc::UnboundedSender<()>,
}

impl Play {
    /// A stream of events.
    pub(crate) fn stream(body: &[u8]) -> Self {
        Self {
            status: 200,
            kind: "text/event-stream; charset=utf-8",
            body: body.to_vec(),
            cut: Cut::Whole,
            then: Then::KeepAlive,
        }
    }

    /// A JSON body.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self {
            status,
            kind: "application/json",
            body: body.as_bytes().to_vec(),
            ..Self::stream(b"")
        }
    }

    pub(crate) fn cut(self, cut: Cut) -> Self {
        Self { cut, ..self }
    }

    pub(crate) fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }
}

impl Server {
    pub(crate) async fn start(about: About) -> Self {
        Self::start_on(([127, 0, 0, 1], 0).into(), about).await
    }

    pub(crate) async fn start_on(address: SocketAddr, about: About) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, asks) = mpsc::unbounded_channel();
        let (left, leavers) = mpsc::unbounded_channel();
        let stage = Arc::new(Stage {
            plays: Mutex::default(),
            about: Mutex::new(about),
            asked,
            left,
        });
        let (end, tasks) = (CancellationToken::new(), TaskTracker::new());
        let serving = serve(listener, Arc::clone(&stage), end.clone(), tasks.clone());
        tasks.spawn(serving);
        Self {
            address,
            asked: asks,
            left: leavers,
            stage,
            end,
            tasks,
        }
    }

    /// What it answers next, after what it was told before.
    pub(crate) fn play(&self, play: Play) {
        self.stage.plays.lock().unwrap().push_back(play);
    }

    pub(crate) fn set_metrics(&self, metrics: &str) {
        self.stage.about.lock().unwrap().metrics = Some(metrics.to_owned());
    }

    /// It dies: all connections break, and nobody listens there any longer.
    pub(crate) async fn kill(self) -> SocketAddr {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

async fn serve(
    listener: TcpListener,
    stage: Arc<Stage>,
    end: CancellationToken,
    tasks: TaskTracker,
) {
    for number in 0.. {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            () = end.cancelled() => return,
        };
        let (stage, end) = (Arc::clone(&stage), end.clone());
        tasks.spawn(async move {
            tokio::select! {
                // A client that breaks off is no failure of the test.
                _ = connection(stream, number, &stage) => {}
                () = end.cancelled() => {}
            }
        });
    }
}

async fn connection(stream: TcpStream, number: usize, stage: &Stage) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let head = head(&mut stream).await?;
        let (method, rest) = head.split_once(' ').unwrap();
        let path = rest.split(' ').next().unwrap().to_owned();
        let length = head
            .lines()
            .find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length: ")
                    .map(str::to_owned)
            })
            .map_or(0, |length| length.trim().parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let play = if method == "GET" {
            about(stage, &path)
        } else {
            let body = serde_json::from_slice(&body).expect("a request should be JSON");
            let asked = Asked {
                path,
                body,
                connection: number,
            };
            // A test that asks nothing of it is over.
            let _ = stage.asked.send(asked);
            let play = stage.plays.lock().unwrap().pop_front();
            play.unwrap_or_else(|| Play::json(500, "{}"))
        };
        if !answer(&mut stream, &play, stage).await? {
            return Ok(());
        }
    }
}

fn about(stage: &Stage, path: &str) -> Play {
    let about = stage.about.lock().unwrap();
    match (path, &about.metrics) {
        ("/health", _) => Play::json(200, ""),
        ("/v1/models", _) => Play::json(200, &about.models),
        ("/metrics", Some(metrics)) => Play::json(200, metrics),
        _ => Play::json(404, r#"{"detail":"Not Found"}"#),
    }
}

async fn head(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

/// False: the connection is over.
async fn answer(
    stream: &mut BufReader<TcpStream>,
    play: &Play,
    stage: &Stage,
) -> std::io::Result<bool> {
    match play.then {
        Then::Drop => return Ok(false),
        Then::Mute => {
            let _ = stream.read_u8().await;
            let _ = stage.left.send(());
            return Ok(false);
        }
        Then::KeepAlive | Then::Break | Then::Hang | Then::Repeat => {}
    }
    let head = format!(
        "HTTP/1.1 {} x\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        play.status, play.kind
    );
    stream.write_all(head.as_bytes()).await?;
    loop {
        for piece in cut(&play.body, play.cut) {
            let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
            if stream.write_all(&chunk).await.is_err() || stream.flush().await.is_err() {
                let _ = stage.left.send(());
                return Ok(false);
            }
        }
        match play.then {
            Then::KeepAlive => {
                stream.write_all(b"0\r\n\r\n").await?;
                return Ok(true);
            }
            Then::Break => return Ok(false),
            Then::Hang => {
                // Nothing comes but the end.
                let _ = stream.read_u8().await;
                let _ = stage.left.send(());
                return Ok(false);
            }
            Then::Repeat | Then::Mute | Then::Drop => {}
        }
    }
}

fn cut(body: &[u8], cut: Cut) -> Vec<&[u8]> {
    match cut {
        Cut::Whole if body.is_empty() => Vec::new(),
        Cut::Whole => vec![body],
        Cut::Bytes => body.chunks(1).collect(),
        Cut::Anywhere(mut seed) => {
            let mut pieces = Vec::new();
            let mut rest = body;
            while !rest.is_empty() {
                // Any sequence will do, as long as it is always the same.
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let length = usize::try_from(seed >> 58).unwrap() + 1;
                let (piece, after) = rest.split_at(length.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces
        }
    }
}
