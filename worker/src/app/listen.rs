//! The address of a worker: a TCP port, or a Unix socket that only this user can reach.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::pb::health_server::Health;

use super::BindError;
use crate::config::{Address, Listen};
use crate::rpc::Services;

/// A bound address.
#[derive(Debug)]
pub(super) struct Listener {
    address: Address,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket, removed with its listener.
#[derive(Debug)]
struct SocketFile(PathBuf);

// === impl Listener ===

impl Listener {
    pub(super) async fn bind(listen: &Listen) -> Result<Self, BindError> {
        match listen {
            Listen::Tcp(address) => {
                let bind = async {
                    let listener = TcpListener::bind(address).await?;
                    Ok((listener.local_addr()?, listener))
                };
                let (bound, listener) = bind.await.map_err(|source| BindError::Tcp {
                    address: *address,
                    source,
                })?;
                Ok(Self {
                    address: Address::Tcp(bound),
                    socket: Socket::Tcp(listener),
                })
            }
            Listen::Unix(path) => {
                remove_stale(path).await?;
                let bind = || {
                    let listener = UnixListener::bind(path)?;
                    let file = SocketFile(path.clone());
                    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
                    Ok((listener, file))
                };
                let (listener, file) = bind().map_err(|source| BindError::Unix {
                    path: path.clone(),
                    source,
                })?;
                let address = Address::Unix(path.clone());
                Ok(Self {
                    address,
                    socket: Socket::Unix(listener, file),
                })
            }
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Serves connections until `end`, and those that are open then until they are done.
    pub(super) async fn serve(
        self,
        server: Server,
        services: Services<impl Health>,
        end: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let end = end.cancelled_owned();
        match self.socket {
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
}

// === impl SocketFile ===

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it with its folder.
        let _ = fs::remove_file(&self.0);
    }
}

/// A killed worker leaves its socket's file behind; nobody answers there.
async fn remove_stale(path: &Path) -> Result<(), BindError> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(BindError::InUse {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|source| BindError::Unix {
                path: path.to_owned(),
                source,
            }),
        Err(source) => Err(BindError::Unix {
            path: path.to_owned(),
            source,
        }),
    }
}
