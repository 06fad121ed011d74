//! Connections to the usage API: accepted, and drained at the end.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use inferyard_listen::{Listener, Socket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// A caller that does not finish its request gives the connection back.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open answers may take after the shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an accept that failed, as where files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is needed to serve connections.
struct Serving {
    app: Router,
    connections: TaskTracker,
    end: CancellationToken,
}

/// Serves connections until `end`, and answers what was asked by then.
pub(crate) async fn serve(listener: Listener, app: Router, end: CancellationToken) {
    let serving = Serving {
        app,
        connections: TaskTracker::new(),
        end: end.clone(),
    };
    let socket = listener.into_socket();
    match &socket {
        Socket::Tcp(listener) => {
            while let Some(accepted) = end.run_until_cancelled(listener.accept()).await {
                serving.accept(accepted).await;
            }
        }
        Socket::Unix(listener, _) => {
            while let Some(accepted) = end.run_until_cancelled(listener.accept()).await {
                serving.accept(accepted).await;
            }
        }
    }
    drop(socket);
    serving.connections.close();
    // Those that are still open then end with the runtime.
    let _ = time::timeout(DRAIN_TIMEOUT, serving.connections.wait()).await;
}

// === impl Serving ===

impl Serving {
    async fn accept<S, A>(&self, accepted: io::Result<(S, A)>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Ok((socket, _)) = accepted else {
            time::sleep(ACCEPT_PAUSE).await;
            return;
        };
        let (app, end) = (self.app.clone(), self.end.clone());
        self.connections.spawn(async move {
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                app.clone().oneshot(request.map(Body::new))
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service);
            let mut connection = std::pin::pin!(connection);
            // A caller that breaks off is no news.
            tokio::select! {
                _ = connection.as_mut() => return,
                () = end.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
}
