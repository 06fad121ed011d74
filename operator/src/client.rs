//! The client of the API server, with a counter and a time limit for each request.

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request};
use inferyard_kube_client::{ConfigError, Limit, config, is_watch};
use kube::Client;
use kube::client::ClientBuilder;
use tower::{Layer, Service};

use crate::metrics::{ApiRequest, Metrics};

/// Time limit for a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for a write to the connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit for a request with its response: longer than the usual limit of an admission webhook, and short enough
/// that a refusal reaches the status within 30 seconds. The response of a watch has no limit, because the watcher
/// itself detects a silent watch.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the client cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A setting is invalid, such as a certificate.
    #[error("the settings of the cluster cannot be used")]
    Build(#[source] kube::Error),
}

/// Makes a client from a kubeconfig. None: from the service account of the pod, or from the kubeconfig of kubectl.
pub(crate) async fn connect(
    kubeconfig: Option<&Path>,
    metrics: Arc<Metrics>,
) -> Result<Client, ConnectError> {
    let mut config = config(kubeconfig).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.write_timeout = Some(WRITE_TIMEOUT);
    let builder = ClientBuilder::try_from(config).map_err(ConnectError::Build)?;
    let limited = builder.with_layer(&Limit(RESPONSE_TIMEOUT));
    Ok(limited.with_layer(&Count(metrics)).build())
}

/// The layer that counts requests.
#[derive(Debug, Clone)]
struct Count(Arc<Metrics>);

/// A service that counts its requests.
#[derive(Debug, Clone)]
struct Counting<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

// === impl Count ===

impl<S> Layer<S> for Count {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting {
            inner,
            metrics: Arc::clone(&self.0),
        }
    }
}

// === impl Counting ===

impl<S: Service<Request<B>>, B> Service<Request<B>> for Counting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let query = request.uri().query().unwrap_or_default();
        let counted = counted(request.method(), request.uri().path(), query);
        self.metrics.api_requests.get_or_create(&counted).inc();
        self.inner.call(request)
    }
}

/// The metric labels of a request, in the terms of RBAC.
fn counted(method: &Method, path: &str, query: &str) -> ApiRequest {
    let mut steps = path.trim_matches('/').split('/');
    // `api/v1/…` or `apis/GROUP/VERSION/…`
    let skipped = if steps.next() == Some("api") { 1 } else { 2 };
    let mut rest: Vec<_> = steps.skip(skipped).collect();
    if rest.first() == Some(&"namespaces") && rest.len() > 2 {
        rest.drain(..2);
    }
    let named = rest.len() > 1;
    let mut resource = rest.first().copied().unwrap_or("discovery").to_owned();
    if let Some(part) = rest.get(2) {
        resource = format!("{resource}/{part}");
    }
    let verb = match (method.as_str(), named) {
        ("GET", false) if is_watch(query) => "watch",
        ("GET", false) => "list",
        ("GET", true) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => "other",
    };
    ApiRequest { verb, resource }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_in_the_words_of_rbac() {
        let check = |method: Method, path, query, expected: (&str, &str)| {
            let found = counted(&method, path, query);
            assert_eq!((found.verb, found.resource.as_str()), expected, "{path}");
        };
        let group = "/apis/inferyard.dev/v1alpha1";
        let all = format!("{group}/modeldeployments");
        check(Method::GET, &all, "limit=500", ("list", "modeldeployments"));
        check(
            Method::GET,
            &all,
            "&watch=true",
            ("watch", "modeldeployments"),
        );
        let one = format!("{group}/namespaces/a/modeldeployments/demo/status");
        check(
            Method::PATCH,
            &one,
            "",
            ("patch", "modeldeployments/status"),
        );
        check(
            Method::GET,
            "/api/v1/namespaces/a/pods",
            "",
            ("list", "pods"),
        );
        check(
            Method::GET,
            "/api/v1/namespaces/a/secrets/s",
            "",
            ("get", "secrets"),
        );
        check(
            Method::POST,
            "/apis/events.k8s.io/v1/namespaces/a/events",
            "",
            ("create", "events"),
        );
    }
}
