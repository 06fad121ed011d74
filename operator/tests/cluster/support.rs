//! A namespace of a real cluster with an operator of its own.

use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use futures::TryStreamExt;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use inferyard_crds::{Condition, ModelDeployment, Platform};
use inferyard_operator::{Config, StartError};
use inferyard_test_servers::Port;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing here takes longer, on however busy a machine.
pub(crate) const BOUND: Duration = Duration::from_mins(2);

/// A namespace with an operator.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    namespace: String,
    /// Those that the operator looks after: its own, which is the platform's, and others.
    namespaces: Vec<String>,
    pub(crate) kubeconfig: PathBuf,
    operator: Option<Operator>,
}

/// An operator in this process.
pub(crate) struct Operator {
    metrics: Port,
    stop: CancellationToken,
    running: JoinHandle<Result<(), StartError>>,
}

/// A ModelDeployment of this name.
pub(crate) fn model(name: &str, spec: &Value) -> ModelDeployment {
    let object = json!({
        "apiVersion": inferyard_crds::API_VERSION,
        "kind": "ModelDeployment",
        "metadata": { "name": name },
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

fn condition<'a>(found: &'a ModelDeployment, type_: &str) -> Option<&'a Condition> {
    let status = found.status.as_ref()?;
    let current = Some(status.observed_generation) == found.metadata.generation;
    status
        .conditions
        .iter()
        .find(|said| said.type_ == type_)
        .filter(|_| current)
}

/// The reason of a condition.
pub(crate) fn reason<'a>(found: &'a ModelDeployment, type_: &str) -> Option<&'a str> {
    condition(found, type_).map(|said| said.reason.as_str())
}

/// The status of a condition.
pub(crate) fn status<'a>(found: &'a ModelDeployment, type_: &str) -> Option<&'a str> {
    condition(found, type_).map(|said| said.status.as_str())
}

/// The message of a condition.
pub(crate) fn message(found: &ModelDeployment, type_: &str) -> Option<String> {
    condition(found, type_).map(|said| said.message.clone())
}

// === impl Cluster ===

impl Cluster {
    /// None: there is no cluster. The test prints that.
    pub(crate) async fn start(name: &str) -> Option<Self> {
        Self::start_beside(name, &[]).await
    }

    /// The same with other namespaces, which are not the platform's.
    pub(crate) async fn start_beside(name: &str, others: &[&str]) -> Option<Self> {
        let Some(kubeconfig) = std::env::var_os("INFERYARD_TEST_KUBECONFIG") else {
            eprintln!(
                "SKIPPED: set INFERYARD_TEST_KUBECONFIG to test {name} with a real API server"
            );
            return None;
        };
        let kubeconfig = PathBuf::from(kubeconfig);
        let file = Kubeconfig::read_from(&kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(file, &options)
            .await
            .unwrap();
        let client = Client::try_from(config).unwrap();
        install(&client).await;
        let namespace = format!("operator-{name}-{}", std::process::id());
        let others = others.iter().map(|other| format!("{namespace}-{other}"));
        let namespaces: Vec<_> = std::iter::once(namespace.clone()).chain(others).collect();
        for name in &namespaces {
            let object = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name,
                "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
            });
            let object = serde_json::from_value(object).unwrap();
            Api::<Namespace>::all(client.clone())
                .create(&kube::api::PostParams::default(), &object)
                .await
                .unwrap();
        }
        let operator = operator(settings(&namespaces, &kubeconfig));
        let cluster = Self {
            client,
            namespace,
            namespaces,
            kubeconfig,
            operator: Some(operator),
        };
        let leads = |text: &str| text.contains("inferyard_operator_leading 1");
        cluster.operator().until(leads).await;
        Some(cluster)
    }

    pub(crate) fn operator(&self) -> &Operator {
        self.operator.as_ref().expect("it should run")
    }

    /// Another operator of the release, which competes for another Lease: as if that had failed.
    pub(crate) fn another_operator(&self) -> Operator {
        let config = settings(&self.namespaces, &self.kubeconfig);
        operator(Config {
            lease_name: "elsewhere".to_owned(),
            identity: "another".to_owned(),
            ..config
        })
    }

    /// The operator of another release, which has another image of workers.
    pub(crate) fn another_release(&self, image: &str) -> Operator {
        let config = settings(&self.namespaces, &self.kubeconfig);
        operator(Config {
            release: format!("{}/second", self.namespace),
            lease_name: "second-operator".to_owned(),
            identity: "second".to_owned(),
            image: image.to_owned(),
            ..config
        })
    }

    /// What the operator's release is called.
    pub(crate) fn release(&self) -> String {
        format!("{}/first", self.namespace)
    }

    /// The operator's own namespace, which is the platform's.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The texts of the events of an object with this reason.
    pub(crate) async fn events(&self, name: &str, reason: &str) -> Vec<String> {
        let all = self.api::<Event>().list(&ListParams::default()).await;
        let of = all.unwrap().items.into_iter().filter(|event| {
            let regarding = event.regarding.as_ref();
            event.reason.as_deref() == Some(reason)
                && regarding.is_some_and(|found| found.name.as_deref() == Some(name))
        });
        of.filter_map(|event| event.note).collect()
    }

    /// Waits until the API server refuses any change of an object.
    pub(crate) async fn until_refused<K>(&self, api: &Api<K>, name: &str)
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let refused = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            for round in 0_u32.. {
                ticks.tick().await;
                let patch =
                    json!({ "metadata": { "annotations": { "round": round.to_string() } } });
                let params = PatchParams::default();
                if (api.patch(name, &params, &Patch::Merge(&patch)).await).is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(BOUND, refused)
            .await
            .expect("the change should be refused");
    }

    /// The name of one of the other namespaces.
    pub(crate) fn beside(&self, other: &str) -> String {
        format!("{}-{other}", self.namespace)
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until an object is as it should be.
    pub(crate) async fn until<K>(&self, api: &Api<K>, name: &str, is: impl Fn(&K) -> bool) -> K
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let condition = |found: Option<&K>| found.is_some_and(&is);
        let waited =
            tokio::time::timeout(BOUND, await_condition(api.clone(), name, condition)).await;
        let Ok(found) = waited else {
            let live = api.get_opt(name).await;
            unreachable!("{name} is not as it should be: {live:?}");
        };
        found.unwrap().unwrap()
    }

    /// Waits until some object is as asked.
    pub(crate) async fn until_any<K>(&self, api: &Api<K>, is: impl Fn(&K) -> bool)
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let changes = watcher(api.clone(), watcher::Config::default()).applied_objects();
        let found = async {
            let mut changes = std::pin::pin!(changes);
            while !changes
                .try_next()
                .await
                .unwrap()
                .is_some_and(|found| is(&found))
            {}
        };
        let found = tokio::time::timeout(BOUND, found).await;
        found.expect("there should be such an object");
    }

    /// Ends the operator alone.
    pub(crate) async fn end_operator(&mut self) {
        let operator = self.operator.take().expect("it should run");
        operator.end().await;
    }

    /// Ends the operator and the namespace.
    pub(crate) async fn end(self) {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        if let Some(operator) = self.operator {
            operator.end().await;
        }
        for namespace in &self.namespaces {
            namespaces
                .delete(namespace, &DeleteParams::background())
                .await
                .unwrap();
        }
    }
}

