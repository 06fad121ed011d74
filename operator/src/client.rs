//! The connection to the API server: every request over it is counted, and none waits for ever.

mod limited;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request};
use kube::client::ClientBuilder;
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::{Layer, Service};

use self::limited::Limit;
use crate::metrics::{ApiRequest, Metrics};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long bytes may wait to be taken by the other end.
const WRITE: Duration = Duration::from_secs(15);
/// How long a request may take, its answer included: longer than an admission webhook usually may, and short enough
/// that a refusal reaches the status within 30 seconds. (The answer of a watch may take as long as it likes: the watcher
/// notices when it is silent for too long.)
const ANSWER: Duration = Duration::from_secs(20);

/// The cluster cannot be found, or its settings are wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig that was named cannot be used.
    #[error("the kubeconfig {0} cannot be used")]
    Read(PathBuf, #[source] KubeconfigError),
    /// Neither a service account nor a kubeconfig.
    #[error("no cluster: in a pod there is a service account, elsewhere set KUBECONFIG")]
    Infer(#[source] InferConfigError),
    /// Such as a certificate that is none.
    #[error("the settings of the cluster cannot be used")]
    Build(#[source] kube::Error),
}

/// Connects by the service account of the pod or as kubectl does, or by the file that is named.
pub(crate) async fn connect(
    kubeconfig: Option<&Path>,
    metrics: Arc<Metrics>,
) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        None => Config::infer().await.map_err(ConnectError::Infer)?,
        Some(path) => {
            let refuse = |error| ConnectError::Read(path.to_owned(), error);
            let file = Kubeconfig::read_from(path).map_err(refuse)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(refuse)?
        }
    };
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(WRITE);
    let builder = ClientBuilder::try_from(config).map_err(ConnectError::Build)?;
    let limited = builder.with_layer(&Limit(ANSWER));
    Ok(limited.with_layer(&Count(metrics)).build())
}

/// Counts requests.
#[derive(Debug, Clone)]
struct Count(Arc<Metrics>);

/// Counts the requests that pass.
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

/// Whether its answer has no end.
fn is_watch(query: &str) -> bool {
    query.contains("watch=true")
}

/// What a request is counted as: the words of RBAC.
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
