//! A router whose catalog is from a cluster.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use inferyard_catalog::Catalog;
use inferyard_cluster_watcher::{ClusterWatcher, Metrics, Namespaces, Settings};
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The cluster from which a router gets models, plans, keys and workers.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Kubernetes")]
pub(crate) struct Args {
    /// Serve the models, plans, keys and worker pods of a cluster, instead of manifests in files
    #[arg(long, conflicts_with_all = ["files", "workers", "key_hashes"])]
    pub(super) kubernetes: bool,
    /// A namespace to serve [default: that of the pod, or of the kubeconfig's context]
    #[arg(long = "namespace", value_name = "NAME", requires = "kubernetes")]
    namespaces: Vec<String>,
    /// Serve all namespaces
    #[arg(long, requires = "kubernetes", conflicts_with = "namespaces")]
    all_namespaces: bool,
    /// A namespace of the platform's administrators; can be repeated. Only Plans there may open other namespaces or the
    /// preview, set a priority above 0 or a price below the default. Names of plans, keys and accounts of other
    /// namespaces are `namespace/name`, also those of all of these but the first [default: the only namespace that is
    /// served, else that of the pod or of the kubeconfig's context]
    #[arg(
        long = "platform-namespace",
        value_name = "NAME",
        requires = "kubernetes"
    )]
    platform_namespaces: Vec<String>,
    /// Kubeconfig of the cluster [default: KUBECONFIG, ~/.kube/config or the pod's service account]
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    kubeconfig: Option<PathBuf>,
    /// Cache the catalog in this file, for a start while the API server is unreachable. It holds only hashes of keys;
    /// each router needs a file of its own
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    catalog_cache: Option<PathBuf>,
}

/// The cluster watcher on a thread of its own, so that no answer waits while it reads. Dropping this ends it.
pub(super) struct Followed {
    pub(super) catalogs: watch::Receiver<Arc<Catalog>>,
    pub(super) metrics: Metrics,
    stop: Option<DropGuard>,
    thread: Option<JoinHandle<()>>,
}

// === impl Args ===

impl Args {
    fn settings(&self) -> Settings {
        Settings {
            namespaces: match (self.all_namespaces, self.namespaces.is_empty()) {
                (true, _) => Namespaces::All,
                (false, true) => Namespaces::Own,
                (false, false) => Namespaces::Listed(self.namespaces.clone()),
            },
            platform: self.platform_namespaces.clone(),
            kubeconfig: self.kubeconfig.clone(),
            cache: self.catalog_cache.clone(),
        }
    }
}

// === impl Followed ===

impl Followed {
    /// Returns once the client is configured; the catalog arrives later.
    pub(super) async fn start(args: &Args) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the cluster watcher")?;
        let (sender, catalogs) = watch::channel(Arc::new(Catalog::pending()));
        let (connected, is_connected) = oneshot::channel();
        let settings = args.settings();
        let metrics = Metrics::default();
        let counted = metrics.clone();
        let stop = CancellationToken::new();
        let end = stop.clone();
        let life = async move {
            match ClusterWatcher::connect(settings, counted).await {
                Ok(watcher) => {
                    // The receiver is gone if the router has failed to start.
                    connected.send(Ok(())).ok();
                    watcher.run(sender, end).await;
                }
                Err(error) => drop(connected.send(Err(error))),
            }
        };
        let thread = thread::Builder::new()
            .name("cluster-watcher".to_owned())
            .spawn(move || runtime.block_on(life))
            .context("cannot start the cluster watcher")?;
        is_connected
            .await
            .context("the thread of the cluster watcher has ended")?
            .context("cannot reach a cluster")?;
        Ok(Self {
            catalogs,
            metrics,
            stop: Some(stop.drop_guard()),
            thread: Some(thread),
        })
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread writes its cache before it ends. A panic in it has ended the router already.
            thread.join().ok();
        }
    }
}
