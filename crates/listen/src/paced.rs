//! A socket whose waiting bytes must move: one that takes none for a time is broken off, and an answer that is
//! overdue is taken off HTTP's hands, so that it can end although its client does not read.

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

/// An overdue answer may leave this much, in bytes, for a client that reads again: HTTP's own buffer and the end
/// of the answer fit.
const MOST_KEPT: usize = 512 << 10;

/// What the socket and the HTTP connection on it know of each other.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Until when the last answer may take; `None`: nothing was asked yet.
    deadline: Mutex<Option<Instant>>,
    /// Cancelled when all answers are to end.
    cut: CancellationToken,
    counts: Counts,
}

/// A socket whose waiting bytes must move.
///
/// hyper polls the body of an answer only while it has room to buffer it, so a body whose client does not read
/// would see neither its deadline nor the end of draining. From either on, this socket takes what its peer does
/// not: hyper polls the body again, which ends the answer and lets go of what it holds.
#[derive(Debug)]
pub struct Paced<S> {
    socket: S,
    progress: Arc<Progress>,
    /// How long the peer may take nothing.
    limit: Duration,
    /// Made when the peer takes nothing for the first time, so that a connection that flows has none.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs: bytes are waiting.
    armed: bool,
    /// What was taken of an overdue answer and not by the peer.
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

    /// The head of a request is there, and its answer may take until then.
    pub(crate) fn asked(&self, deadline: Instant) {
        *self.deadline() = Some(deadline);
    }

    /// Whether the head of a request was there.
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

    /// The error of a peer that has taken nothing for too long.
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

    /// Writes what was kept; ready when nothing is. The timer goes on meanwhile, whatever the peer takes: an
    /// answer that is overdue has one period for its rest.
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
