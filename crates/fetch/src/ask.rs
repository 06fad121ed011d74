//! One request: its answer, what passes by itself, or what does not.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode, Url, redirect};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::progress::Progress;
use crate::retry::{Failures, Pace};
use crate::source::Source;

/// Redirects in a row: hub, content delivery network, region.
const MAX_REDIRECTS: usize = 10;
/// Most characters of a server's words.
const MAX_WORDS: usize = 300;

/// A server that wants to be left alone for longer is asked after this time nevertheless.
const MOST_PATIENCE: Duration = Duration::from_hours(1);

/// How other machines are reached.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    distrusts: fn(&reqwest::Error) -> bool,
}

/// What every request needs.
pub(crate) struct Way {
    pub(crate) source: Source,
    pub(crate) http: Http,
    pub(crate) pace: Pace,
    pub(crate) progress: Arc<Progress>,
    /// Ends everything that is under way.
    pub(crate) stop: CancellationToken,
}

/// It was asked to stop.
#[derive(Debug)]
pub(crate) struct Stopped;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is worth trying again.
    Passing(Passing),
    /// It is not.
    Lasting(Box<Refused>),
}

/// What passes by itself.
#[derive(Debug)]
pub(crate) struct Passing {
    pub(crate) why: String,
    /// How long the server wants to be left alone.
    pub(crate) after: Option<Duration>,
}

/// What does not pass by itself, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// 401 or 403 without a token.
    #[error(
        "{host} answers {status}: it wants a token, or {what} does not exist; put a token into {variable}{said}"
    )]
    NoToken {
        /// Who.
        host: String,
        /// What it said.
        status: u16,
        /// What was asked for.
        what: String,
        /// Where a token goes.
        variable: &'static str,
        /// In its own words.
        said: String,
    },
    /// 401 or 403 although there was a token.
    #[error(
        "{host} answers {status}: the token in {variable} does not open {what}; {advice}{said}"
    )]
    Token {
        /// Who.
        host: String,
        /// What it said.
        status: u16,
        /// What was asked for.
        what: String,
        /// Where the token is.
        variable: &'static str,
        /// What to do.
        advice: &'static str,
        /// In its own words.
        said: String,
    },
    /// 404 or 410.
    #[error("{host} answers {status}: it has no {what}; check the name and the revision{said}")]
    Missing {
        /// Who.
        host: String,
        /// What it said.
        status: u16,
        /// What was asked for.
        what: String,
        /// In its own words.
        said: String,
    },
    /// Any other answer.
    #[error("{host} answers {status} to the request for {what}{said}")]
    Status {
        /// Who.
        host: String,
        /// What it said.
        status: u16,
        /// What was asked for.
        what: String,
        /// In its own words.
        said: String,
    },
    /// TLS is not trusted.
    #[error("the certificate of {host} is not trusted: {why}; --ca names a file of its authority")]
    Distrusted {
        /// Who.
        host: String,
        /// What TLS said.
        why: String,
    },
    /// It sends elsewhere without end, or to an address that is not taken.
    #[error("{host} redirects too often, or from https to http")]
    Redirect {
        /// Who.
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
        // On the way to another host the client drops the token by itself.
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

// === impl Way ===

impl Way {
    /// Says why a thing failed, and waits before it is tried again.
    pub(crate) async fn pause(
        &self,
        failures: &mut Failures,
        what: &str,
        passing: Passing,
    ) -> Result<(), Stopped> {
        let pause = failures.next(self.pace);
        let pause = pause.max(passing.after.unwrap_or_default().min(MOST_PATIENCE));
        let seconds = pause.as_secs_f64().ceil();
        let words = format!("retrying in {seconds} s: {}", passing.why);
        if self.progress.may_log_a_failure() {
            tracing::warn!("{what}: {words}");
        }
        let _note = self.progress.note(what, words);
        tokio::select! {
            () = sleep(pause) => Ok(()),
            () = self.stop.cancelled() => Err(Stopped),
        }
    }

    /// A request with the token.
    pub(crate) fn get(&self, url: &Url) -> RequestBuilder {
        // Bytes shall be those of the file, and ranges those of the bytes.
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

    /// The answer, if it is a success or 416.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        asked: &Url,
    ) -> Result<Response, Fault> {
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
            return Err(Fault::Passing(Passing {
                why: format!("{} answers {}", host(response.url()), status.as_u16()),
                after: retry_after(response.headers()),
            }));
        }
        Err(Fault::Lasting(Box::new(self.refused(&response))))
    }

    /// What a failed request or a broken body is.
    pub(crate) fn failed(&self, error: &reqwest::Error, asked: &Url) -> Fault {
        let host = host(error.url().unwrap_or(asked));
        if (self.http.distrusts)(error) {
            let why = cause(error);
            return Fault::Lasting(Box::new(Refused::Distrusted { host, why }));
        }
        if error.is_redirect() {
            return Fault::Lasting(Box::new(Refused::Redirect { host }));
        }
        let why = if error.is_timeout() {
            format!("{host} is silent")
        } else {
            format!("{host}: {}", cause(error))
        };
        Fault::Passing(Passing { why, after: None })
    }

    fn refused(&self, response: &Response) -> Refused {
        let (host, status) = (host(response.url()), response.status().as_u16());
        let what = self.source.to_string();
        let said = words(response.headers());
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
                said,
            },
            401 | 403 => Refused::Token {
                host,
                status,
                what,
                variable,
                advice,
                said,
            },
            404 | 410 => Refused::Missing {
                host,
                status,
                what,
                said,
            },
            _ => Refused::Status {
                host,
                status,
                what,
                said,
            },
        }
    }
}

// === impl Passing ===

impl From<String> for Passing {
    fn from(why: String) -> Self {
        Self { why, after: None }
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

/// What a hub says of an error, in a header made for it.
fn words(headers: &HeaderMap) -> String {
    let said = headers
        .get("x-error-message")
        .and_then(|said| said.to_str().ok());
    let said = said.or_else(|| headers.get("x-error-code")?.to_str().ok());
    said.map_or_else(String::new, |said| {
        format!(
            " (it says: {})",
            said.chars().take(MAX_WORDS).collect::<String>()
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

/// What lies at the bottom of a failure: what the system or TLS said.
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
