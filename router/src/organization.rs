//! `/v1/organization/*`: the ledger's answers, passed on as they are.

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

/// Keys and their limits are small.
const BODY_LIMIT: usize = 1 << 20;
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Anyone may ask, as often as the network carries.
static WARNINGS: Throttle = Throttle::new(10, Duration::from_secs(10));
/// What goes on to the ledger: nothing that only this connection means.
const PASSED_ON: [HeaderName; 3] = [AUTHORIZATION, CONTENT_TYPE, ACCEPT];

/// The body of the ledger's answer, and the connection that brings it.
pub(crate) struct Forwarded {
    body: Incoming,
    /// `None`: it has brought everything.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    /// The rest must be there by then.
    deadline: Pin<Box<Sleep>>,
}

/// The ledger did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrganizationError {
    /// The request did not arrive.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// This router has none.
    #[error("there is no ledger")]
    NoLedger,
    /// It cannot be reached, or does not speak HTTP.
    #[error("the ledger cannot be reached")]
    Unreachable {
        /// For the log.
        #[source]
        source: io::Error,
    },
}

/// Passes a request on to the ledger, with the caller's admin key unread.
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

/// One connection for each request: these are few, and so none is found broken.
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
            // The answer may be there all the same, or else why there is none.
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
    /// The next piece of the body. An answer that breaks off is broken off here too.
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
                    // Trailers are of the connection to the ledger.
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
