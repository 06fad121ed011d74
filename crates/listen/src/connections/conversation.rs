//! One connection, from its handshake to its last answer.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::paced::Progress;

/// Settings and signals of one connection.
pub(super) struct Conversation {
    pub(super) http: http1::Builder,
    pub(super) progress: Arc<Progress>,
    /// Deadline of the first request's head.
    pub(super) first_head: Instant,
    /// How long an answer may take.
    pub(super) answer: Duration,
    pub(super) closing: CancellationToken,
    pub(super) no_request: Counter,
}

// === impl Conversation ===

impl Conversation {
    /// Serves the connection until it ends.
    pub(super) async fn hold<Shaking, Stream, Serve, Answer, Content>(
        self,
        handshake: Shaking,
        serve: Serve,
    ) where
        Shaking: Future<Output = io::Result<Stream>>,
        Stream: AsyncRead + AsyncWrite + Unpin,
        Serve: Fn(Request<Incoming>) -> Answer,
        Answer: Future<Output = Response<Content>>,
        Content: Body<Data = Bytes> + 'static,
        Content::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let shaken = tokio::select! {
            biased;
            shaken = timeout_at(self.first_head, handshake) => shaken,
            () = self.closing.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.answer_all(stream, serve).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => {
                self.no_request.inc();
                tracing::debug!("a TLS handshake took too long");
            }
        }
    }

    /// Serves one request after another.
    async fn answer_all<Stream, Serve, Answer, Content>(self, stream: Stream, serve: Serve)
    where
        Stream: AsyncRead + AsyncWrite + Unpin,
        Serve: Fn(Request<Incoming>) -> Answer,
        Answer: Future<Output = Response<Content>>,
        Content: Body<Data = Bytes> + 'static,
        Content::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let service = service_fn(|request| {
            self.progress.asked(Instant::now() + self.answer);
            // hyper reserves the size of this future in the connection until that ends; in a box its memory is freed as
            // soon as the answer begins to stream.
            let answer = Box::pin(serve(request));
            async { Ok::<_, Infallible>(answer.await) }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            // On a busy machine this task may run long after a head has arrived: it is read before the deadline is
            // checked.
            biased;
            result = connection.as_mut() => result,
            () = self.nothing_asked() => {
                self.no_request.inc();
                return tracing::debug!("a connection without a request is closed");
            }
            () = self.closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection broke");
        }
    }

    /// Returns when the head of the first request is late.
    async fn nothing_asked(&self) {
        sleep_until(self.first_head).await;
        if self.progress.was_asked() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::counts::Counts;

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_there_is_answered_however_late_its_task_runs() {
        // An unbiased `select!` would pick its first branch at random.
        for _ in 0..32 {
            let (mut client, server) = duplex(1_024);
            let head = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
            client.write_all(head).await.unwrap();
            let counts = Counts::default();
            let conversation = Conversation {
                http: http1::Builder::new(),
                progress: Progress::new(CancellationToken::new(), counts.clone()),
                first_head: Instant::now() - Duration::from_secs(1),
                answer: Duration::from_mins(1),
                closing: CancellationToken::new(),
                no_request: counts.no_request.clone(),
            };
            let serve = async |_| Response::new(Full::new(Bytes::from_static(b"answered")));
            conversation.hold(async { Ok(server) }, serve).await;
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("answered"), "{answer}");
            assert_eq!(counts.no_request.get(), 0);
        }
    }
}
