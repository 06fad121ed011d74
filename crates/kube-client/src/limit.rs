//! A time limit for requests: until the end of the response, or for a watch until its head.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use tokio::time::timeout;
use tower::{BoxError, Layer, Service};

use crate::is_watch;

/// The layer that limits requests to this time.
#[derive(Debug, Clone)]
pub struct Limit(pub Duration);

/// A service with a time limit.
#[derive(Debug, Clone)]
pub struct Limited<S> {
    inner: S,
    limit: Duration,
}

/// The API server exceeded the time limit.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {0:?}")]
struct TimedOut(Duration);

type BoxedResponse = Response<UnsyncBoxBody<Bytes, BoxError>>;

// === impl Limit ===

impl<S> Layer<S> for Limit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited {
            inner,
            limit: self.0,
        }
    }
}

// === impl Limited ===

impl<S, A, B> Service<Request<A>> for Limited<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = BoxedResponse;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<BoxedResponse, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let endless = is_watch(request.uri().query().unwrap_or_default());
        let answered = self.inner.call(request);
        let limit = self.limit;
        Box::pin(async move {
            let answer = async {
                let (head, body) = answered.await.map_err(Into::into)?.into_parts();
                let body = body.map_err(Into::into).boxed_unsync();
                if endless {
                    return Ok(Response::from_parts(head, body));
                }
                let whole = Full::new(body.collect().await?.to_bytes());
                let whole = whole.map_err(|never| match never {}).boxed_unsync();
                Ok(Response::from_parts(head, whole))
            };
            match timeout(limit, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(TimedOut(limit).into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{ListParams, PostParams, WatchParams};
    use kube::client::Body as KubeBody;
    use kube::{Api, Client};
    use tokio::time::Instant;

    use super::*;

    /// How far an API server comes with its answer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Ends {
        BeforeTheHead,
        InTheBody,
    }

    /// A body that is not complete and does not go on.
    struct Stuck;

    impl Body for Stuck {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, BoxError>>> {
            Poll::Pending
        }
    }

    fn client(ends: Ends) -> Client {
        let service = tower::service_fn(move |_: Request<KubeBody>| async move {
            if ends == Ends::BeforeTheHead {
                std::future::pending::<()>().await;
            }
            Ok::<_, BoxError>(Response::new(Stuck))
        });
        Client::new(Limit(Duration::from_secs(30)).layer(service), "n")
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_go_on_is_given_up() {
        for ends in [Ends::BeforeTheHead, Ends::InTheBody] {
            let maps = Api::<ConfigMap>::default_namespaced(client(ends));
            let began = Instant::now();
            let failed = timeout(Duration::from_mins(1), async {
                let listed = maps.list(&ListParams::default()).await.is_err();
                let params = PostParams::default();
                let written = maps.replace("a", &params, &ConfigMap::default()).await;
                listed && written.is_err()
            });
            assert!(failed.await.is_ok_and(|failed| failed), "{ends:?}");
            assert!(began.elapsed() >= Duration::from_secs(30));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_may_be_silent_once_it_has_begun() {
        let begins = |ends| async move {
            let maps = Api::<ConfigMap>::default_namespaced(client(ends));
            maps.watch(&WatchParams::default(), "0").await.is_ok()
        };
        assert!(begins(Ends::InTheBody).await);
        assert!(!begins(Ends::BeforeTheHead).await);
        let maps = Api::<ConfigMap>::default_namespaced(client(Ends::InTheBody));
        let events = maps.watch(&WatchParams::default(), "0").await.unwrap();
        let mut events = std::pin::pin!(events);
        let next = futures::TryStreamExt::try_next(&mut events);
        assert!(
            timeout(Duration::from_hours(1), next).await.is_err(),
            "it should go on"
        );
    }
}
