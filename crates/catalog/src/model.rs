//! A model: its names, and its workers.

use std::sync::Arc;

use inferyard_domain::ModelId;

use super::Endpoint;

/// A model and its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Unique id within a catalog, used in usage, metrics and plans.
    pub id: ModelId,
    /// Canonical name, used by its workers. Models of different scopes may have the same name.
    pub name: Arc<str>,
    /// When it was declared, in seconds since the Unix epoch (OpenAI's `created`).
    pub created: u64,
    /// Its workers, whether ready or not.
    pub workers: Vec<Endpoint>,
    /// Why it gets no workers until its declaration changes.
    pub stopped: Option<Stopped>,
}

/// Why a model gets no workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// No replicas are wanted.
    ScaledToZero,
    /// The declaration cannot be applied.
    Refused {
        /// The reason in one word, for example `NameTaken`.
        reason: Arc<str>,
    },
}

// === impl Model ===

impl Model {
    /// A model whose name is its id, without workers.
    #[must_use]
    pub fn new(name: &str, created: u64) -> Self {
        Self {
            id: name.into(),
            name: name.into(),
            created,
            workers: Vec::new(),
            stopped: None,
        }
    }

    /// Why no worker will answer until the declaration changes; `None`: a worker answers, or may soon. Workers from
    /// before a refused change keep serving.
    #[must_use]
    pub fn halt(&self) -> Option<&Stopped> {
        self.stopped.as_ref().filter(|_| self.workers.is_empty())
    }
}
