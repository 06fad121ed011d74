//! Adds the usual JSON error body to responses that hyper writes itself, before there is a request.

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
use crate::telemetry::Telemetry;
use inferyard_domain::RequestId;

/// Route label of metrics and logs.
const ROUTE: &str = "bad_head";
/// How long, and for how many bytes, the rest of a refused request is read.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// A stream that adds a body to the empty error responses of hyper.
///
/// hyper answers bytes that are not a request without calling the service: it writes only a head (`connection`,
/// `content-length: 0`, `date`), in one write. All responses of this router have more headers, and no body
/// contains a line that ends with `\r\n`, so nothing else matches such a head.
pub(crate) struct Refusals<S> {
    stream: S,
    telemetry: Arc<Telemetry>,
    /// The response that replaces hyper's, until it is written.
    instead: Option<Box<Instead>>,
    linger: Option<Linger>,
}

/// Reads and discards what a refused client still sends. Closing a connection with unread bytes resets it, and
/// the client would lose the response.
struct Linger {
    until: Pin<Box<Sleep>>,
    /// Bytes that may still be read.
    left: usize,
}

struct Instead {
    answer: Bytes,
    /// Length of hyper's write, which `poll_write` reports when the replacement is written.
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

    /// Checks whether these bytes are an error response of hyper, and prepares the replacement.
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
    /// Writes the replacement; `None`: there is none. A caller that gets `Pending` writes the same bytes again,
    /// so that `instead` stays until all of it is written.
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
    /// Reads and discards; ready at the end of the stream, of the time or of the bytes.
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

/// Why hyper wrote this response, if it is a whole head of hyper's own.
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

/// hyper's head with the length and type of a body, and the body.
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

/// The lines without their line ends.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Whether the line is the header `name`.
fn is(line: &[u8], name: &[u8]) -> bool {
    let colon = line.get(name.len()) == Some(&b':');
    colon && line[..name.len()].eq_ignore_ascii_case(name)
}
