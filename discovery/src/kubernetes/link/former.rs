//! The workers of a `ModelDeployment` by the name that they serve: after a new name was declared, old workers go on
//! with the one before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use inferyard_router::catalog::Endpoint;

use super::super::meaning::WorkerPod;
use super::super::object::Id;

/// The workers of one `ModelDeployment`; without a name: of the declared one.
#[derive(Debug, Default)]
pub(super) struct Workers(BTreeMap<Option<String>, Served>);

/// Those of one name.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) endpoints: BTreeSet<Endpoint>,
    ready: usize,
}

/// A name that is not declared any longer, and whose workers are there still.
#[derive(Debug)]
pub(super) struct Former {
    pub(super) owner: Id,
    pub(super) name: Arc<str>,
    /// The name in its place.
    pub(super) declared: Arc<str>,
    pub(super) created: u64,
    pub(super) workers: BTreeSet<Endpoint>,
    /// More of its workers are ready than of the declared name.
    pub(super) is_ahead: bool,
}

// === impl Workers ===

impl Workers {
    pub(super) fn add(&mut self, pod: &WorkerPod) {
        let Some(endpoint) = pod.endpoint() else {
            return;
        };
        let served = self.0.entry(pod.serves.clone()).or_default();
        if served.endpoints.insert(endpoint) && pod.ready {
            served.ready += 1;
        }
    }

    /// Takes those of the declared name.
    pub(super) fn take(&mut self, declared: &str) -> Served {
        let mut own = self.0.remove(&None).unwrap_or_default();
        if let Some(named) = self.0.remove(&Some(declared.to_owned())) {
            own.endpoints.extend(named.endpoints);
            own.ready += named.ready;
        }
        own
    }

    /// What is left: names from before.
    pub(super) fn former(
        self,
        owner: &Id,
        declared: &str,
        created: u64,
        own: &Served,
    ) -> impl Iterator<Item = Former> {
        self.0.into_iter().filter_map(move |(name, served)| {
            Some(Former {
                owner: owner.clone(),
                name: name?.into(),
                declared: declared.into(),
                created,
                workers: served.endpoints,
                is_ahead: served.ready > own.ready,
            })
        })
    }
}
