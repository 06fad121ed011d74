//! HTTP requests: a response, a failure that is worth a retry, or one that is not.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode, Url, redirect};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::progress::Progress;
use crate::retry::{BackoffPolicy, Failures};
use crate::source::Source;

/// Redirects in a row: hub, content delivery network, region.
const MAX_REDIRECTS: usize = 10;
/// Most characters that are shown of a server's error message.
const MAX_MESSAGE: usize = 300;

/// Upper bound of a server's `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// The HTTP client.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    distrusts: fn(&reqwest::Error) -> bool,
}

/// What the steps of one fetch share.
pub(crate) struct Context {
    pub(crate) source: Source,
    pub(crate) http: Http,
    pub(crate) backoff: BackoffPolicy,
    pub(crate) progress: Arc<Progress>,
    /// Cancels all work of this fetch.
    pub(crate) stop: CancellationToken,
}

/// The fetch was cancelled.
#[derive(Debug)]
pub(crate) struct Stopped;

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum FetchFailure {
    /// A retry may succeed: the server cannot be reached, broke the connection, or answered 408, 425, 429 or 5xx.
    Transient(Transient),
    /// A retry cannot succeed before somebody changes something.
    Permanent(Box<Refused>),
}

/// A failure that may be gone at the next attempt.
#[derive(Debug)]
pub(crate) struct Transient {
    pub(crate) why: String,
    /// The server's `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

/// A request that the server refused for good, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// 401 or 403 without a token.
    #[error(
        "{host} answers {status}: it wants a token, or {what} does not exist; put a token into {variable}{message}"
    )]
    NoToken {
        /// The host, with its port unless that is the scheme's default.
        host: String,
        /// HTTP status of the response.
        status: u16,
        /// The source, as messages name it.
        what: String,
        /// Environment variable that takes a token.
        variable: &'static str,
        /// The server's error message as ` (it says: …)`; empty if it sent none.
        message: String,
    },
    /// 401 or 403 although there was a token.
    #[error(
        "{host} answers {status}: the token in {variable} does not open {what}; {advice}{message}"
    )]
    Token {
        /// The host, with its port unless that is the scheme's default.
        host: String,
        /// HTTP status of the response.
        status: u16,
        /// The source, as messages name it.
        what: String,
        /// Environment variable that the token was taken from.
        variable: &'static str,
        /// What to do.
        advice: &'static str,
        /// The server's error message as ` (it says: …)`; empty if it sent none.
        message: String,
    },
    /// 404 or 410.
    #[error("{host} answers {status}: it has no {what}; check the name and the revision{message}")]
    Missing {
        /// The host, with its port unless that is the scheme's default.
        host: String,
        /// HTTP status of the response.
        status: u16,
        /// The source, as messages name it.
        what: String,
        /// The server's error message as ` (it says: …)`; empty if it sent none.
        message: String,
    },
    /// Any other answer.
    #[error("{host} answers {status} to the request for {what}{message}")]
    Status {
        /// The host, with its port unless that is the scheme's default.
        host: String,
        /// HTTP status of the response.
        status: u16,
        /// The source, as messages name it.
        what: String,
        /// The server's error message as ` (it says: …)`; empty if it sent none.
        message: String,
    },
    /// TLS is not trusted.
    #[error("the certificate of {host} is not trusted: {why}; --ca names a file of its authority")]
    Distrusted {
        /// The host, with its port unless that is the scheme's default.
        host: String,
        /// Error of the TLS library.
        why: String,
    },
    /// It redirects more than ten times, or from https to http.
    #[error("{host} redirects too often, or from https to http")]
    Redirect {
        /// The host, with its port unless that is the scheme's default.
        host: String,
    },
}

// === impl Http ===

impl Http {
    /// Finishes a client; `distrusts` tells whether TLS failed over the server's certificate.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(
        builder: ClientBuilder,
        distrusts: fn(&reqwest::Error) -> bool,
    ) -> Result<Self, reqwest::Error> {
        // reqwest removes the token itself when a redirect leads to another host.
        let policy = redirect::Policy::custom(|attempt| {
            let from_tls = (attempt.previous().last()).is_some_and(|url| url.scheme() == "https");
            if attempt.previous().len() > MAX_REDIRECTS
                || (from_tls && attempt.url().scheme() != "https")
            {
                return attempt.error("refused");
            }
            attempt.follow()
        });
        let client = builder.redirect(policy).referer(false).build()?;
        Ok(Self { client, distrusts })
    }
}

// === impl Context ===

