//! The workers of all models, as the catalog names them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::worker::{self, Worker};
use crate::catalog::{Catalog, Endpoint};

type Workers = Arc<[Arc<Worker>]>;

/// Every worker, by the model it is named for.
#[derive(Default)]
pub(crate) struct Fleet {
    by_model: ArcSwap<HashMap<Arc<str>, Workers>>,
    turn: AtomicUsize,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Fleet {
    /// Follows the workers of a new catalog: those that stay keep their connections; answers of
    /// those that left go on.
    pub(crate) fn update(&self, catalog: &Catalog) {
        let old = self.by_model.load();
        let mut known: BTreeMap<&Endpoint, &Arc<Worker>> = BTreeMap::new();
        for worker in old.values().flat_map(|workers| workers.iter()) {
            known.insert(worker.endpoint(), worker);
        }
        let mut fresh: BTreeMap<&Endpoint, Arc<Worker>> = BTreeMap::new();
        let mut by_model = HashMap::with_capacity(catalog.models.len());
        for (name, model) in &catalog.models {
            let workers = model.workers.iter().map(|endpoint| {
                let worker = fresh.entry(endpoint).or_insert_with(|| {
                    known
                        .get(endpoint)
                        .map_or_else(|| self.start(endpoint), |worker| Arc::clone(worker))
                });
                Arc::clone(worker)
            });
            by_model.insert(Arc::clone(name), workers.collect());
        }
        self.by_model.store(Arc::new(by_model));
    }

    fn start(&self, endpoint: &Endpoint) -> Arc<Worker> {
        let following = self.stop.child_token();
        let worker = Arc::new(Worker::new(endpoint.clone(), following.clone()));
        let task = worker::follow(Arc::downgrade(&worker));
        self.tasks
            .spawn(async move { following.run_until_cancelled(task).await });
        worker
    }

    /// The workers of a model, ready or not.
    pub(crate) fn workers(&self, model: &str) -> Workers {
        self.by_model.load().get(model).cloned().unwrap_or_default()
    }

    /// Tokens of prompt and answer together that some worker of the model takes; `None`: none has
    /// said so yet.
    pub(crate) fn context_length(&self, model: &str) -> Option<u64> {
        let workers = self.workers(model);
        let lengths = workers.iter().filter_map(|worker| worker.context_length());
        lengths.max()
    }

    /// Every worker with the model it is named for.
    pub(crate) fn each(&self, mut visit: impl FnMut(&Arc<str>, &Worker)) {
        for (model, workers) in &**self.by_model.load() {
            for worker in workers.iter() {
                visit(model, worker);
            }
        }
    }

    /// The workers from another one onwards at each call, so that equally good ones take turns.
    pub(crate) fn turned<'a>(
        &self,
        workers: &'a [Arc<Worker>],
    ) -> impl Iterator<Item = &'a Arc<Worker>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (before, from) = workers.split_at(turn.checked_rem(workers.len()).unwrap_or(0));
        from.iter().chain(before)
    }

    /// Ends the tasks that follow the workers' states.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
