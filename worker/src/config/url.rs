//! The address of a server beside the worker: plain HTTP, and nowhere but on this machine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// `http://127.0.0.1:8000`, perhaps with a path before `/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineUrl {
    address: SocketAddr,
    path: String,
}

/// Why a text is no such address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineUrlError {
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

// === impl EngineUrl ===

impl EngineUrl {
    /// The address of an endpoint.
    pub(crate) fn at(&self, endpoint: &str) -> String {
        format!("{self}{endpoint}")
    }
}

impl FromStr for EngineUrl {
    type Err = EngineUrlError;

    fn from_str(text: &str) -> Result<Self, EngineUrlError> {
        let rest = text.strip_prefix("http://").ok_or(EngineUrlError::Scheme)?;
        if rest.contains(['?', '#', '@', ' ']) || !rest.is_ascii() {
            return Err(EngineUrlError::Extra);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = authority.rsplit_once(':').ok_or(EngineUrlError::Port)?;
        let host: IpAddr = match host {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            _ => host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse()
                .map_err(|_| EngineUrlError::Remote)?,
        };
        if !host.is_loopback() {
            return Err(EngineUrlError::Remote);
        }
        let port = port.parse().map_err(|_| EngineUrlError::Port)?;
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

impl fmt::Display for EngineUrl {
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
            let url: EngineUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.at("/v1/models"), format!("{shown}/v1/models"));
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        for (text, error) in [
            ("127.0.0.1:8000", EngineUrlError::Scheme),
            ("https://127.0.0.1:8000", EngineUrlError::Scheme),
            ("http://10.0.0.1:8000", EngineUrlError::Remote),
            ("http://engine:8000", EngineUrlError::Remote),
            ("http://127.0.0.1", EngineUrlError::Port),
            ("http://127.0.0.1:x", EngineUrlError::Port),
            ("http://127.0.0.1:80/?a", EngineUrlError::Extra),
            ("http://me@127.0.0.1:80", EngineUrlError::Extra),
        ] {
            assert_eq!(text.parse::<EngineUrl>(), Err(error), "{text}");
        }
    }
}
