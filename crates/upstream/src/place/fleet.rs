//! The endpoint pools of all models in the catalog.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use inferyard_domain::ModelId;
use inferyard_placement::{PromptLengths, Weights};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::decision_log::DecisionLog;
use super::endpoint_pool::EndpointPool;
use super::follow::follow;
use super::recorder::{RecordError, Recorder};
use super::worker::Worker;
use inferyard_catalog::Catalog;

type EndpointPools = HashMap<ModelId, Arc<EndpointPool>>;

/// Every worker, by the id of its model.
pub struct Fleet {
    by_model: ArcSwap<EndpointPools>,
    began: Instant,
    /// For the choice among equally good workers.
    seed: u64,
    decision_log: DecisionLog,
    recorder: Option<Arc<Recorder>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Fleet {
    /// A fleet without workers. Decisions are recorded to the file `recording`, if given.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the file exists or cannot be written.
    pub fn new(recording: Option<PathBuf>) -> Result<Self, RecordError> {
        let seed = getrandom::u64().expect("the system should have random numbers");
        let recorder = recording.map(|path| Recorder::create(&path, Weights::default(), seed));
        Ok(Self {
            by_model: ArcSwap::default(),
            began: Instant::now(),
            seed,
            decision_log: DecisionLog::default(),
            recorder: recorder.transpose()?.map(Arc::new),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// The log of placement decisions.
    pub fn decision_log(&self) -> &DecisionLog {
        &self.decision_log
    }

    /// Applies a new catalog. Workers that stay keep their connections; answers of removed workers go on.
    pub fn update(&self, catalog: &Catalog) {
        let old = self.by_model.load();
        let mut endpoint_pools = EndpointPools::with_capacity(catalog.models.len());
        for (id, model) in &catalog.models {
            let endpoints = old
                .get(id)
                .filter(|endpoints| endpoints.serves(model))
                .cloned();
            let new = || {
                let recorder = self.recorder.clone();
                EndpointPool::new(model, self.began, self.seed, recorder)
            };
            let endpoints = endpoints.unwrap_or_else(new);
            endpoints.update(&model.workers, |endpoints, id, endpoint| {
                let following = self.stop.child_token();
                let worker = Worker::new(endpoint.clone(), id, following.clone());
                let worker = Arc::new(worker);
                let task = follow(Arc::downgrade(endpoints), Arc::downgrade(&worker));
                self.tasks
                    .spawn(async move { following.run_until_cancelled(task).await });
                worker
            });
            endpoint_pools.insert(id.clone(), endpoints);
        }
        for (id, endpoints) in old.iter() {
            if !endpoint_pools
                .get(id)
                .is_some_and(|kept| Arc::ptr_eq(kept, endpoints))
            {
                endpoints.disband();
            }
        }
        self.by_model.store(Arc::new(endpoint_pools));
    }

    /// The endpoint pool of a model, ready or not; `None`: the model is not declared.
    pub fn endpoints(&self, model: &str) -> Option<Arc<EndpointPool>> {
        self.by_model.load().get(model).cloned()
    }

    /// Whether the model is declared.
    pub fn serves(&self, model: &str) -> bool {
        self.by_model.load().contains_key(model)
    }

    /// Limits on prompt lengths, as the workers of a model report them.
    pub fn lengths(&self, model: &str) -> PromptLengths {
        let endpoints = self.endpoints(model);
        endpoints.map_or_else(PromptLengths::default, |endpoints| endpoints.lengths())
    }

    /// Visits the endpoint pool of every model.
    pub fn each(&self, mut visit: impl FnMut(&ModelId, &EndpointPool)) {
        for (model, endpoints) in &**self.by_model.load() {
            visit(model, endpoints);
        }
    }

    /// Stops following the workers' states, and completes the recording.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(recorder) = &self.recorder {
            recorder.end().await;
        }
    }
}
