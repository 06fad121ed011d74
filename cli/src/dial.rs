//! A connection to a worker, over TCP or a Unix socket.

use anyhow::Context;
use hyper_util::rt::TokioIo;
use inferyard_catalog::Endpoint;
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use tokio::net::UnixStream;
use tonic::transport::{self, Channel};

/// Connects to the worker at this address.
pub(crate) async fn worker(endpoint: &Endpoint) -> anyhow::Result<WorkerClient<Channel>> {
    let channel = match endpoint {
        Endpoint::Tcp(address) => {
            let uri = format!("http://{address}");
            let endpoint = transport::Endpoint::from_shared(uri)
                .with_context(|| format!("{address} is not an address"))?;
            endpoint.connect().await
        }
        Endpoint::Unix(path) => {
            // The connector ignores the URI, which a socket file has no form for.
            let path = path.clone();
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            transport::Endpoint::from_static("http://worker")
                .connect_with_connector(connector)
                .await
        }
    };
    let channel = channel.with_context(|| format!("cannot connect to the worker at {endpoint}"))?;
    Ok(WorkerClient::new(channel))
}
