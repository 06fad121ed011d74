//! `/v1/organization/*`: forwards requests to the ledger and its responses back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderName, TRANSFER_ENCODING,
};
use http::{HeaderValue, Request, Response};
use http_body::{Body as _, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use inferyard_listen::Throttle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::accept::Accepted;
use crate::collect::{ReceiveError, collect};
use crate::config::Config;
use inferyard_catalog::Endpoint;

/// Maximum size of a body in bytes; requests about keys and limits are small.
const BODY_LIMIT: usize = 1 << 20;
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Any client can cause these warnings, so they are limited.
static WARNINGS: Throttle = Throttle::new(10, Duration::from_secs(10));
/// Headers that are forwarded to the ledger; headers of this connection are not.
const PASSED_ON: [HeaderName; 3] = [AUTHORIZATION, CONTENT_TYPE, ACCEPT];

/// The body of the ledger's response, and the connection that it comes from.
pub(crate) struct Forwarded {
    body: Incoming,
    /// `None`: the connection has ended, and the rest is buffered in `body`.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    /// When the body must be complete.
    deadline: Pin<Box<Sleep>>,
}

/// The ledger did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrganizationError {
    /// The body could not be received.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// No ledger is configured.
    #[error("there is no ledger")]
    NoLedger,
    /// The ledger cannot be reached, or does not speak HTTP.
    #[error("the ledger cannot be reached")]
    Unreachable {
        /// The cause, for the log.
        #[source]
        source: io::Error,
    },
}

/// Forwards a request to the ledger, including the caller's admin key, which the router does not check.
pub(crate) async fn forward(
    config: &Config,
    accepted: &Accepted,
    body: &mut Incoming,
) -> Result<Response<Forwarded>, OrganizationError> {
    let Some(ledger) = &config.ledger else {
        return Err(OrganizationError::NoLedger);
    };
    let head = &accepted.head;
    let body = collect(&head.headers, body, BODY_LIMIT, config.body_timeout).await?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head
        .uri
        .path_and_query()
        .map_or_else(Default::default, |path| path.clone().into());
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("ledger"));
    for name in PASSED_ON {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let answer = ask(ledger, request, accepted.deadline).await;
    let answer = answer.map_err(|source| {
        if let Some(suppressed) = WARNINGS.admit() {
            tracing::warn!(%ledger, error = %source, suppressed, "the ledger did not answer");
        }
        OrganizationError::Unreachable { source }
    })?;
    Ok(answer)
}

/// Opens a connection for each request: requests are few, and no pooled connection can turn out to be closed.
async fn ask(
    ledger: &Endpoint,
    request: Request<Full<Bytes>>,
    deadline: Instant,
) -> io::Result<Response<Forwarded>> {
    match ledger {
        Endpoint::Tcp(address) => {
            let connecting = timeout(CONNECT_TIME, TcpStream::connect(&**address)).await;
            send(connecting??, request, deadline).await
        }
        Endpoint::Unix(path) => {
            let connecting = timeout(CONNECT_TIME, UnixStream::connect(path)).await;
            send(connecting??, request, deadline).await
        }
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
    deadline: Instant,
) -> io::Result<Response<Forwarded>> {
    let handshake = http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(io::Error::other)?;
    let mut connection = Box::pin(connection);
    let mut sending = std::pin::pin!(sender.send_request(request));
    let mut ended = false;
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut sending => break answer.map_err(io::Error::other)?,
            // The connection can end while the response, or the reason why there is none, is still buffered.
            _ = &mut connection, if !ended => ended = true,
        }
    };
    let (mut head, body) = answer.into_parts();
    for name in [CONNECTION, TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    let connection: Option<Pin<Box<dyn Future<Output = _> + Send>>> =
        if ended { None } else { Some(connection) };
    let forwarded = Forwarded {
        body,
        connection,
        deadline: Box::pin(sleep_until(deadline)),
    };
    Ok(Response::from_parts(head, forwarded))
}

// === impl Forwarded ===

impl Forwarded {
    /// Polls the next bytes of the body. If the ledger's connection breaks, the client's body ends with an
    /// error too.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            self.connection = None;
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                let late = || Some(Err(io::ErrorKind::TimedOut.into()));
                return self.deadline.as_mut().poll(cx).map(|()| late());
            };
            return Poll::Ready(match frame.transpose() {
                Ok(None) => None,
                Err(error) => Some(Err(io::Error::other(error))),
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => Some(Ok(data)),
                    // Trailers belong to the connection to the ledger.
                    Err(_) => continue,
                },
            });
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
