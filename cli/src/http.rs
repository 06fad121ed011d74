//! HTTP clients: TLS with the system's certificate authorities, proxies from the environment.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder};

/// Time limit for a connection, including TLS.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long a server may be silent during a response.
const SILENT_TIME: Duration = Duration::from_mins(1);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The certificate file cannot be read.
    #[error("--ca {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The certificate file holds no certificates.
    #[error(
        "--ca {}: expected certificates in PEM, from -----BEGIN CERTIFICATE----- on",
        .0.display()
    )]
    NoCertificate(PathBuf),
    /// The system has no certificate authorities.
    #[error("TLS cannot be set up: {}", cause(.0))]
    Build(reqwest::Error),
}

/// A client builder that trusts the system's authorities, and those in a file.
pub(crate) fn client(authorities: Option<&Path>) -> Result<ClientBuilder, ClientError> {
    let mut builder = Client::builder()
        .user_agent(concat!("inferyard/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIME)
        .read_timeout(SILENT_TIME);
    if let Some(path) = authorities {
        for certificate in certificates(path)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    Ok(builder)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let text = std::fs::read(path).map_err(|source| ClientError::Read {
        path: path.to_owned(),
        source,
    })?;
    let certificates = Certificate::from_pem_bundle(&text).unwrap_or_default();
    if certificates.is_empty() {
        return Err(ClientError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

/// The root cause of an error: what the operating system or the TLS library reported.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Whether TLS failed because the server's certificate is not trusted.
pub(crate) fn is_distrust(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // `source()` of an I/O error skips the error that it wraps.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "no certificate\n", "-----BEGIN CERTIFICATE-----\n"] {
            file.as_file_mut().set_len(0).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let error = client(Some(file.path())).unwrap_err().to_string();
            assert!(error.contains("expected certificates in PEM"), "{error}");
        }
        let missing = file.path().with_extension("missing");
        let error = client(Some(&missing)).unwrap_err();
        assert!(matches!(error, ClientError::Read { .. }), "{error}");
    }
}
