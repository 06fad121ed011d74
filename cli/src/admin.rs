//! An HTTP client of `/v1/organization`, with an admin key.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::http::{self, cause};

mod address;
mod refusal;
mod secret;

pub(crate) use address::ServiceUrl;
pub(crate) use refusal::AskError;

/// Largest response in bytes: a page of usage with 50,000 results takes a fifth of it.
const LONGEST_ANSWER: usize = 64 << 20;
/// Pauses between the attempts of an idempotent request.
const PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(1)];

/// Flags of commands that can use a service.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// URL of a service, its router or its ledger, as in https://api.example.com
    #[arg(long, value_name = "URL")]
    url: Option<ServiceUrl>,
    /// File with the admin key, for --url [default: the key is in INFERYARD_ADMIN_KEY]
    #[arg(long, value_name = "FILE", requires = "url")]
    admin_key_file: Option<PathBuf>,
    /// PEM file of certificates that are trusted in addition to the system's, for --url
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
}

/// A service and its admin key.
#[derive(Debug)]
pub(crate) struct Service {
    client: Client,
    url: ServiceUrl,
}

/// The parts of OpenAI's error object that are used.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorObject,
}

#[derive(Deserialize)]
struct ErrorObject {
    message: String,
    #[serde(default)]
    code: Option<String>,
}

// === impl Args ===

impl Args {
    /// The service, if one is named.
    pub(crate) fn service(&self) -> Result<Option<Service>, Failure> {
        let Some(url) = &self.url else {
            return Ok(None);
        };
        let key_file = self.admin_key_file.as_deref();
        Service::open(url.clone(), key_file, self.ca.as_deref()).map(Some)
    }
}

// === impl Service ===

impl Service {
    /// A service at this URL; the key is in a file, or in the environment.
    pub(crate) fn open(
        url: ServiceUrl,
        key_file: Option<&Path>,
        ca: Option<&Path>,
    ) -> Result<Self, Failure> {
        Self::new(url, secret::admin_key(key_file)?, ca)
    }

    fn new(url: ServiceUrl, key: HeaderValue, ca: Option<&Path>) -> Result<Self, Failure> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, key)]);
        let client = http::client(ca).map_err(|error| Failure::Usage(error.into()))?;
        // An admin key is sent only to the address that the command line names.
        let mut client = client
            .default_headers(headers)
            .redirect(redirect::Policy::none());
        if url.is_loopback() {
            client = client.no_proxy();
        }
        let client = client.build().map_err(http::ClientError::Build);
        let client = client.map_err(|error| Failure::Failed(error.into()))?;
        Ok(Self { client, url })
    }

    /// Sends GET. Transient failures are retried.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, AskError> {
        let mut url = self.url.below(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.ask_again(Method::GET, &url).await
    }

    /// Sends DELETE. Transient failures are retried: it is idempotent.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, AskError> {
        self.ask_again(Method::DELETE, &self.url.below(path)).await
    }

    /// Sends POST once, because it is not idempotent.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &Value,
    ) -> Result<T, AskError> {
        let url = self.url.below(path);
        self.ask(Method::POST, &url, Some(body)).await
    }

    async fn ask_again<T: DeserializeOwned>(
        &self,
        method: Method,
        url: &Url,
    ) -> Result<T, AskError> {
        for pause in PAUSES {
            match self.ask(method.clone(), url, None).await {
                Err(error) if error.may_pass() => sleep(pause).await,
                answered => return answered,
            }
        }
        self.ask(method, url, None).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        url: &Url,
        body: Option<&Value>,
    ) -> Result<T, AskError> {
        let mut request = self.client.request(method, url.clone());
        if let Some(body) = body {
            let json = HeaderValue::from_static("application/json");
            request = request.header(reqwest::header::CONTENT_TYPE, json);
            request = request.body(body.to_string());
        }
        let response = request.send().await;
        let response = response.map_err(|error| self.unsent(&error))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(self.redirected(&response));
        }
        let body = self.collect(response).await?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| self.stranger(status));
        }
        let Ok(ErrorBody { error }) = serde_json::from_slice(&body) else {
            return Err(self.stranger(status));
        };
        Err(AskError::Refused {
            url: self.url.clone(),
            status,
            code: error.code,
            message: error.message,
        })
    }

    async fn collect(&self, mut response: Response) -> Result<Vec<u8>, AskError> {
        let status = response.status();
        let mut body = Vec::new();
        let broken = |error: reqwest::Error| self.unanswered(&error);
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            if body.len() + piece.len() > LONGEST_ANSWER {
                return Err(self.stranger(status));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn unsent(&self, error: &reqwest::Error) -> AskError {
        let url = self.url.clone();
        if http::is_distrust(error) {
            let cause = cause(error);
            return AskError::Untrusted { url, cause };
        }
        if error.is_connect() {
            let cause = cause(error);
            return AskError::Unreachable { url, cause };
        }
        self.unanswered(error)
    }

    fn unanswered(&self, error: &reqwest::Error) -> AskError {
        AskError::Unanswered {
            url: self.url.clone(),
            cause: cause(error),
        }
    }

    fn redirected(&self, response: &Response) -> AskError {
        let target = response.headers().get(LOCATION);
        AskError::Redirected {
            url: self.url.clone(),
            target: target
                .and_then(|target| target.to_str().ok())
                .unwrap_or("another place")
                .to_owned(),
        }
    }

    fn stranger(&self, status: StatusCode) -> AskError {
        AskError::Stranger {
            url: self.url.clone(),
            status,
        }
    }
}

#[cfg(test)]
mod tests;
