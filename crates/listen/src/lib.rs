//! Listening addresses of a process, and its HTTP connections: bounded in number, time and share per client.

mod connections;
mod counts;
mod network;
mod paced;
mod share;
mod throttle;

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, UnixListener, UnixStream};

pub use connections::{Bounds, Connections, clear, serve};
pub use counts::Counts;
pub use network::{Network, NetworkError, client_network};
pub use paced::Paced;
pub use throttle::Throttle;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP port; port 0 picks a free one.
    Tcp(SocketAddr),
    /// A Unix socket, which only this user can connect to.
    Unix(PathBuf),
}

/// An address that a listener can be reached at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address, with the port that was bound.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Why a text is not a [`Listen`].
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no address to listen on: expected `IP:port`, as in 127.0.0.1:8090, or `unix:/path`"
)]
pub struct ListenError(String);

/// Why an address cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The TCP port cannot be bound.
    #[error("cannot listen on {address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The Unix socket cannot be bound.
    #[error("cannot listen on the socket {}", path.display())]
    Unix {
        /// Its path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process listens on the Unix socket.
    #[error("another process listens on the socket {}", path.display())]
    InUse {
        /// Its path.
        path: PathBuf,
    },
}

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: Socket,
}

/// The listening socket.
#[derive(Debug)]
pub enum Socket {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix socket, and its file, which has to live as long as the socket is used.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket. Dropping it removes the file.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

// === impl Listen ===

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:")
            && !path.is_empty()
        {
            return Ok(Self::Unix(path.into()));
        }
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| ListenError(text.to_owned()))
    }
}

// === impl Address ===

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

// === impl Listener ===

impl Listener {
    /// Binds the address. A socket file that a killed process has left is replaced.
    pub async fn bind(listen: &Listen) -> Result<Self, BindError> {
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
                Ok(Self {
                    address: Address::Unix(path.clone()),
                    socket: Socket::Unix(listener, file),
                })
            }
        }
    }

    /// The address that it can be reached at.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The listening socket.
    #[must_use]
    pub fn into_socket(self) -> Socket {
        self.socket
    }
}

// === impl SocketFile ===

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The folder may have been removed already.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes the socket file of a killed process: connecting to it is refused.
async fn remove_stale(path: &Path) -> Result<(), BindError> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    let failed = |source| BindError::Unix {
        path: path.to_owned(),
        source,
    };
    match UnixStream::connect(path).await {
        Ok(_) => Err(BindError::InUse {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(source) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_port_or_a_path() {
        let tcp: Listen = "127.0.0.1:80".parse().unwrap();
        assert_eq!(tcp, Listen::Tcp(([127, 0, 0, 1], 80).into()));
        let unix: Listen = "unix:/run/x".parse().unwrap();
        assert_eq!(unix, Listen::Unix("/run/x".into()));
        for text in ["", "unix:", "localhost:80", "80"] {
            let error = text.parse::<Listen>().unwrap_err().to_string();
            assert!(error.contains("expected `IP:port`"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_private_and_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listen = Listen::Unix(path.clone());
        let listener = Listener::bind(&listen).await.unwrap();
        assert_eq!(*listener.address(), Address::Unix(path.clone()));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Listener::bind(&listen).await;
        assert!(matches!(second, Err(BindError::InUse { .. })));
        drop(listener);
        assert!(!path.exists(), "it takes its file with it");
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "text").unwrap();
        let bound = Listener::bind(&Listen::Unix(path.clone())).await;
        assert!(matches!(bound, Err(BindError::Unix { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"text");
    }
}
