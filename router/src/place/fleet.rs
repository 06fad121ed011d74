//! The workers of all models, as the catalog names them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use inferyard_placement::Weights;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::crew::{Crew, Lengths};
use super::follow::follow;
use super::journal::Journal;
use super::recorder::{RecordError, Recorder};
use super::worker::Worker;
use inferyard_catalog::Catalog;

type Crews = HashMap<Arc<str>, Arc<Crew>>;

/// Every worker, by the id of the model it is named for.
pub(crate) struct Fleet {
    by_model: ArcSwap<Crews>,
    began: Instant,
    /// For choosing among equally good workers.
    seed: u64,
    journal: Journal,
    recorder: Option<Arc<Recorder>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Fleet {
    /// Nobody yet.
    pub(crate) fn new(recording: Option<PathBuf>) -> Result<Self, RecordError> {
        let seed = getrandom::u64().expect("the system should have random numbers");
        let recorder = recording.map(|path| Recorder::create(&path, Weights::default(), seed));
        Ok(Self {
            by_model: ArcSwap::default(),
            began: Instant::now(),
            seed,
            journal: Journal::default(),
            recorder: recorder.transpose()?.map(Arc::new),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Where decisions are written down.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Follows the workers of a new catalog: those that stay keep their connections; answers of
    /// those that left go on.
    pub(crate) fn update(&self, catalog: &Catalog) {
        let old = self.by_model.load();
        let mut crews = Crews::with_capacity(catalog.models.len());
        for (id, model) in &catalog.models {
            let crew = old.get(id).filter(|crew| crew.serves(model)).cloned();
            let new = || {
                let recorder = self.recorder.clone();
                Crew::new(model, self.began, self.seed, recorder)
            };
            let crew = crew.unwrap_or_else(new);
            crew.update(&model.workers, |crew, id, endpoint| {
                let following = self.stop.child_token();
                let worker = Worker::new(endpoint.clone(), id, following.clone());
                let worker = Arc::new(worker);
                let task = follow(Arc::downgrade(crew), Arc::downgrade(&worker));
                self.tasks
                    .spawn(async move { following.run_until_cancelled(task).await });
                worker
            });
            crews.insert(Arc::clone(id), crew);
        }
        for (id, crew) in old.iter() {
            if !crews.get(id).is_some_and(|kept| Arc::ptr_eq(kept, crew)) {
                crew.disband();
            }
        }
        self.by_model.store(Arc::new(crews));
    }

    /// The workers of a model, ready or not; `None`: the model is not declared any longer.
    pub(crate) fn crew(&self, model: &str) -> Option<Arc<Crew>> {
        self.by_model.load().get(model).cloned()
    }

    /// What the workers of a model say of the lengths of prompts.
    pub(crate) fn lengths(&self, model: &str) -> Lengths {
        let crew = self.crew(model);
        crew.map_or_else(Lengths::default, |crew| crew.lengths())
    }

    /// The workers of every model.
    pub(crate) fn each(&self, mut visit: impl FnMut(&Arc<str>, &Crew)) {
        for (model, crew) in &**self.by_model.load() {
            visit(model, crew);
        }
    }

    /// Ends the tasks that follow the workers' states.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(recorder) = &self.recorder {
            recorder.end().await;
        }
    }
}
