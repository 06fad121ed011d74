//! Where the usage API listens: a TCP port, or a Unix socket that only this user can reach.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
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
    #[error("cannot listen on {}", path.display())]
    Unix {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process does.
    #[error("another process listens on {}", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
}

/// A bound address.
#[derive(Debug)]
pub(crate) struct Listener {
    address: Address,
    socket: Socket,
    /// Removes the file of a Unix socket in the end.
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The file of a Unix socket, removed with its listener.
#[derive(Debug)]
struct SocketFile(PathBuf);

/// What is needed to serve connections.
struct Serving {
    app: Router,
    connections: TaskTracker,
    end: CancellationToken,
}

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
    pub(crate) async fn bind(listen: &Listen) -> Result<Self, BindError> {
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
                    _file: None,
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
                    socket: Socket::Unix(listener),
                    _file: Some(file),
                })
            }
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Serves connections until `end`, and answers what was asked by then.
    pub(crate) async fn serve(self, app: Router, end: CancellationToken) {
        let serving = Serving {
            app,
            connections: TaskTracker::new(),
            end: end.clone(),
        };
        match &self.socket {
            Socket::Tcp(listener) => {
                while let Some(accepted) = end.run_until_cancelled(listener.accept()).await {
                    serving.accept(accepted).await;
                }
            }
            Socket::Unix(listener) => {
                while let Some(accepted) = end.run_until_cancelled(listener.accept()).await {
                    serving.accept(accepted).await;
                }
            }
        }
        drop(self);
        serving.connections.close();
        // Those that are still open then end with the runtime.
        let _ = time::timeout(DRAIN_TIMEOUT, serving.connections.wait()).await;
    }
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

// === impl SocketFile ===

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it with its folder.
        let _ = fs::remove_file(&self.0);
    }
}

/// A killed ledger leaves its socket's file behind; nobody answers there.
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
