//! Manifests: documents of our kinds, each checked by itself, then linked by name.

mod link;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use inferyard_catalog::{Key, KeyHash, Plan};
use inferyard_crds::{BuiltinModel, EmbeddedEngine};

use crate::document;
use crate::mistake::Mistakes;
use crate::read::ManifestFile;

/// What manifests declare, checked; every name in it refers to something in it.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    /// The models, in the order of the files; at least one.
    pub models: Vec<ModelManifest>,
    /// The plans, by name.
    pub plans: BTreeMap<Arc<str>, Arc<Plan>>,
    /// The keys, by hash.
    pub keys: BTreeMap<KeyHash, Arc<Key>>,
}

/// A model to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelManifest {
    /// Name of the resource: what its workers are called by.
    pub resource: Arc<str>,
    /// Canonical name of the model.
    pub name: Arc<str>,
    /// Its other names.
    pub aliases: Vec<Arc<str>>,
    /// When it was declared, in seconds since the Unix epoch.
    pub created: u64,
    /// Where its weights are.
    pub weights: Weights,
    /// How its engine is set.
    pub engine: EngineSettings,
    /// The template of conversations in place of the model's own.
    pub chat_template: Option<Arc<str>>,
    /// How many workers serve it; at least one.
    pub replicas: u32,
}

/// Where weights are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// In the binary.
    Builtin(BuiltinModel),
    /// In a GGUF file.
    File(PathBuf),
}

/// Settings of the embedded engine; what is `None` is chosen by the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineSettings {
    /// Tokens of one sequence.
    pub context_length: Option<u32>,
    /// Sequences that run together.
    pub max_running: Option<usize>,
    /// Requests that wait.
    pub max_queued: Option<usize>,
    /// Cells of the key-value cache.
    pub kv_tokens: Option<u64>,
    /// Processor threads.
    pub threads: Option<usize>,
}

// === impl Manifests ===

impl Manifests {
    /// Checks files and links what they declare. Every mistake of every file is reported at once.
    pub fn parse(files: &[ManifestFile]) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let documents: Vec<_> = files
            .iter()
            .flat_map(|file| document::documents(file, &mut mistakes))
            .collect();
        let manifests = link::link(&documents, &mut mistakes);
        if mistakes.is_empty() {
            Ok(manifests)
        } else {
            mistakes.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
            Err(Mistakes(mistakes))
        }
    }

    /// The model of this canonical name or alias.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&ModelManifest> {
        self.models.iter().find(|model| {
            &*model.name == name || model.aliases.iter().any(|alias| &**alias == name)
        })
    }

    /// The plan of a key that no manifest declares: the one named `default`, else the only one that is
    /// not the preview, else one without restrictions.
    #[must_use]
    pub fn default_plan(&self) -> Arc<Plan> {
        if let Some(plan) = self.plans.get("default") {
            return plan.clone();
        }
        let mut for_keys = self.plans.values().filter(|plan| plan.preview.is_none());
        match (for_keys.next(), for_keys.next()) {
            (Some(only), None) => only.clone(),
            _ => Arc::new(Plan::unrestricted("unrestricted")),
        }
    }
}

// === impl EngineSettings ===

/// The schema has refused every number that does not fit.
impl From<EmbeddedEngine> for EngineSettings {
    fn from(engine: EmbeddedEngine) -> Self {
        const IN_RANGE: &str = "should be in the range of the schema";
        Self {
            context_length: engine.context_length.map(|n| n.try_into().expect(IN_RANGE)),
            max_running: engine.max_running.map(|n| n.try_into().expect(IN_RANGE)),
            max_queued: engine.max_queued.map(|n| n.try_into().expect(IN_RANGE)),
            kv_tokens: engine.kv_tokens.map(|n| n.try_into().expect(IN_RANGE)),
            threads: engine.threads.map(|n| n.try_into().expect(IN_RANGE)),
        }
    }
}
