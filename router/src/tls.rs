//! TLS for clients: certificate and key are files, which are read again when they change.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Interval of checks for changed files. In a cluster the kubelet takes up to a minute to update them anyway.
const LOOK: Duration = Duration::from_secs(10);
/// Maximum size of a certificate or key file, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Paths of the certificate and its key (PEM).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by its intermediate certificates in order.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}, which TLS needs", path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the read.
        source: io::Error,
    },
    /// A file is larger than `MAX_BYTES`.
    #[error("{} has more than {} KiB: this is no certificate and no key", .0.display(), MAX_BYTES >> 10)]
    TooLarge(PathBuf),
    /// The certificate file contains no PEM certificate.
    #[error(
        "{} holds no certificate as PEM (-----BEGIN CERTIFICATE-----)", path.display()
    )]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The parse error; `None`: the file contains no certificate.
        source: Option<pem::Error>,
    },
    /// The key file contains no unencrypted PEM key.
    #[error(
        "{} holds no unencrypted private key as PEM (-----BEGIN PRIVATE KEY-----)", path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// The parse error.
        source: pem::Error,
    },
    /// The certificate and the key do not match.
    #[error("cannot use the certificate {} with the key {}", files.certificate.display(), files.key.display())]
    Pair {
        /// Paths of both files.
        files: TlsFiles,
        /// The error of rustls.
        source: rustls::Error,
    },
}

/// The current certificate.
pub(crate) struct Tls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
}

/// The contents of both files.
#[derive(PartialEq, Eq)]
struct Texts {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

// === impl Tls ===

impl Tls {
    /// Reads the files. The returned future checks them for changes; it never ends and must be polled.
    pub(crate) fn load(files: TlsFiles) -> Result<(Arc<Self>, impl Future<Output = ()>), TlsError> {
        let texts = Texts::read(&files)?;
        let config = ArcSwap::from_pointee(texts.config(&files)?);
        let tls = Arc::new(Self { files, config });
        let renewing = Arc::clone(&tls).renew(texts);
        Ok((tls, renewing))
    }

    /// Starts a TLS handshake with the current certificate.
    pub(crate) fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> impl Future<Output = io::Result<TlsStream<S>>> + use<S> {
        // Boxed, because this future is larger than the rest of the connection's state.
        Box::pin(TlsAcceptor::from(self.config.load_full()).accept(stream))
    }

    /// Loads changed files. If they cannot be used, the old certificate stays: the two files are seldom written
    /// at the same moment.
    async fn renew(self: Arc<Self>, in_force: Texts) {
        let mut in_force = Arc::new(in_force);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            look.tick().await;
            // On a blocking thread: this thread serves all requests, and a disk may take seconds.
            let files = self.files.clone();
            let in_force_now = Arc::clone(&in_force);
            let looking = spawn_blocking(move || Texts::changed(&files, &in_force_now));
            let Ok(renewed) = looking.await else { continue };
            match renewed {
                Ok(None) => told = None,
                Ok(Some((config, texts))) => {
                    self.config.store(Arc::new(config));
                    in_force = Arc::new(texts);
                    told = None;
                    tracing::info!("new connections get the renewed certificate");
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    let cause = cause.unwrap_or_default();
                    let text = format!("{error}: {cause}");
                    if told.as_ref() != Some(&text) {
                        tracing::warn!(%error, cause, "the previous certificate stays in force");
                        told = Some(text);
                    }
                }
            }
        }
    }
}

// === impl Texts ===

impl Texts {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
        })
    }

    /// Reads the files; `None`: they are unchanged.
    fn changed(
        files: &TlsFiles,
        in_force: &Self,
    ) -> Result<Option<(ServerConfig, Self)>, TlsError> {
        let texts = Self::read(files)?;
        if texts == *in_force {
            return Ok(None);
        }
        Ok(Some((texts.config(files)?, texts)))
    }

    fn config(&self, files: &TlsFiles) -> Result<ServerConfig, TlsError> {
        let no_certificate = |source| TlsError::Certificate {
            path: files.certificate.clone(),
            source,
        };
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| no_certificate(Some(error)))?;
        if chain.is_empty() {
            return Err(no_certificate(None));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| TlsError::Key {
            path: files.key.clone(),
            source,
        })?;
        let pair = |source| TlsError::Pair {
            files: files.clone(),
            source,
        };
        let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, TlsError> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut text))
        .map_err(|source| TlsError::Read {
            path: path.clone(),
            source,
        })?;
    if text.len() > MAX_BYTES {
        return Err(TlsError::TooLarge(path.clone()));
    }
    Ok(text)
}
