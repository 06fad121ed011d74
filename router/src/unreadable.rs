//! What hyper answers by itself, before there is a request, gets the error body that every other error has.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::accept::{AcceptError, Unreadable};
use crate::error::Error;
use crate::request_id::RequestId;
use crate::telemetry::Telemetry;

/// In metrics and logs.
const ROUTE: &str = "bad_head";
/// How long, and how many bytes, a refused client may go on sending.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// A connection whose empty refusals are written with a body.
///
/// hyper refuses what is no request with a bare head (`connection`, `content-length: 0`, `date`), in one write
/// of its own; no service is asked. Every answer of this router has more headers than these, and no body of it has
/// a line that ends with `\r\n` within, so that nothing else is taken for such a head.
pub(crate) struct Refusals<S> {
    stream: S,
    telemetry: Arc<Telemetry>,
    /// What is written instead, until it is written.
    instead: Option<Box<Instead>>,
    linger: Option<Linger>,
}

/// What a refused client still sends is read and forgotten for a while: closing the connection under its writing
/// would destroy the answer before the client has read it.
struct Linger {
    until: Pin<Box<Sleep>>,
    /// Bytes that may still come.
    left: usize,
}

struct Instead {
    answer: Bytes,
    /// Bytes that hyper wrote.
    of: usize,
}

// === impl Refusals ===

impl<S> Refusals<S> {
    pub(crate) fn new(stream: S, telemetry: Arc<Telemetry>) -> Self {
        Self {
            stream,
            telemetry,
            instead: None,
            linger: None,
        }
    }

    /// Takes note of what is to be written instead of these bytes, if anything is.
    fn look(&mut self, bytes: &[u8]) {
        if self.instead.is_some() || !bytes.starts_with(b"HTTP/1.") {
            return;
        }
        let Some(why) = refusal(bytes) else { return };
        let error = Error::from(AcceptError::Unreadable(why));
        let answer = with_body(bytes, &error);
        let status = error.response("").status().as_u16();
        self.telemetry.answered(ROUTE, status, error.label(), 0.0);
        if let Some(suppressed) = self.telemetry.lines.admit(ROUTE, error.label()) {
            let suppressed = (suppressed > 0).then_some(suppressed);
            tracing::info!(
                route = ROUTE,
                status,
                code = error.label(),
                suppressed,
                "request"
            );
        }
        let of = bytes.len();
        self.instead = Some(Box::new(Instead { answer, of }));
    }
}

impl<S: AsyncWrite + Unpin> Refusals<S> {
    /// Writes what is written instead; `None`: nothing is.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<usize>>> {
        let Some(instead) = &mut self.instead else {
            return Poll::Ready(None);
        };
        while !instead.answer.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &instead.answer)) {
                Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::WriteZero.into()))),
                Ok(written) => instead.answer.advance(written),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        let of = instead.of;
        self.instead = None;
        self.linger = Some(Linger {
            until: Box::pin(sleep(LINGER_TIME)),
            left: LINGER_BYTES,
        });
        Poll::Ready(Some(Ok(of)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Refusals<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + Unpin> Refusals<S> {
    /// Reads on after a refusal; ready at the end of what comes, of the time, or of the bytes.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(linger) = &mut self.linger else {
            return Poll::Ready(());
        };
        let mut buffer = [0; 4096];
        while linger.until.as_mut().poll(cx).is_pending() && linger.left > 0 {
            let mut buffer = ReadBuf::new(&mut buffer);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            linger.left = linger.left.saturating_sub(buffer.filled().len());
        }
        self.linger = None;
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Refusals<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.look(bytes);
        match ready!(self.poll_instead(cx)) {
            Some(written) => Poll::Ready(written),
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [first, ..] = slices {
            self.look(first);
        }
        match ready!(self.poll_instead(cx)) {
            Some(written) => Poll::Ready(written),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        self.poll_linger(cx).map(Ok)
    }
}

/// Why hyper wrote this, if it is a whole head of its own.
fn refusal(bytes: &[u8]) -> Option<Unreadable> {
    let why = match bytes.get(9..12)? {
        b"400" => Unreadable::Malformed,
        b"414" => Unreadable::LongUri,
        b"431" => Unreadable::LargeHead,
        _ => return None,
    };
    let head = bytes.strip_suffix(b"\r\n\r\n")?;
    let mut empty = false;
    for line in lines(head).skip(1) {
        if line.eq_ignore_ascii_case(b"content-length: 0") {
            empty = true;
        } else if !is(line, b"connection") && !is(line, b"date") {
            return None;
        }
    }
    empty.then_some(why)
}

/// hyper's head with the length and the type of a body, and the body.
fn with_body(head: &[u8], error: &Error) -> Bytes {
    let id = RequestId::random();
    let body = error.response(id.as_str()).into_body();
    let mut answer = BytesMut::with_capacity(1024);
    let mut add = |line: &[u8]| {
        answer.extend_from_slice(line);
        answer.extend_from_slice(b"\r\n");
    };
    for line in lines(head).filter(|line| !line.is_empty()) {
        if !is(line, b"content-length") {
            add(line);
        }
    }
    add(b"content-type: application/json");
    add(format!("content-length: {}", body.len()).as_bytes());
    add(format!("x-request-id: {id}").as_bytes());
    add(b"x-content-type-options: nosniff");
    add(b"");
    answer.extend_from_slice(&body);
    answer.freeze()
}

/// The lines without their ends.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Whether the line is that of this header.
fn is(line: &[u8], name: &[u8]) -> bool {
    let colon = line.get(name.len()) == Some(&b':');
    colon && line[..name.len()].eq_ignore_ascii_case(name)
}
