//! A model: what it is called, and where it runs.

use std::sync::Arc;

use super::Endpoint;

/// A model and where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// What it is called in usage, metrics and plans: no two models of a catalog have the same id.
    pub id: Arc<str>,
    /// Canonical name: what its workers call it. Models of different scopes may have the same name.
    pub name: Arc<str>,
    /// When it was declared, in seconds since the Unix epoch (OpenAI's `created`).
    pub created: u64,
    /// Its workers, ready or not; their own state says which.
    pub workers: Vec<Endpoint>,
    /// Why it gets no workers until its declaration changes.
    pub stopped: Option<Stopped>,
}

/// Why a model gets no workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// None is wanted.
    ScaledToZero,
    /// What is declared cannot be carried out.
    Refused {
        /// Why, in one word, such as `NameTaken`.
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
    /// before a change that was refused go on serving.
    #[must_use]
    pub fn halt(&self) -> Option<&Stopped> {
        self.stopped.as_ref().filter(|_| self.workers.is_empty())
    }
}
