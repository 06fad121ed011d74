//! The gRPC client of `Worker.Generate`, directly on HTTP/2, because every token of every answer passes through it.
//!
//! A general gRPC library costs as much CPU time as the rest of a request. The protocol is
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, without compression.
//!
//! ```text
//!  connection  opened on demand, kept alive, reopened after a failure
//!  outgoing    the one message of a request; a long prompt is not copied
//!  incoming    frames → messages; trailers → status
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use h2::Reason;
use h2::client::ResponseFuture;
use http::HeaderMap;
use inferyard_proto::worker::v1::{GenerateEvent, GenerateRequest};

mod connection;
mod incoming;
mod outgoing;

pub(crate) use connection::Connection;

use connection::Sender;
use incoming::{Incoming, died};
use outgoing::Outgoing;

/// How often a request is resent to the same worker after HTTP/2 reported it as not processed.
const MOST_RESENDS: u32 = 2;

type Opening = Pin<Box<dyn Future<Output = Result<Sender, TransportError>> + Send>>;

/// A failure below the worker protocol.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum TransportError {
    /// The worker has not processed the request.
    #[error("{0}")]
    Unseen(String),
    /// The worker may have started the request.
    #[error("{0}")]
    Died(String),
}

/// A `Generate` call, from before the connection is open to its end. Dropping it resets the stream.
pub(crate) struct Call {
    connection: Arc<Connection>,
    phase: Phase,
    resends: u32,
}

enum Phase {
    /// Nothing is sent yet.
    Ready(Sender, Outgoing),
    /// Waits for a new connection.
    Opening(Opening, Outgoing),
    /// Sent, without response headers: HTTP/2 may still report the request as not processed.
    Sent(ResponseFuture, Sender, Outgoing),
    Open(Incoming),
    Over,
}

// === impl Call ===

impl Call {
    /// Creates a call; nothing is sent before it is polled. `headers` are added to the request.
    pub(crate) fn new(
        connection: &Arc<Connection>,
        headers: HeaderMap,
        request: GenerateRequest,
    ) -> Self {
        let outgoing = Outgoing::new(headers, request);
        let phase = match connection.sender() {
            Some(sender) => Phase::Ready(sender, outgoing),
            None => Phase::Opening(Box::pin(connection.open(None)), outgoing),
        };
        Self {
            connection: Arc::clone(connection),
            phase,
            resends: 0,
        }
    }

    /// The next event; `None` after the last one. Must not be polled again after `None` or an error.
    pub(crate) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<GenerateEvent, TransportError>>> {
        loop {
            self.phase = match &mut self.phase {
                Phase::Open(incoming) => return incoming.poll_message(cx),
                Phase::Over => return Poll::Ready(None),
                Phase::Ready(sender, outgoing) => {
                    let ready = ready!(sender.poll_ready(cx));
                    let outgoing = std::mem::take(outgoing);
                    if let Ok(response) = ready.and_then(|()| sender.send(&outgoing)) {
                        Phase::Sent(response, sender.clone(), outgoing)
                    } else {
                        // The connection broke while idle.
                        let opening = self.connection.open(Some(sender));
                        Phase::Opening(Box::pin(opening), outgoing)
                    }
                }
                Phase::Opening(opening, outgoing) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(sender) => Phase::Ready(sender, std::mem::take(outgoing)),
                    Err(lost) => return self.ends(lost),
                },
                Phase::Sent(response, sender, outgoing) => {
                    match ready!(Pin::new(response).poll(cx)) {
                        Ok(response) => Phase::Open(Incoming::new(response)),
                        Err(error) if !is_unseen(&error) => return self.ends(died(&error)),
                        Err(error) if self.resends == MOST_RESENDS => {
                            return self.ends(TransportError::Unseen(error.to_string()));
                        }
                        Err(_) => {
                            self.resends += 1;
                            let (sender, outgoing) = (sender.clone(), std::mem::take(outgoing));
                            // If only this stream was refused, the connection can be used again.
                            Phase::Ready(sender, outgoing)
                        }
                    }
                }
            };
        }
    }

    fn ends(
        &mut self,
        lost: TransportError,
    ) -> Poll<Option<Result<GenerateEvent, TransportError>>> {
        self.phase = Phase::Over;
        Poll::Ready(Some(Err(lost)))
    }
}

/// Whether the peer reports that it did not process the request: it sent GOAWAY and the stream id is above the last
/// processed one (RFC 9113, 6.8; h2 reports GOAWAY on no other stream), or it refused the stream (8.7).
fn is_unseen(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}
