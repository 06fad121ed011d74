//! Where Redis is, and whose word for it is believed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use redis::{Client, ConnectionAddr, RedisError, TlsCertificates};

/// The address of a Redis server, or of a node of a cluster. It may hold a password: nothing shows it.
#[derive(Clone)]
pub struct Address(pub(crate) Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) certificates: Option<TlsCertificates>,
}

/// Why there is no such address. The text may hold a password and is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Not a URL of Redis.
    #[error(
        "not an address of Redis: expected redis://[user:password@]host[:port][/database], rediss:// for TLS, or \
         redis+unix:///path"
    )]
    Url(#[source] RedisError),
    /// Certificates without TLS would be of no use.
    #[error("a certificate authority is for TLS: the address of Redis should begin with rediss://")]
    NotTls,
    /// Not certificates.
    #[error(
        "the certificate authority of Redis cannot be used: expected PEM, with -----BEGIN CERTIFICATE-----"
    )]
    Authority(#[source] Option<RedisError>),
}

// === impl Address ===

impl Address {
    /// An address whose server shows a certificate of an authority that this machine trusts, if it is
    /// one for TLS.
    pub fn new(url: &str) -> Result<Self, AddressError> {
        let client = Client::open(url).map_err(AddressError::Url)?;
        Ok(Self(Arc::new(Parts {
            client,
            certificates: None,
        })))
    }

    /// An address whose server shows a certificate of these authorities (PEM) and of no other.
    pub fn trusting(url: &str, authorities: &[u8]) -> Result<Self, AddressError> {
        let info = Self::new(url)?.0.client.get_connection_info().clone();
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(AddressError::NotTls);
        }
        let mark = b"-----BEGIN CERTIFICATE-----";
        if !authorities.windows(mark.len()).any(|it| it == mark) {
            return Err(AddressError::Authority(None));
        }
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(authorities.to_vec()),
        };
        let client = Client::build_with_tls(info, certificates.clone())
            .map_err(|error| AddressError::Authority(Some(error)))?;
        Ok(Self(Arc::new(Parts {
            client,
            certificates: Some(certificates),
        })))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Self::new(url)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_of_redis_and_is_never_shown() {
        for url in [
            "redis://127.0.0.1",
            "redis://user:secret@host:6380/2",
            "rediss://user:secret@host",
            "redis+unix:///run/redis",
        ] {
            let address: Address = url.parse().unwrap();
            assert_eq!(format!("{address:?}"), "Address(…)");
        }
        for url in ["", "localhost:6379", "http://secret@localhost"] {
            let error = url.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("expected redis://"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_authority_is_for_tls_and_has_certificates() {
        let wrong = Address::trusting("redis://host", b"-----BEGIN CERTIFICATE-----");
        assert!(matches!(wrong, Err(AddressError::NotTls)));
        for text in [
            "",
            "no certificate",
            "-----BEGIN CERTIFICATE-----\nno base64!\n-----END CERTIFICATE-----\n",
        ] {
            let wrong = Address::trusting("rediss://host", text.as_bytes());
            assert!(matches!(wrong, Err(AddressError::Authority(_))), "{text}");
        }
    }
}
