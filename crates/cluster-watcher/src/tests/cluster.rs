//! Against a real API server, where `INFERYARD_TEST_KUBECONFIG` names one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use inferyard_catalog::{Catalog, KeyHash, Stopped};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::DynamicObject;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{addresses, hash, key, model, plan, pod, with};
use crate::object::Kind;
use crate::{ClusterWatcher, Metrics, Namespaces, Settings};

const MINUTE: Duration = Duration::from_mins(1);

/// How the way to the API server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Connections end, and new ones too.
    Closed,
}

/// A way to the API server that can be cut.
struct Proxy {
    way: watch::Sender<Way>,
    /// Connections with a lower number carry nothing any more, and do not end.
    frozen: watch::Sender<usize>,
    accepted: watch::Receiver<usize>,
    address: std::net::SocketAddr,
}

impl Proxy {
    async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, ways) = watch::channel(Way::Open);
        let (frozen, freezes) = watch::channel(0);
        let (count, accepted) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let number = *count.borrow();
                count.send_replace(number + 1);
                let (target, mut ways, mut freezes) =
                    (target.clone(), ways.clone(), freezes.clone());
                tokio::spawn(async move {
                    let way = *ways.borrow_and_update();
                    if way == Way::Closed {
                        return;
                    }
                    let mut server = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        () = until(&mut ways, |way| *way == Way::Closed) => {}
                        () = until(&mut freezes, |frozen| number < *frozen) => {
                            // Held open until the router gives it up, or the test ends.
                            std::future::pending::<()>().await;
                        }
                    }
                });
            }
        });
        Self {
            way,
            frozen,
            accepted,
            address,
        }
    }

    fn freeze(&self) {
        self.frozen.send_replace(*self.accepted.borrow());
    }
}

/// Returns once the value is so.
async fn until<T>(values: &mut watch::Receiver<T>, well: impl FnMut(&T) -> bool) {
    drop(values.wait_for(well).await);
}

struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    /// With our definitions and a namespace of its own.
    async fn prepare(client: Client) -> Self {
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let params = PatchParams::apply("test").force();
        for definition in inferyard_crds::definitions() {
            let name = definition.metadata.name.clone().unwrap();
            definitions
                .patch(&name, &params, &Patch::Apply(&definition))
                .await
                .unwrap();
        }
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = json!({"metadata": {"generateName": "discovery-"}});
        let namespace = serde_json::from_value(namespace).unwrap();
        let namespace = namespaces.create(&PostParams::default(), &namespace).await;
        let namespace = namespace.unwrap().metadata.name.unwrap();
        Self { client, namespace }
    }

    /// Creates an object as soon as the cluster is ready for it.
    async fn create(&self, kind: Kind, object: Value) {
        let mut object = with(object, "/metadata/namespace", json!(self.namespace));
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("uid");
        metadata.remove("creationTimestamp");
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource());
        let mut again = interval(Duration::from_millis(200));
        let created = async {
            loop {
                again.tick().await;
                match api.create(&PostParams::default(), &object).await {
                    Ok(_) => return,
                    Err(error) => eprintln!("not yet: {error}"),
                }
            }
        };
        timeout(MINUTE, created).await.unwrap();
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A pod that no node takes, and that says that it runs.
    async fn run_pod(&self, name: &str, ip: &str) {
        let containers = json!([{"name": "worker", "image": "none"}]);
        let object = with(pod(name, "m", ip), "/spec/containers", containers);
        let object = with(object, "/spec/schedulerName", json!("nobody"));
        self.create(Kind::Workers, object).await;
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
        let pods = self.pods();
        let params = PatchParams::default();
        pods.patch_status(name, &params, &Patch::Merge(status))
            .await
            .unwrap();
    }

    async fn delete_pod(&self, name: &str) {
        let params = DeleteParams::default().grace_period(0);
        self.pods().delete(name, &params).await.unwrap();
    }

    async fn end(self) {
        let namespaces: Api<Namespace> = Api::all(self.client);
        let params = DeleteParams::default();
        namespaces.delete(&self.namespace, &params).await.unwrap();
    }
}

async fn until_workers(catalogs: &mut watch::Receiver<Arc<Catalog>>, ips: &[&str]) -> Duration {
    let workers: Vec<_> = ips.iter().map(|ip| format!("{ip}:50051")).collect();
    let begin = Instant::now();
    let reached = catalogs.wait_for(|catalog| addresses(catalog).get("m") == Some(&workers));
    let reached = timeout(2 * MINUTE, reached).await;
    reached.expect("it should be reached at all").unwrap();
    begin.elapsed()
}

/// How to reach the cluster; `None`: there is none, which is said.
async fn config() -> Option<Config> {
    let Some(path) = std::env::var_os("INFERYARD_TEST_KUBECONFIG") else {
        eprintln!("SKIPPED: INFERYARD_TEST_KUBECONFIG names no cluster");
        return None;
    };
    let file = Kubeconfig::read_from(PathBuf::from(path)).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options).await;
    Some(config.unwrap())
}

