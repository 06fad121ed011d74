//! The result of reading manifests: models, plans and keys, with all references resolved.

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

/// Everything that manifests declare. It is valid: every reference is to an item in it.
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
    /// Name of the resource, from which the names of its workers are made.
    pub resource: Arc<str>,
    /// Canonical name of the model.
    pub name: Arc<str>,
    /// Aliases of the model.
    pub aliases: Vec<Arc<str>>,
    /// Time of creation, in seconds since the Unix epoch.
    pub created: u64,
    /// Where its weights are.
    pub weights: Weights,
    /// Settings of its engine.
    pub engine: EngineSettings,
    /// The chat template that replaces the model's own.
    pub chat_template: Option<Arc<str>>,
    /// Number of workers; at least one.
    pub replicas: u32,
}

/// The source of a model's weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// Compiled into the binary.
    Builtin(BuiltinModel),
    /// A GGUF file.
    File(PathBuf),
}

/// Settings of the embedded engine; `None`: the engine chooses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineSettings {
    /// Context length of one sequence, in tokens.
    pub context_length: Option<u32>,
    /// Maximum number of running sequences.
    pub max_running: Option<usize>,
    /// Maximum number of queued requests.
    pub max_queued: Option<usize>,
    /// Size of the KV cache, in tokens.
    pub kv_tokens: Option<u64>,
    /// Number of CPU threads.
    pub threads: Option<usize>,
}

// === impl Manifests ===

impl Manifests {
    /// Checks the files and resolves the references between their documents.
    ///
    /// # Errors
    ///
    /// All mistakes of all files.
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

    /// The model with this canonical name or alias.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&ModelManifest> {
        self.models.iter().find(|model| {
            &*model.name == name || model.aliases.iter().any(|alias| &**alias == name)
        })
    }

    /// The plan for a key that no manifest declares: the one named `default`, else the only one that is
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

/// Converts numbers that the schema has checked to be in range.
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
