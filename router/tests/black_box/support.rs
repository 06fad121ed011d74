//! A router, scripted workers and a client that works on bytes.

mod bills;
mod client;
mod proxy;
mod worker;

pub(crate) use bills::Bills;
pub(crate) use client::{Answer, Connection};
pub(crate) use proxy::{Proxy, Refusal};
pub(crate) use worker::{
    Call, ScriptedWorker, admitted, choice_finished, delta, failed, finished, usage,
};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use inferyard_admission::LimitStore;
use inferyard_catalog::{Catalog, Endpoint, Key, KeyHash, Model, ONE_SCOPE, Plan};
use inferyard_router::{Config, Router, RunError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The key of every test; with spaces, as in the test suites of the SDKs.
pub(crate) const KEY: &str = "My API Key";
/// A key that may only use the model `org/other`.
pub(crate) const NARROW_KEY: &str = "narrow";
pub(crate) const EXPIRED_KEY: &str = "expired";
pub(crate) const DISABLED_KEY: &str = "disabled";

/// Longer than any step takes even on a busy machine; a test that waits this long fails.
const PATIENCE: Duration = Duration::from_mins(5);

/// A running router.
pub(crate) struct TestRouter {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) catalog: watch::Sender<Arc<Catalog>>,
    pub(crate) run: JoinHandle<Result<(), RunError>>,
}

impl TestRouter {
    /// A router of the model `m` with these workers; returns when all of them are ready.
    pub(crate) async fn start(workers: &[&ScriptedWorker]) -> Self {
        Self::configured(workers, |_| ()).await
    }

    pub(crate) async fn configured(
        workers: &[&ScriptedWorker],
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let endpoints = workers.iter().map(|worker| worker.endpoint.clone());
        let router = Self::unready(catalog(endpoints.collect()), change).await;
        router.found(workers.len()).await;
        router
    }

    /// Waits until the router has this number of ready workers.
    pub(crate) async fn found(&self, workers: usize) {
        let ready = format!("inferyard_router_workers{{model=\"m\",state=\"ready\"}} {workers}\n");
        eventually(async || self.scrape().await.contains(&ready)).await;
    }

    /// A router of the model `m` with these workers and a changed plan; returns when all workers are ready.
    pub(crate) async fn planned(
        workers: &[&ScriptedWorker],
        change: impl FnOnce(&mut Plan),
    ) -> (Self, Bills) {
        Self::planned_and_configured(workers, change, |_| ()).await
    }

    pub(crate) async fn planned_and_configured(
        workers: &[&ScriptedWorker],
        change: impl FnOnce(&mut Plan),
        configure: impl FnOnce(&mut Config),
    ) -> (Self, Bills) {
        let (outbox, bills) = Bills::channel();
        let endpoints = workers.iter().map(|worker| worker.endpoint.clone());
        let mut catalog = catalog(endpoints.collect());
        replan(&mut catalog, change);
        let router = Self::unready(catalog, |config| {
            config.limits.store = LimitStore::Memory {
                outbox: Some(outbox),
            };
            configure(config);
        })
        .await;
        router.found(workers.len()).await;
        (router, bills)
    }

    /// A router, without waiting for its workers.
    pub(crate) async fn unready(catalog: Catalog, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..Config::default()
        };
        change(&mut config);
        let router = Router::bind(config).await.unwrap();
        let address = router.address();
        let metrics = router.metrics_address().unwrap();
        let (sender, receiver) = watch::channel(Arc::new(catalog));
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(router.run(receiver, shutdown.clone()));
        Self {
            address,
            metrics,
            shutdown,
            catalog: sender,
            run,
        }
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    /// Sends a request with the valid key and returns the complete response.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut connection = self.connect().await;
        connection.send(&request(method, path, body)).await;
        connection.answer().await
    }

    /// Sends a chat request without reading its response.
    pub(crate) async fn chat(&self, body: &str) -> Connection {
        let mut connection = self.connect().await;
        connection
            .send(&request("POST", "/v1/chat/completions", body))
            .await;
        connection
    }

    pub(crate) async fn scrape(&self) -> String {
        self.probe("/metrics").await.text()
    }

    /// The response of the metrics port at this path.
    pub(crate) async fn probe(&self, path: &str) -> Answer {
        let mut connection = Connection::open(self.metrics).await;
        connection.send(&request("GET", path, "")).await;
        connection.answer().await
    }

    /// Stops the router and expects it to end without an error.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.run.await.unwrap().unwrap();
    }
}