// === impl Operator ===

impl Operator {
    async fn scrape(&self) -> String {
        let Ok(stream) =
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.metrics.number())).await
        else {
            return String::new();
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let driven = tokio::spawn(connection);
        let request = hyper::Request::get("/metrics").header("host", "operator");
        let request = request
            .body(http_body_util::Empty::<hyper::body::Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        driven.abort();
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// Waits until its metrics are as asked.
    async fn until(&self, is: impl Fn(&str) -> bool) {
        let reached = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            loop {
                ticks.tick().await;
                if is(&self.scrape().await) {
                    return;
                }
            }
        };
        tokio::time::timeout(BOUND, reached)
            .await
            .expect("the metric should be reached");
    }

    /// Reconciles of models so far.
    pub(crate) async fn reconciles(&self) -> u64 {
        reconciles(&self.scrape().await)
    }

    /// Waits until there were more of them.
    pub(crate) async fn until_reconciled(&self, before: u64) {
        self.until(|text| reconciles(text) > before).await;
    }

    /// Ends it, in order.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// The first of the namespaces is the platform's.
fn settings(namespaces: &[String], kubeconfig: &std::path::Path) -> Config {
    Config {
        namespaces: namespaces.to_vec(),
        platform: Platform::new(vec![namespaces[0].clone()]),
        router_namespaces: vec![namespaces[0].clone()],
        image: "inferyard.invalid/none:1".to_owned(),
        classes: Config::usual_classes(),
        scraper_namespaces: Vec::new(),
        release: format!("{}/first", namespaces[0]),
        lease_namespace: namespaces[0].clone(),
        lease_name: "first-operator".to_owned(),
        identity: "first".to_owned(),
        kubeconfig: Some(kubeconfig.to_owned()),
        metrics: None,
    }
}

fn operator(config: Config) -> Operator {
    let metrics = Port::take();
    let config = Config {
        metrics: Some((Ipv4Addr::LOCALHOST, metrics.number()).into()),
        ..config
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(inferyard_operator::run(config, stop.clone()));
    Operator {
        metrics,
        stop,
        running,
    }
}

async fn install(client: &Client) {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let params = PatchParams::apply("test").force();
    for definition in inferyard_crds::definitions() {
        let name = definition.name_any();
        definitions
            .patch(&name, &params, &Patch::Apply(&definition))
            .await
            .unwrap();
        let established =
            await_condition(definitions.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(BOUND, established)
            .await
            .expect("it should be served")
            .unwrap();
    }
}

fn reconciles(text: &str) -> u64 {
    let lines = text.lines().filter(|line| {
        line.starts_with("inferyard_operator_reconciles_total{kind=\"ModelDeployment\"")
    });
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}
