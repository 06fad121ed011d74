//! A cluster that is watched; tokio's clock is paused and goes on when there is nothing to do.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inferyard_catalog::Catalog;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::api::{Mood, TestApi};
use super::{addresses, hash, key, model, plan, pod, resource, with};
use crate::{ClusterWatcher, Metrics, Namespaces, Settings};

/// Longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_hours(24);

pub(super) struct Watched {
    pub(super) catalogs: watch::Receiver<Arc<Catalog>>,
    shutdown: CancellationToken,
    run: JoinHandle<()>,
    metrics: Metrics,
}

impl Watched {
    fn start(api: &TestApi) -> Self {
        Self::with(api, Namespaces::Own, None)
    }

    pub(super) fn with(api: &TestApi, namespaces: Namespaces, cache: Option<PathBuf>) -> Self {
        let metrics = Metrics::default();
        let settings = Settings {
            namespaces,
            platform: Vec::new(),
            kubeconfig: None,
            cache,
        };
        let cluster = ClusterWatcher::new(api.client(), settings, metrics.clone());
        let (sender, catalogs) = watch::channel(Arc::new(Catalog::pending()));
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(cluster.run(sender, shutdown.clone()));
        Self {
            catalogs,
            shutdown,
            run,
            metrics,
        }
    }

    /// Waits until the catalog is as it should be.
    pub(super) async fn until(&mut self, well: impl Fn(&Catalog) -> bool) {
        let reached = self.catalogs.wait_for(|catalog| well(catalog));
        let reached = timeout(PATIENCE, reached).await;
        reached.expect("it should be reached").unwrap();
    }

    pub(super) async fn until_workers(&mut self, workers: &[&str]) {
        let workers: Vec<_> = workers.iter().map(|ip| format!("{ip}:50051")).collect();
        self.until(|catalog| addresses(catalog).get("m") == Some(&workers))
            .await;
    }

    /// Lists and watches of pods that failed.
    pub(super) fn errors(&self) -> u32 {
        let metrics = self.scrape();
        let mut lines = metrics.lines();
        let count = lines.find_map(|line| {
            line.strip_prefix("discovery_errors_total{kind=\"pods\"} ")
                .map(str::to_owned)
        });
        count.map_or(0, |count| count.parse().unwrap())
    }

