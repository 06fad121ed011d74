//! The URL of a service, as `--url` takes it.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

/// `http(s)://HOST[:PORT][/PREFIX]`, below which `/v1/organization` lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceUrl(Url);

// === impl ServiceUrl ===

impl ServiceUrl {
    /// The URL of a resource below `/v1/organization`.
    pub(super) fn below(&self, path: &[&str]) -> Url {
        let mut url = self.0.clone();
        let mut segments = url
            .path_segments_mut()
            .expect("the address of an HTTP server should have a path");
        segments.pop_if_empty().extend(["v1", "organization"]);
        segments.extend(path);
        drop(segments);
        url
    }

    /// Whether it is this machine, which is reached without a proxy.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']');
        let ip: Option<std::net::IpAddr> = ip.parse().ok();
        host == "localhost" || ip.is_some_and(|ip| ip.is_loopback())
    }
}

impl FromStr for ServiceUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            "expected http://HOST or https://HOST, with a port where it is not 80 or 443";
        let mut url = Url::parse(text).map_err(|_| expected.to_owned())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(expected.to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("expected no password in it: the admin key is what opens".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("expected nothing from a `?` or `#` on".to_owned());
        }
        // OpenAI's libraries take the URL with /v1, so it is accepted here too.
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path).to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_v1_are_the_same() {
        for (text, shown, below) in [
            (
                "http://127.0.0.1:8080",
                "http://127.0.0.1:8080",
                "http://127.0.0.1:8080/v1/organization/api_keys/a%2Fb%20%3F",
            ),
            (
                "https://api.example.com/v1/",
                "https://api.example.com",
                "https://api.example.com/v1/organization/api_keys/a%2Fb%20%3F",
            ),
            (
                "https://example.com/llm/v1",
                "https://example.com/llm",
                "https://example.com/llm/v1/organization/api_keys/a%2Fb%20%3F",
            ),
        ] {
            let url: ServiceUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.below(&["api_keys", "a/b ?"]).as_str(), below);
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for (text, expected) in [
            ("", "http://HOST"),
            ("localhost:8080", "http://HOST"),
            ("redis://localhost", "http://HOST"),
            ("http://", "http://HOST"),
            ("https://admin:secret@example.com", "no password"),
            ("https://example.com?key=1", "`?`"),
        ] {
            let error = text.parse::<ServiceUrl>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn this_machine_is_known() {
        for (text, expected) in [
            ("http://localhost:8080", true),
            ("http://127.0.0.2", true),
            ("http://[::1]:8080", true),
            ("http://192.0.2.1", false),
            ("http://localhost.example.com", false),
        ] {
            let url: ServiceUrl = text.parse().unwrap();
            assert_eq!(url.is_loopback(), expected, "{text}");
        }
    }
}
