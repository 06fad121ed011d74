//! A proxy before a worker. It parses HTTP/2 frames and refuses streams on request, like a service mesh that
//! drains connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use inferyard_catalog::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

/// <https://www.rfc-editor.org/rfc/rfc9113#section-6>
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const REFUSED_STREAM: u32 = 7;
const PREFACE: usize = 24;

/// How the proxy refuses a stream that it did not process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// GOAWAY, with a last stream id below the stream.
    GoAway,
    /// GOAWAY, with a last stream id that includes the stream: it may have been processed.
    GoAwayTooLate,
    /// RST_STREAM for the stream alone.
    RefusedStream,
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) endpoint: Endpoint,
    /// How many of the next streams are refused.
    pub(crate) refuses: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn start(worker: &Endpoint, refusal: Refusal) -> Self {
        let Endpoint::Tcp(worker) = worker.clone() else {
            unreachable!("the worker should listen on TCP");
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let refuses = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&refuses);
        let task = tokio::spawn(async move {
            loop {
                let client = listener.accept().await.unwrap().0;
                let worker = TcpStream::connect(&*worker).await.unwrap();
                tokio::spawn(connection(client, worker, refusal, Arc::clone(&left)));
            }
        });
        Self {
            endpoint: Endpoint::Tcp(address.into()),
            refuses,
            task,
        }
    }
}

/// A frame, including its header.
struct Frame {
    kind: u8,
    stream: u32,
    bytes: Vec<u8>,
}

async fn frame(from: &mut OwnedReadHalf) -> std::io::Result<Frame> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await?;
    let [a, b, c, kind, _, stream @ ..] = head;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let mut bytes = head.to_vec();
    bytes.resize(9 + length, 0);
    from.read_exact(&mut bytes[9..]).await?;
    Ok(Frame {
        kind,
        stream: u32::from_be_bytes(stream),
        bytes,
    })
}

fn written(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, 0];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

async fn connection(
    client: TcpStream,
    worker: TcpStream,
    refusal: Refusal,
    left: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    worker.set_nodelay(true)?;
    let (mut from_client, to_client) = client.into_split();
    let (mut from_worker, mut to_worker) = worker.into_split();
    let to_client = Arc::new(Mutex::new(to_client));
    let mut preface = [0; PREFACE];
    from_client.read_exact(&mut preface).await?;
    to_worker.write_all(&preface).await?;
    let answers = async {
        loop {
            let frame = frame(&mut from_worker).await?;
            to_client.lock().await.write_all(&frame.bytes).await?;
        }
    };
    let asks = async {
        let mut refused = None;
        loop {
            let frame = frame(&mut from_client).await?;
            let refuse = frame.kind == HEADERS
                && left
                    .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                        left.checked_sub(1)
                    })
                    .is_ok();
            if refuse {
                refused = Some(frame.stream);
                let (kind, stream, payload) = refuse_with(refusal, frame.stream);
                let bytes = written(kind, stream, &payload);
                to_client.lock().await.write_all(&bytes).await?;
                if refusal == Refusal::GoAwayTooLate {
                    return Ok(());
                }
            } else if refused != Some(frame.stream) {
                to_worker.write_all(&frame.bytes).await?;
            }
        }
    };
    // When one direction ends, both are dropped, which closes the connection.
    tokio::select! {
        ended = answers => ended,
        ended = asks => ended,
    }
}

fn refuse_with(refusal: Refusal, stream: u32) -> (u8, u32, Vec<u8>) {
    let go_away = |last: u32| [last.to_be_bytes(), 0_u32.to_be_bytes()].concat();
    match refusal {
        Refusal::GoAway => (GOAWAY, 0, go_away(stream.saturating_sub(2))),
        Refusal::GoAwayTooLate => (GOAWAY, 0, go_away(stream)),
        Refusal::RefusedStream => (RST_STREAM, stream, REFUSED_STREAM.to_be_bytes().to_vec()),
    }
}