impl Context {
    /// Logs why an attempt failed, and waits until the next one is due: for the back-off of `failures`, or for the
    /// server's `Retry-After` if that is longer.
    pub(crate) async fn pause(
        &self,
        failures: &mut Failures,
        what: &str,
        transient: Transient,
    ) -> Result<(), Stopped> {
        let pause = failures.next(self.backoff);
        let pause = pause.max(
            transient
                .retry_after
                .unwrap_or_default()
                .min(MAX_RETRY_AFTER),
        );
        let seconds = pause.as_secs_f64().ceil();
        let words = format!("retrying in {seconds} s: {}", transient.why);
        if self.progress.may_log_a_failure() {
            tracing::warn!("{what}: {words}");
        }
        let _note = self.progress.note(what, words);
        tokio::select! {
            () = sleep(pause) => Ok(()),
            () = self.stop.cancelled() => Err(Stopped),
        }
    }

    /// A GET request, with the token of the source.
    pub(crate) fn get(&self, url: &Url) -> RequestBuilder {
        // Without content encoding the bytes are those of the file, and ranges count them.
        let request = self
            .http
            .client
            .get(url.clone())
            .header(ACCEPT_ENCODING, "identity");
        match self.source.token() {
            Some(token) => request.header(AUTHORIZATION, token.header()),
            None => request,
        }
    }

    /// Sends a request. Status 416 counts as a response, like all of 2xx.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        asked: &Url,
    ) -> Result<Response, FetchFailure> {
        let response = request
            .send()
            .await
            .map_err(|error| self.failed(&error, asked))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        let passes = status.is_server_error()
            || matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY
            );
        if passes {
            return Err(FetchFailure::Transient(Transient {
                why: format!("{} answers {}", host(response.url()), status.as_u16()),
                retry_after: retry_after(response.headers()),
            }));
        }
        Err(FetchFailure::Permanent(Box::new(self.refused(&response))))
    }

    /// Classifies an error of a request or of its body.
    pub(crate) fn failed(&self, error: &reqwest::Error, asked: &Url) -> FetchFailure {
        let host = host(error.url().unwrap_or(asked));
        if (self.http.distrusts)(error) {
            let why = cause(error);
            return FetchFailure::Permanent(Box::new(Refused::Distrusted { host, why }));
        }
        if error.is_redirect() {
            return FetchFailure::Permanent(Box::new(Refused::Redirect { host }));
        }
        let why = if error.is_timeout() {
            format!("{host} is silent")
        } else {
            format!("{host}: {}", cause(error))
        };
        FetchFailure::Transient(Transient {
            why,
            retry_after: None,
        })
    }

    fn refused(&self, response: &Response) -> Refused {
        let (host, status) = (host(response.url()), response.status().as_u16());
        let what = self.source.to_string();
        let message = server_message(response.headers());
        let (variable, advice) = match &self.source {
            Source::HuggingFace(_) => (
                "HF_TOKEN",
                "if the repository is gated, accept its conditions on its page with the account of the token",
            ),
            Source::Plain(_) => ("HTTP_TOKEN", "check what the token may read"),
        };
        match status {
            401 | 403 if self.source.token().is_none() => Refused::NoToken {
                host,
                status,
                what,
                variable,
                message,
            },
            401 | 403 => Refused::Token {
                host,
                status,
                what,
                variable,
                advice,
                message,
            },
            404 | 410 => Refused::Missing {
                host,
                status,
                what,
                message,
            },
            _ => Refused::Status {
                host,
                status,
                what,
                message,
            },
        }
    }
}

// === impl Transient ===

impl From<String> for Transient {
    fn from(why: String) -> Self {
        Self {
            why,
            retry_after: None,
        }
    }
}

/// Host and port of an address.
pub(crate) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The message that a hub sends in a header of its own with an error.
fn server_message(headers: &HeaderMap) -> String {
    let said = headers
        .get("x-error-message")
        .and_then(|said| said.to_str().ok());
    let said = said.or_else(|| headers.get("x-error-code")?.to_str().ok());
    said.map_or_else(String::new, |said| {
        format!(
            " (it says: {})",
            said.chars().take(MAX_MESSAGE).collect::<String>()
        )
    })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The root cause of an error: what the operating system or the TLS library reported.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn a_server_says_when_to_come_back() {
        let read = |value: &str| {
            retry_after(&HeaderMap::from_iter([(
                RETRY_AFTER,
                HeaderValue::from_str(value).unwrap(),
            )]))
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!((90..=100).contains(&read(&later).unwrap().as_secs()));
    }
}
