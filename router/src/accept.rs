//! Step 1: assigns a request its id, deadline and route from its head; the body is not read.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Uri, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::config::Config;
use inferyard_admission::RequestContext;
use inferyard_domain::RequestId;
use inferyard_wire::Api;

mod error;

pub(crate) use error::{AcceptError, Unreadable};

/// Maximum length of a path in an error message, in characters.
const SHOWN_PATH: usize = 200;

/// A request with an id, a deadline and a route label; its body is not read yet.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) id: RequestId,
    pub(crate) head: Parts,
    /// Remote address of the TCP connection: the client, or a proxy in front.
    pub(crate) peer: IpAddr,
    /// Route label of metrics and logs. It is a template (`/v1/models/{id}`) to bound the number of label
    /// values.
    pub(crate) label: &'static str,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Instant,
}

// === impl Accepted ===

impl Accepted {
    /// The fields of the usage event that are known before the body is read.
    pub(crate) fn context(&self) -> RequestContext {
        RequestContext {
            id: self.id,
            endpoint: self.label,
        }
    }
}

/// The endpoint that a path selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Generate(Api),
    Models,
    Model(String),
    /// Usage and costs; forwarded to the ledger.
    Organization,
    /// The placement decision of the request with this id.
    Placement(String),
    Live,
    Ready(Needed),
    /// A CORS preflight; every path answers it.
    Preflight,
}

/// What `/readyz` requires for the answer 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needed {
    /// A ready worker for every model that is not scaled to 0.
    EveryModel,
    /// `?any`: a ready worker for one model, so that one broken model does not take the healthy ones out of a
    /// load balancer.
    AnyModel,
    /// `?router`: only the router itself. It has a catalog and answers 503 "loading" for models without a
    /// worker, which is better in a cluster than no answer.
    Router,
}

/// Checks the head of a request and finds its route; the body is returned unread.
pub(crate) fn accept(
    config: &Config,
    peer: IpAddr,
    request: Request<Incoming>,
) -> (Accepted, Result<Route, AcceptError>, Incoming) {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    let route = check(&head).and_then(|()| Route::of(&head.method, &head.uri));
    let accepted = Accepted {
        id: RequestId::random(),
        head,
        peer,
        label: label(&route),
        arrived,
        deadline: arrived + config.request_timeout,
    };
    (accepted, route, body)
}

/// Rejects heads that a proxy in front and this router could interpret differently (request smuggling).
fn check(head: &Parts) -> Result<(), AcceptError> {
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host) => {}
        (None, None) if head.version < Version::HTTP_11 => {}
        _ => return Err(AcceptError::Host),
    }
    // hyper treats a body as chunked if `chunked` is the last coding, and does not decode the others.
    let codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let mut codings = codings.map(HeaderValue::as_bytes);
    if let Some(coding) = codings.next()
        && (!coding.trim_ascii().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
    {
        return Err(AcceptError::TransferCoding);
    }
    match head.headers.get_all(AUTHORIZATION).iter().nth(1) {
        Some(_) => Err(AcceptError::SeveralKeys),
        None => Ok(()),
    }
}

/// Whether the value is a valid `Host`: empty, or a name or address with an optional port.
fn is_host(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    bytes.is_empty() || (!bytes.contains(&b'@') && Authority::try_from(bytes).is_ok())
}

// === impl Route ===

impl Route {
    /// Selects the route for a request line.
    pub(crate) fn of(method: &Method, uri: &Uri) -> Result<Self, AcceptError> {
        if method == Method::OPTIONS {
            return Ok(Self::Preflight);
        }
        let path = uri.path();
        if let Some(id) = path.strip_prefix("/v1/organization/placements/")
            && method == Method::GET
        {
            return Ok(Self::Placement(id.to_owned()));
        }
        // The ledger checks the rest of the path and the method.
        if path.starts_with("/v1/organization/") {
            return Ok(Self::Organization);
        }
        let (route, allow) = match path {
            "/v1/chat/completions" => (Self::Generate(Api::Chat), "POST, OPTIONS"),
            "/v1/completions" => (Self::Generate(Api::Completions), "POST, OPTIONS"),
            "/v1/models" => (Self::Models, "GET, HEAD, OPTIONS"),
            "/healthz" => (Self::Live, "GET, HEAD, OPTIONS"),
            "/readyz" => (Self::Ready(Needed::asked(uri)), "GET, HEAD, OPTIONS"),
            _ => match path.strip_prefix("/v1/models/").and_then(percent_decode) {
                Some(id) if !id.is_empty() => (Self::Model(id), "GET, HEAD, OPTIONS"),
                _ => {
                    return Err(AcceptError::UnknownPath {
                        method: method.clone(),
                        path: shown(path),
                    });
                }
            },
        };
        if allow.split(", ").any(|allowed| allowed == method.as_str()) {
            return Ok(route);
        }
        Err(AcceptError::WrongMethod {
            method: method.clone(),
            path: shown(path),
            allow,
        })
    }
}

