//! How the gRPC server is served on the address of a worker.

use inferyard_listen::{Listener, Socket};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::pb::health_server::Health;

use crate::rpc::Services;

/// Accepts connections until `end`, and serves those that are open then until they are done.
pub(super) async fn serve(
    listener: Listener,
    server: Server,
    services: Services<impl Health>,
    end: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let end = end.cancelled_owned();
    match listener.into_socket() {
        Socket::Tcp(listener) => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            server
                .serve_with_incoming_shutdown(services, incoming, end)
                .await
        }
        Socket::Unix(listener, _file) => {
            let incoming = UnixListenerStream::new(listener);
            server
                .serve_with_incoming_shutdown(services, incoming, end)
                .await
        }
    }
}
