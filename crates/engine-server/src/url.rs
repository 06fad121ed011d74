//! The address of a server beside the worker: plain HTTP, and nowhere but on this machine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// `http://127.0.0.1:8000`, perhaps with a path before `/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    address: SocketAddr,
    path: String,
}

/// Why a text is no such address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// Another scheme, or none.
    #[error("expected an address that begins with `http://`, such as http://127.0.0.1:8000")]
    Scheme,
    /// Prompts would leave the machine in clear text.
    #[error(
        "the engine must be on the worker's own machine or in its pod: the host must be 127.0.0.1, [::1] or localhost"
    )]
    Remote,
    /// The port is missing or no number.
    #[error("expected a port after the host, such as http://127.0.0.1:8000")]
    Port,
    /// A query, a fragment or a user.
    #[error("expected nothing but host, port and perhaps a path, such as http://127.0.0.1:8000")]
    Extra,
}

// === impl ServerUrl ===

impl ServerUrl {
    /// The address of an endpoint.
    pub(crate) fn at(&self, endpoint: &str) -> String {
        format!("{self}{endpoint}")
    }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let rest = text.strip_prefix("http://").ok_or(ServerUrlError::Scheme)?;
        if rest.contains(['?', '#', '@', ' ']) || !rest.is_ascii() {
            return Err(ServerUrlError::Extra);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = authority.rsplit_once(':').ok_or(ServerUrlError::Port)?;
        let host: IpAddr = match host {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            _ => host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse()
                .map_err(|_| ServerUrlError::Remote)?,
        };
        if !host.is_loopback() {
            return Err(ServerUrlError::Remote);
        }
        let port = port.parse().map_err(|_| ServerUrlError::Port)?;
        // As OpenAI's SDKs write it, with `/v1`, or without.
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("v1").unwrap_or(path);
        let path = match path.trim_matches('/') {
            "" => String::new(),
            path => format!("/{path}"),
        };
        Ok(Self {
            address: SocketAddr::new(host, port),
            path,
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.address, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_taken() {
        for (text, shown) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://localhost:80/", "http://127.0.0.1:80"),
            ("http://[::1]:8000/v1/", "http://[::1]:8000"),
            ("http://127.0.0.1:1/a/b/v1", "http://127.0.0.1:1/a/b"),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.at("/v1/models"), format!("{shown}/v1/models"));
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        for (text, error) in [
            ("127.0.0.1:8000", ServerUrlError::Scheme),
            ("https://127.0.0.1:8000", ServerUrlError::Scheme),
            ("http://10.0.0.1:8000", ServerUrlError::Remote),
            ("http://engine:8000", ServerUrlError::Remote),
            ("http://127.0.0.1", ServerUrlError::Port),
            ("http://127.0.0.1:x", ServerUrlError::Port),
            ("http://127.0.0.1:80/?a", ServerUrlError::Extra),
            ("http://me@127.0.0.1:80", ServerUrlError::Extra),
        ] {
            assert_eq!(text.parse::<ServerUrl>(), Err(error), "{text}");
        }
    }
}
