//! The port on which progress is told, and the life of a fetch around it.

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

/// How long those who watch may take to hear the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A fetch that has bound its port, if it has one.
pub struct Fetch {
    config: Config,
    listener: Option<Listener>,
}

// === impl Fetch ===

impl Fetch {
    /// Binds the address, and asks nobody yet.
    ///
    /// # Errors
    ///
    /// The address cannot be had.
    pub async fn bind(config: Config, listen: Option<&Listen>) -> Result<Self, BindError> {
        let listener = match listen {
            Some(listen) => Some(Listener::bind(listen).await?),
            None => None,
        };
        Ok(Self { config, listener })
    }

    /// Where progress is told.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        self.listener.as_ref().map(Listener::address)
    }

    /// Brings all files into the folder, or goes on until `stop`; what is there then is kept for the
    /// next one.
    ///
    /// # Errors
    ///
    /// What does not pass by itself; `FetchError` has the list.
    pub async fn run(self, stop: CancellationToken) -> Result<Done, FetchError> {
        let progress = Arc::new(Progress::new());
        let end = CancellationToken::new();
        let server = self.listener.map(|listener| {
            let service = Service {
                // Only its being another one counts.
                boot_id: getrandom::u64().unwrap_or_default(),
                progress: progress.subscribe(),
            };
            tokio::spawn(serve(listener, service, end.clone().cancelled_owned()))
        });
        let outcome = tokio::select! {
            outcome = flow::run(self.config, Arc::clone(&progress), stop) => outcome,
            never = progress.run() => match never {},
        };
        // Those who watch hear the end of the stream.
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
        // The weights are what matters.
        tracing::warn!(%error, "progress is told no longer");
    }
}

async fn close(mut server: JoinHandle<()>) {
    if timeout(LAST_WORDS, &mut server).await.is_err() {
        server.abort();
    }
}