#[tokio::test]
async fn two_namespaces_of_a_real_cluster_keep_their_names() {
    let Some(config) = config().await else {
        return;
    };
    let client = Client::try_from(config).unwrap();
    let home = Cluster::prepare(client.clone()).await;
    let team = Cluster::prepare(client.clone()).await;
    for (cluster, digit) in [(&home, '1'), (&team, '2')] {
        cluster.create(Kind::Models, demo()).await;
        cluster.create(Kind::Plans, plan("p", 1, &json!({}))).await;
        cluster.create(Kind::Keys, key("k", 1, "p", digit)).await;
    }
    let greedy = json!({"priority": 1000, "namespaceSelector": {"any": true}});
    team.create(Kind::Plans, plan("top", 1, &greedy)).await;
    team.create(Kind::Keys, key("greedy", 1, "top", '3')).await;
    let zero = with(demo(), "/metadata/name", json!("zero"));
    let zero = with(zero, "/spec/scaling", json!({"replicas": 0}));
    team.create(Kind::Models, zero).await;
    let settings = Settings {
        namespaces: Namespaces::Listed(vec![home.namespace.clone(), team.namespace.clone()]),
        platform: vec![home.namespace.clone()],
        kubeconfig: None,
        cache: None,
    };
    let watcher = ClusterWatcher::new(client, settings, Metrics::default());
    let (sender, mut catalogs) = watch::channel(Arc::new(Catalog::pending()));
    let shutdown = CancellationToken::new();
    let run = tokio::spawn(watcher.run(sender, shutdown.clone()));
    let store = catalogs.wait_for(|catalog| !catalog.pending);
    let catalog = timeout(MINUTE, store).await.unwrap().unwrap().clone();
    let found = |digit, name| {
        let hash = KeyHash::parse(&hash(digit)).unwrap();
        let plan = &catalog.keys.get(&hash)?.plan;
        catalog.model(plan, name).map(|model| model.id.to_string())
    };
    assert_eq!(found('1', "m").as_deref(), Some("m"));
    assert_eq!(found('2', "m"), Some(format!("m@{}", team.namespace)));
    assert_eq!((found('1', "zero"), found('3', "m")), (None, None));
    let refused = catalog.keys_without_plan.values().next().unwrap();
    assert!(refused.is_refused && &*refused.plan == "top");
    let zero = &catalog.models[&*format!("zero@{}", team.namespace)];
    assert_eq!(zero.halt(), Some(&Stopped::ScaledToZero));
    shutdown.cancel();
    run.await.unwrap();
    home.end().await;
    team.end().await;
}

#[tokio::test]
async fn a_real_cluster_is_watched_over_a_cut_and_a_stale_connection() {
    let Some(config) = config().await else {
        return;
    };
    let cluster = Cluster::prepare(Client::try_from(config.clone()).unwrap()).await;
    cluster.create(Kind::Models, demo()).await;
    cluster.create(Kind::Plans, plan("p", 1, &json!({}))).await;
    cluster.create(Kind::Keys, key("k", 1, "p", '1')).await;
    cluster.run_pod("m-0", "10.9.0.1").await;

    let (host, port) = (
        config.cluster_url.host().unwrap(),
        config.cluster_url.port_u16(),
    );
    let proxy = Proxy::to(format!("{host}:{}", port.unwrap_or(443))).await;
    let mut through = config.clone();
    through.tls_server_name = Some(host.to_owned());
    through.cluster_url = format!("https://{}", proxy.address).parse().unwrap();
    let settings = Settings {
        namespaces: Namespaces::Listed(vec![cluster.namespace.clone()]),
        platform: Vec::new(),
        kubeconfig: None,
        cache: None,
    };
    let client = Client::try_from(through).unwrap();
    let watcher = ClusterWatcher::new(client, settings, Metrics::default());
    let (sender, mut catalogs) = watch::channel(Arc::new(Catalog::pending()));
    let shutdown = CancellationToken::new();
    let run = tokio::spawn(watcher.run(sender, shutdown.clone()));

    until_workers(&mut catalogs, &["10.9.0.1"]).await;
    assert_eq!(catalogs.borrow().keys.len(), 1);
    cluster.run_pod("m-1", "10.9.0.2").await;
    let seen = until_workers(&mut catalogs, &["10.9.0.1", "10.9.0.2"]).await;

    proxy.freeze();
    cluster.delete_pod("m-0").await;
    let healed = until_workers(&mut catalogs, &["10.9.0.2"]).await;

    proxy.way.send_replace(Way::Closed);
    cluster.delete_pod("m-1").await;
    catalogs.mark_unchanged();
    // It tries again and again, and each try fails.
    let mut accepted = proxy.accepted.clone();
    let tried = *accepted.borrow() + 5;
    let trying = until(&mut accepted, |count| *count >= tried);
    timeout(2 * MINUTE, trying)
        .await
        .expect("it should try again");
    assert!(!catalogs.has_changed().unwrap(), "the last catalog stays");
    proxy.way.send_replace(Way::Open);
    let back = until_workers(&mut catalogs, &[]).await;
    eprintln!(
        "a pod seen after {seen:?}, a stale watch healed after {healed:?}, a cut after {back:?}"
    );

    shutdown.cancel();
    run.await.unwrap();
    cluster.end().await;
}

/// A model that the real schema takes.
fn demo() -> Value {
    let source = json!({"builtin": {"name": "demo"}});
    with(model("m", 1), "/spec/model/source", source)
}