fn label(route: &Result<Route, AcceptError>) -> &'static str {
    match route {
        Ok(Route::Generate(Api::Chat)) => "/v1/chat/completions",
        Ok(Route::Generate(Api::Completions)) => "/v1/completions",
        Ok(Route::Models) => "/v1/models",
        Ok(Route::Model(_)) => "/v1/models/{id}",
        Ok(Route::Organization) => "/v1/organization",
        Ok(Route::Placement(_)) => "/v1/organization/placements",
        Ok(Route::Live) => "/healthz",
        Ok(Route::Ready { .. }) => "/readyz",
        Ok(Route::Preflight) => "preflight",
        Err(
            AcceptError::UnknownPath { .. }
            | AcceptError::UnknownModel { .. }
            | AcceptError::UnknownRequest { .. },
        ) => "unknown",
        Err(AcceptError::WrongMethod { .. }) => "wrong_method",
        Err(
            AcceptError::Host
            | AcceptError::SeveralKeys
            | AcceptError::TransferCoding
            | AcceptError::Unreadable(_),
        ) => "bad_head",
    }
}

fn shown(path: &str) -> String {
    // `chars` cuts at a character boundary even if hyper accepts a path that is not ASCII.
    path.chars().take(SHOWN_PATH).collect()
}

/// Decodes a model id. Ids contain slashes; clients send them as `/` or as `%2F`.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let ([high, low], tail) = tail.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = digit(*high)? * 16 + digit(*low)?;
        bytes.push(u8::try_from(value).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

// === impl Needed ===

impl Needed {
    /// Reads the query of a `/readyz` probe.
    pub(crate) fn asked(uri: &Uri) -> Self {
        match uri.query() {
            Some("any") => Self::AnyModel,
            Some("router") => Self::Router,
            _ => Self::EveryModel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, path: &str) -> Result<Route, AcceptError> {
        Route::of(&method.parse().unwrap(), &path.parse().unwrap())
    }

    #[test]
    fn model_ids_are_percent_decoded_and_may_hold_slashes() {
        for path in [
            "/v1/models/org/name",
            "/v1/models/org%2Fname",
            "/v1/models/org%2fname?x=1",
        ] {
            assert_eq!(route("GET", path).unwrap(), Route::Model("org/name".into()));
        }
        for path in [
            "/v1/models/",
            "/v1/models/%2",
            "/v1/models/%zz",
            "/v1/models/%ff",
        ] {
            assert!(
                matches!(route("GET", path), Err(AcceptError::UnknownPath { .. })),
                "{path}"
            );
        }
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        let allowed = |method, path| match route(method, path) {
            Err(AcceptError::WrongMethod { allow, .. }) => allow,
            other => panic!("{other:?}"),
        };
        assert_eq!(allowed("GET", "/v1/chat/completions"), "POST, OPTIONS");
        assert_eq!(allowed("DELETE", "/v1/models/m"), "GET, HEAD, OPTIONS");
        assert!(matches!(
            route("OPTIONS", "/v1/anything"),
            Ok(Route::Preflight)
        ));
        assert!(matches!(
            route("POST", "/chat/completions"),
            Err(AcceptError::UnknownPath { .. })
        ));
    }

    #[test]
    fn request_ids_have_the_form_that_clients_log() {
        let id = RequestId::random();
        let digits = id.as_str().strip_prefix("req_").unwrap();
        assert_eq!(digits.len(), 32);
        assert!(
            digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        );
        assert_ne!(id, RequestId::random());
    }
}
