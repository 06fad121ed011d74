//! A socket wrapper that closes connections whose peer reads nothing, and that lets an overdue answer end although its
//! client does not read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use crate::counts::Counts;

/// Bytes of an overdue answer that are kept for a client that reads again: hyper's buffer and the end of the answer
/// fit.
const MOST_KEPT: usize = 512 << 10;

/// State that the socket and the HTTP connection on it share.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Deadline of the current answer; `None`: no request has arrived yet.
    deadline: Mutex<Option<Instant>>,
    /// Cancelled when all answers are to end.
    cut: CancellationToken,
    counts: Counts,
}

/// A socket that is closed when its peer does not read for too long.
///
/// hyper polls the body of an answer only while it has room to buffer it, so a body whose client does not read
/// would see neither its deadline nor the end of draining. From either on, this socket takes what its peer does
/// not: hyper polls the body again, which ends the answer and lets go of what it holds.
#[derive(Debug)]
pub struct Paced<S> {
    socket: S,
    progress: Arc<Progress>,
    /// How long the peer may read nothing.
    limit: Duration,
    /// Created when the peer does not read for the first time: most connections need no timer.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs, because bytes are waiting.
    armed: bool,
    /// Bytes of an overdue answer that the peer has not read.
    kept: BytesMut,
}

// === impl Progress ===

impl Progress {
    pub(crate) fn new(cut: CancellationToken, counts: Counts) -> Arc<Self> {
        Arc::new(Self {
            deadline: Mutex::new(None),
            cut,
            counts,
        })
    }

    /// Notes that the head of a request has arrived, and the deadline of its answer.
    pub(crate) fn asked(&self, deadline: Instant) {
        *self.deadline() = Some(deadline);
    }

    /// Whether the head of a request has arrived.
    pub(crate) fn was_asked(&self) -> bool {
        self.deadline().is_some()
    }

    fn is_overdue(&self) -> bool {
        self.cut.is_cancelled()
            || self
                .deadline()
                .is_some_and(|deadline| deadline <= Instant::now())
    }

    fn deadline(&self) -> MutexGuard<'_, Option<Instant>> {
        self.deadline.lock()
    }
}

// === impl Paced ===

impl<S: AsyncWrite + Unpin> Paced<S> {
    pub(crate) fn new(socket: S, progress: Arc<Progress>, limit: Duration) -> Self {
        Self {
            socket,
            progress,
            limit,
            timer: None,
            armed: false,
            kept: BytesMut::new(),
        }
    }

    /// The error for a peer that has read nothing for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !std::mem::replace(&mut self.armed, true) {
            timer.as_mut().reset(Instant::now() + limit);
        }
        ready!(timer.as_mut().poll(cx));
        self.progress.counts.stalled.inc();
        Poll::Ready(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer takes none of the bytes that wait for it",
        ))
    }

    /// Writes the kept bytes; ready when there are none left. The timer is not reset by what the peer reads meanwhile:
    /// the rest of an overdue answer has one period in all.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.kept) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.kept.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_stalled(cx).map(Err),
            }
            if self.kept.is_empty() {
                self.kept = BytesMut::new();
                self.armed = false;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
        keep: impl FnOnce(&mut BytesMut),
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = self.poll_kept(cx) {
            written?;
            if let Poll::Ready(written) = write(Pin::new(&mut self.socket), cx) {
                self.armed = false;
                return Poll::Ready(written);
            }
        }
        if let Poll::Ready(error) = self.poll_stalled(cx) {
            return Poll::Ready(Err(error));
        }
        if self.kept.len() < MOST_KEPT && self.progress.is_overdue() {
            let before = self.kept.len();
            keep(&mut self.kept);
            return Poll::Ready(Ok(self.kept.len() - before));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(
            cx,
            |socket, cx| socket.poll_write(cx, bytes),
            |kept| kept.extend_from_slice(bytes),
        )
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(
            cx,
            |socket, cx| socket.poll_write_vectored(cx, slices),
            |kept| {
                for slice in slices {
                    kept.extend_from_slice(slice);
                }
            },
        )
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_kept(cx) {
            Poll::Ready(written) => written?,
            // hyper polls no body while a flush is pending. What is kept is written with the next wake-up, and at
            // the latest before the shutdown.
            Poll::Pending => return Poll::Ready(Ok(())),
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_kept(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
