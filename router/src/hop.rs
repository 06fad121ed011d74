//! The hop to a worker: `Worker.Generate` over HTTP/2 as it is, since each token of each answer comes this way.
//!
//! A gRPC library in between takes as much as all else that a request costs. The protocol is
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, without compression.
//!
//! ```text
//!  connection  opened when it is needed, kept alive, opened again
//!  outgoing    the one message of a request; a long prompt is not copied
//!  incoming    frames → messages; trailers → how it ended
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

/// How often a request is sent again to the same worker after its connection gave it back unseen.
const MOST_RESENDS: u32 = 2;

type Opening = Pin<Box<dyn Future<Output = Result<Sender, Lost>> + Send>>;

/// What went wrong below the contract.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Lost {
    /// The worker has not seen the request.
    #[error("{0}")]
    Unseen(String),
    /// It may have begun with it.
    #[error("{0}")]
    Died(String),
}

/// A call that can be handed on at any moment, also before the worker has answered to it. Dropped, it is reset.
pub(crate) struct Call {
    connection: Arc<Connection>,
    phase: Phase,
    resends: u32,
}

enum Phase {
    /// Nothing was sent yet.
    Ready(Sender, Outgoing),
    /// The connection has to be opened first.
    Opening(Opening, Outgoing),
    /// There is no head yet: the connection may still give the request back.
    Sent(ResponseFuture, Sender, Outgoing),
    Open(Incoming),
    Over,
}

// === impl Call ===

impl Call {
    /// Nothing is sent before it is polled; `headers` go along.
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

    /// The next event; after an error or the end not to be asked again.
    pub(crate) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<GenerateEvent, Lost>>> {
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
                        // It broke while nobody used it.
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
                            return self.ends(Lost::Unseen(error.to_string()));
                        }
                        Err(_) => {
                            self.resends += 1;
                            let (sender, outgoing) = (sender.clone(), std::mem::take(outgoing));
                            // Good for more, if only this stream was refused.
                            Phase::Ready(sender, outgoing)
                        }
                    }
                }
            };
        }
    }

    fn ends(&mut self, lost: Lost) -> Poll<Option<Result<GenerateEvent, Lost>>> {
        self.phase = Phase::Over;
        Poll::Ready(Some(Err(lost)))
    }
}

/// Whether the other side says that it did not process the request: it goes away, and the stream is above the
/// last one that it processed (RFC 9113, 6.8; h2 reports its GOAWAY on no other stream), or it refused the
/// stream (8.7).
fn is_unseen(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}