/// A chat request for a streamed answer.
pub(crate) const STREAMED: &str =
    r#"{"model":"m","messages":[{"role":"user","content":"Say hello."}],"stream":true}"#;
/// The same request without streaming.
pub(crate) const WHOLE: &str =
    r#"{"model":"m","messages":[{"role":"user","content":"Say hello."}]}"#;

/// The bytes of a request with the valid key.
pub(crate) fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    request_with(KEY, method, path, body)
}

/// The bytes of a request with this key.
pub(crate) fn request_with(key: &str, method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The model `m` (alias `alias`) on these workers, and keys for the tests.
pub(crate) fn catalog(workers: Vec<Endpoint>) -> Catalog {
    let plan = |models| {
        Arc::new(Plan {
            models,
            priority: 7,
            ..Plan::unrestricted("plan")
        })
    };
    let mut keys = BTreeMap::new();
    let mut key = |text: &str, plan: Arc<Plan>, change: fn(&mut Key)| {
        let mut key = Key {
            name: Some(text.into()),
            account: "account".into(),
            plan,
            expires: None,
            disabled: false,
            limits: None,
        };
        change(&mut key);
        keys.insert(KeyHash::of(text.as_bytes()), Arc::new(key));
    };
    key(KEY, plan(None), |_| ());
    key(NARROW_KEY, plan(Some(vec!["org/other".into()])), |_| ());
    key(DISABLED_KEY, plan(None), |key| key.disabled = true);
    key(EXPIRED_KEY, plan(None), |key| {
        key.expires = Some(std::time::UNIX_EPOCH);
    });
    let mut catalog = Catalog {
        keys,
        plans: BTreeMap::from([("plan".into(), plan(None))]),
        ..Catalog::default()
    };
    let model = Model {
        workers,
        ..Model::new("m", 1_700_000_000)
    };
    catalog.add(&ONE_SCOPE.into(), model, ["m".into(), "alias".into()]);
    catalog
}

/// Adds a key with an account and a plan of its own.
pub(crate) fn add_key(catalog: &mut Catalog, text: &str, change: impl FnOnce(&mut Plan)) {
    let mut plan = Plan::unrestricted(text);
    change(&mut plan);
    let key = Key {
        name: Some(text.into()),
        account: text.into(),
        plan: Arc::new(plan),
        expires: None,
        disabled: false,
        limits: None,
    };
    catalog
        .keys
        .insert(KeyHash::of(text.as_bytes()), Arc::new(key));
}

/// Changes the plan of `KEY`.
fn replan(catalog: &mut Catalog, change: impl FnOnce(&mut Plan)) {
    let key = catalog.keys.get_mut(&KeyHash::of(KEY.as_bytes())).unwrap();
    let mut plan = Plan::clone(&key.plan);
    change(&mut plan);
    let plan = Arc::new(plan);
    *key = Arc::new(Key {
        plan: Arc::clone(&plan),
        ..Key::clone(key)
    });
    catalog.plans.insert(plan.name.shared(), plan);
}

/// Like [`catalog`], with a second model `org/other` that has no workers.
pub(crate) fn two_models(workers: Vec<Endpoint>) -> Catalog {
    let mut catalog = catalog(workers);
    let other = Model::new("org/other", 1_700_000_001);
    catalog.add(&ONE_SCOPE.into(), other, ["org/other".into()]);
    catalog
}

/// Waits for something that must happen, and fails if it takes longer than `PATIENCE`.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it should have happened long ago")
}

/// Repeats the condition until it is true.
pub(crate) async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    let mut again = tokio::time::interval(Duration::from_millis(5));
    within(async {
        while !condition().await {
            again.tick().await;
        }
    })
    .await;
}

/// Waits until no request runs and no worker slot is held.
pub(crate) async fn nothing_is_left(router: &TestRouter) {
    eventually(async || {
        let metrics = router.scrape().await;
        metrics.contains("inferyard_router_requests_in_flight 0\n")
            && metrics.contains("inferyard_router_worker_requests{model=\"m\"} 0\n")
    })
    .await;
}
