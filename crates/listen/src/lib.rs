//! Where a process listens, and its HTTP connections: bounded in number, time and share per client.

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

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On a TCP port; port 0 picks a free one.
    Tcp(SocketAddr),
    /// On a Unix socket, for this user only.
    Unix(PathBuf),
}

/// Where it can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address, with the port that was really bound.
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

/// It cannot listen there.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// On the port.
    #[error("cannot listen on {address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// On the socket.
    #[error("cannot listen on the socket {}", path.display())]
    Unix {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else does.
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

/// What connections come from.
#[derive(Debug)]
pub enum Socket {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix socket, and its file, which must live as long.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket, removed with its listener.
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
    /// Binds the address. The file that a killed process left of its socket is replaced.
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

    /// Where it can be reached.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What connections come from.
    #[must_use]
    pub fn into_socket(self) -> Socket {
        self.socket
    }
}

// === impl SocketFile ===

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it with its folder.
        let _ = fs::remove_file(&self.0);
    }
}

/// A killed process leaves its socket's file behind; nobody answers there.
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