    fn scrape(&self) -> String {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    pub(super) async fn end(self) {
        self.shutdown.cancel();
        self.run.await.unwrap();
    }
}

/// Asks again and again until the answer is yes.
pub(super) async fn eventually(mut condition: impl FnMut() -> bool) {
    let mut again = tokio::time::interval(Duration::from_millis(100));
    let met = async {
        while !condition() {
            again.tick().await;
        }
    };
    timeout(PATIENCE, met).await.unwrap();
}

/// A model with one worker, a plan and a key.
pub(super) fn api() -> TestApi {
    let api = TestApi::new();
    for object in [
        model("m", 1),
        pod("m-0", "m", "10.0.0.1"),
        plan("p", 1, &json!({})),
        key("k", 1, "p", '1'),
    ] {
        api.put(object);
    }
    api
}

#[tokio::test(start_paused = true)]
async fn every_change_is_in_the_catalog_at_once() {
    let api = api();
    let mut watched = Watched::start(&api);
    assert!(watched.catalogs.borrow().pending);
    watched.until_workers(&["10.0.0.1"]).await;
    assert_eq!(watched.catalogs.borrow().keys.len(), 1);

    api.put(pod("m-1", "m", "10.0.0.2"));
    watched.until_workers(&["10.0.0.1", "10.0.0.2"]).await;
    let leaving = with(
        pod("m-0", "m", "10.0.0.1"),
        "/metadata/deletionTimestamp",
        json!("2024-01-01T00:00:00Z"),
    );
    api.put(leaving);
    watched.until_workers(&["10.0.0.2"]).await;
    api.delete(&pod("m-1", "m", "10.0.0.2"));
    watched.until_workers(&[]).await;
    api.delete(&plan("p", 1, &json!({})));
    watched.until(|catalog| catalog.keys.is_empty()).await;
    api.delete(&model("m", 1));
    watched.until(|catalog| catalog.models.is_empty()).await;
    // None of it took another list.
    assert_eq!(watched.errors(), 0);
    watched.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_changes_makes_few_catalogs_and_a_change_of_nothing_none() {
    let api = api();
    let mut watched = Watched::start(&api);
    watched.until_workers(&["10.0.0.1"]).await;
    for digit in "23456789abcdef".chars() {
        api.put(key(&format!("k{digit}"), 1, "p", digit));
    }
    watched.until(|catalog| catalog.keys.len() == 15).await;
    assert!(watched.catalogs.borrow_and_update().keys.len() == 15);
    let conditions = json!([{"type": "Ready", "status": "True"}]);
    api.put(with(
        pod("m-0", "m", "10.0.0.1"),
        "/status/conditions",
        conditions,
    ));
    // Several rounds of lists of four kinds.
    let lists = api.lists();
    eventually(|| api.lists() >= lists + 4 * 4).await;
    let changed = watched.catalogs.has_changed().unwrap();
    assert!(!changed, "nothing that counts has changed");
    watched.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_watch_missed_heals_by_itself() {
    let api = api();
    let mut watched = Watched::start(&api);
    watched.until_workers(&["10.0.0.1"]).await;
    api.lossy(true);
    api.delete(&pod("m-0", "m", "10.0.0.1"));
    watched.until_workers(&[]).await;
    api.put(pod("m-1", "m", "10.0.0.2"));
    watched.until_workers(&["10.0.0.2"]).await;
    // By listing again in good time, not after an error.
    assert_eq!(watched.errors(), 0);
    watched.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_too_old_begins_again() {
    let api = api();
    let mut watched = Watched::start(&api);
    watched.until_workers(&["10.0.0.1"]).await;
    api.lossy(true);
    api.delete(&pod("m-0", "m", "10.0.0.1"));
    api.lossy(false);
    api.expire();
    watched.until_workers(&[]).await;
    watched.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_catalog_stays_while_the_api_server_is_away() {
    for mood in [Mood::Away, Mood::Hanging] {
        let api = api();
        let mut watched = Watched::start(&api);
        watched.until_workers(&["10.0.0.1"]).await;
        api.lossy(true);
        api.mood(mood);
        watched.catalogs.mark_unchanged();
        eventually(|| watched.errors() >= 5).await;
        assert!(!watched.catalogs.has_changed().unwrap(), "{mood:?}");

        api.delete(&pod("m-0", "m", "10.0.0.1"));
        api.mood(Mood::Well);
        watched.until_workers(&[]).await;
        watched.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_put_back_is_watched_again() {
    let api = api();
    let mut watched = Watched::start(&api);
    watched.until_workers(&["10.0.0.1"]).await;
    api.lossy(true);
    api.delete(&pod("m-0", "m", "10.0.0.1"));
    api.restore();
    watched.until_workers(&[]).await;
    watched.end().await;
}

/// A key that was revoked before the router started is in the cache of an API server that lags behind.
#[tokio::test(start_paused = true)]
async fn a_revoked_key_does_not_come_from_an_old_cache_at_the_start() {
    let api = api();
    api.lag();
    api.delete(&key("k", 1, "p", '1'));
    let mut watched = Watched::start(&api);
    watched.until(|catalog| !catalog.pending).await;
    assert!(watched.catalogs.borrow().keys.is_empty());
    watched.end().await;
}

/// The router has seen that it was revoked; no later list brings it back, neither a routine one nor one after an error.
#[tokio::test(start_paused = true)]
async fn a_revoked_key_does_not_come_back_from_an_old_cache() {
    for expires in [false, true] {
        let api = api();
        let mut watched = Watched::start(&api);
        watched.until(|catalog| catalog.keys.len() == 1).await;
        api.lag();
        api.delete(&key("k", 1, "p", '1'));
        watched.until(|catalog| catalog.keys.is_empty()).await;
        watched.catalogs.mark_unchanged();
        if expires {
            api.expire();
        }
        // Several rounds of lists of four kinds.
        let lists = api.lists();
        eventually(|| api.lists() >= lists + 4 * 4).await;
        assert!(!watched.catalogs.has_changed().unwrap(), "{expires}");
        watched.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_may_not_be_read_does_not_delay_the_others() {
    let api = api();
    api.put(resource("Plan", "gone", "p", 1, &json!({})));
    api.forbid("gone", true);
    let both = Namespaces::Listed(vec!["gone".to_owned(), "n".to_owned()]);
    let mut watched = Watched::with(&api, both, None);
    watched.until_workers(&["10.0.0.1"]).await;
    let catalog = watched.catalogs.borrow().clone();
    assert_eq!(catalog.keys.len(), 1);
    let why = catalog.unread.get("gone").map(|why| &**why);
    assert!(
        why.is_some_and(|why| why.contains("is forbidden")),
        "{why:?}"
    );
    assert!(watched.scrape().contains("discovery_unread_namespaces 1\n"));
    // Once it may, it is served too.
    api.forbid("gone", false);
    watched
        .until(|catalog| catalog.unread.is_empty() && catalog.plans.len() == 2)
        .await;
    watched.end().await;
}

#[tokio::test(start_paused = true)]
async fn where_nothing_may_be_read_it_waits_and_says_why() {
    let api = api();
    api.forbid("n", true);
    let mut watched = Watched::start(&api);
    watched.until(|catalog| catalog.unread.len() == 1).await;
    assert!(watched.catalogs.borrow().pending);
    api.forbid("n", false);
    watched.until_workers(&["10.0.0.1"]).await;
    assert!(watched.catalogs.borrow().unread.is_empty());
    watched.end().await;
}

/// A namespace that was deleted while no router ran: its keys are no longer good.
#[tokio::test(start_paused = true)]
async fn what_was_kept_of_a_namespace_that_may_not_be_read_any_more_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog");
    let api = api();
    api.put(resource("Plan", "gone", "p", 1, &json!({})));
    let spec = json!({"plan": "p", "hash": hash('9')});
    api.put(resource("ApiKey", "gone", "k", 1, &spec));
    let both = Namespaces::Listed(vec!["gone".to_owned(), "n".to_owned()]);
    let mut first = Watched::with(&api, both.clone(), Some(file.clone()));
    first.until(|catalog| catalog.keys.len() == 2).await;
    written(&file, &hash('9')).await;
    first.end().await;
    api.forbid("gone", true);
    let mut second = Watched::with(&api, both, Some(file.clone()));
    second.until(|catalog| catalog.keys.len() == 1).await;
    // And the file forgets it with them.
    eventually(|| std::fs::read_to_string(&file).is_ok_and(|text| !text.contains(&hash('9'))))
        .await;
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_handed_out_before_every_list_has_arrived() {
    let api = api();
    api.mood(Mood::Away);
    let mut watched = Watched::start(&api);
    eventually(|| watched.errors() >= 5).await;
    assert!(!watched.catalogs.has_changed().unwrap());
    api.mood(Mood::Well);
    timeout(PATIENCE, watched.catalogs.changed())
        .await
        .unwrap()
        .unwrap();
    let catalog = watched.catalogs.borrow_and_update().clone();
    assert_eq!((catalog.models.len(), catalog.keys.len()), (1, 1));
    watched.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_cluster_is_known_to_be_empty() {
    let api = TestApi::new();
    let mut watched = Watched::start(&api);
    watched.until(|catalog| !catalog.pending).await;
    assert_eq!(*watched.catalogs.borrow().clone(), Catalog::default());
    watched.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_router_begins_with_what_an_earlier_one_knew() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog");
    let api = api();
    api.put(plan("q", 1, &json!({"priority": 3})));
    let mut first = Watched::with(&api, Namespaces::Own, Some(file.clone()));
    first.until_workers(&["10.0.0.1"]).await;
    // Its last good version is what is kept.
    api.put(plan("q", 1, &json!({"priority": 5000})));
    written(&file, "10.0.0.1").await;
    let before = first.catalogs.borrow().clone();
    first.end().await;
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    api.mood(Mood::Away);
    let mut second = Watched::with(&api, Namespaces::Own, Some(file.clone()));
    second.until_workers(&["10.0.0.1"]).await;
    assert_eq!(*second.catalogs.borrow().clone(), *before);
    let cached = "discovery_catalog_from_cache 1\n";
    assert!(second.scrape().contains(cached));

    api.delete(&pod("m-0", "m", "10.0.0.1"));
    api.put(pod("m-1", "m", "10.0.0.2"));
    api.mood(Mood::Well);
    second.until_workers(&["10.0.0.2"]).await;
    assert!(!second.scrape().contains(cached));
    written(&file, "10.0.0.2").await;
    second.end().await;

    // Another namespace's router takes nothing of it.
    api.mood(Mood::Away);
    let elsewhere = Namespaces::Listed(vec!["elsewhere".to_owned()]);
    let mut third = Watched::with(&api, elsewhere, Some(file));
    third.until(|catalog| !catalog.pending).await;
    assert!(third.catalogs.borrow().models.is_empty());
    third.end().await;
}

/// Waits until the file says so.
async fn written(file: &Path, text: &str) {
    eventually(|| std::fs::read_to_string(file).is_ok_and(|content| content.contains(text))).await;
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_cannot_be_read_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    for text in ["", "{", r#"{"version":1,"objects":{}}"#] {
        let file = folder.path().join("catalog");
        std::fs::write(&file, text).unwrap();
        let mut watched = Watched::with(&api(), Namespaces::Own, Some(file.clone()));
        watched.until_workers(&["10.0.0.1"]).await;
        written(&file, "10.0.0.1").await;
        watched.end().await;
    }
    let nowhere = folder.path().join("no/such/folder");
    let mut watched = Watched::with(&api(), Namespaces::Own, Some(nowhere));
    watched.until_workers(&["10.0.0.1"]).await;
    watched.end().await;
}

#[tokio::test(start_paused = true)]
async fn only_the_named_namespaces_count() {
    let api = api();
    for namespace in ["a", "b"] {
        let spec = json!({"plan": "p", "hash": hash(namespace.chars().next().unwrap())});
        api.put(resource("Plan", namespace, "p", 1, &json!({})));
        api.put(resource("ApiKey", namespace, "k", 1, &spec));
    }
    for (namespaces, plans) in [
        (Namespaces::Own, vec!["p"]),
        (Namespaces::Listed(vec!["a".into()]), vec!["p"]),
        (
            Namespaces::Listed(vec!["n".into(), "a".into(), "n".into()]),
            vec!["a/p", "p"],
        ),
        (Namespaces::All, vec!["a/p", "b/p", "p"]),
    ] {
        let mut watched = Watched::with(&api, namespaces, None);
        watched.until(|catalog| !catalog.pending).await;
        let catalog = watched.catalogs.borrow().clone();
        let keys = catalog.keys.values();
        let mut store: Vec<_> = keys.map(|key| &*key.plan.name).collect();
        store.sort_unstable();
        assert_eq!(store, plans);
        assert!(
            catalog.plans.values().all(|plan| &*plan.name == "p"),
            "only the platform's"
        );
        watched.end().await;
    }
}
