//! A fetch and the gRPC server that reports its progress.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use inferyard_listen::{Address, BindError, Listen, Listener, Socket};
use inferyard_proto::worker::v1::worker_server::WorkerServer;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::flow::{self, Config, Done, FetchError};
use crate::progress::Progress;
use crate::rpc::Service;

/// How long watchers may take to read the last state.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A fetch that has bound its address, if it has one, and does not run yet.
pub struct Fetch {
    config: Config,
    listener: Option<Listener>,
}

// === impl Fetch ===

impl Fetch {
    /// Binds the address. Nothing is requested yet.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn bind(config: Config, listen: Option<&Listen>) -> Result<Self, BindError> {
        let listener = match listen {
            Some(listen) => Some(Listener::bind(listen).await?),
            None => None,
        };
        Ok(Self { config, listener })
    }

    /// Where progress is reported.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        self.listener.as_ref().map(Listener::address)
    }

    /// Downloads all files, until it is done or `stop` is cancelled. Received bytes are kept for the next fetch.
    ///
    /// # Errors
    ///
    /// A permanent failure; [`FetchError`] lists them.
    pub async fn run(self, stop: CancellationToken) -> Result<Done, FetchError> {
        let progress = Arc::new(Progress::new());
        let end = CancellationToken::new();
        let server = self.listener.map(|listener| {
            let service = Service {
                // It only has to differ from that of an earlier process.
                instance_id: getrandom::u64().unwrap_or_default(),
                progress: progress.subscribe(),
            };
            tokio::spawn(serve(listener, service, end.clone().cancelled_owned()))
        });
        let outcome = tokio::select! {
            outcome = flow::run(self.config, Arc::clone(&progress), stop) => outcome,
            never = progress.run() => match never {},
        };
        // Watchers see the end of their stream.
        drop(progress);
        end.cancel();
        if let Some(server) = server {
            close(server).await;
        }
        outcome
    }
}

async fn serve(listener: Listener, service: Service, end: impl Future<Output = ()>) {
    let server = Server::builder();
    let service = WorkerServer::new(service);
    let outcome = match listener.into_socket() {
        Socket::Tcp(listener) => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            server
                .serve_with_incoming_shutdown(service, incoming, end)
                .await
        }
        Socket::Unix(listener, _file) => {
            let incoming = UnixListenerStream::new(listener);
            server
                .serve_with_incoming_shutdown(service, incoming, end)
                .await
        }
    };
    if let Err(error) = outcome {
        // Progress is not worth failing the fetch for.
        tracing::warn!(%error, "progress is not reported any more");
    }
}

async fn close(mut server: JoinHandle<()>) {
    if timeout(LAST_WORDS, &mut server).await.is_err() {
        server.abort();
    }
}
