//! Models that were renamed: while workers with the former name run, the former name leads to them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use inferyard_catalog::{Endpoint, Model};
use inferyard_crds::Claimant;
use inferyard_domain::ModelId;

use super::{Linked, Owners};
use crate::parsed::WorkerPod;
use crate::store::Store;

/// The workers of one `ModelDeployment` by the model name that they serve; `None`: the declared one.
#[derive(Debug, Default)]
pub(super) struct Workers(BTreeMap<Option<String>, Served>);

/// Workers that serve the same name.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) endpoints: BTreeSet<Endpoint>,
    /// How many of them are ready.
    ready: usize,
}

/// A name that is no longer declared, but still has workers.
#[derive(Debug)]
pub(super) struct Former<'a> {
    /// The `ModelDeployment` that declared it.
    owner: Claimant<'a>,
    name: String,
    /// The names that the `ModelDeployment` declares now: the canonical one, then the aliases.
    declared: &'a [&'a str],
    workers: BTreeSet<Endpoint>,
    ready: usize,
    /// It has more ready workers than the declared name.
    has_more_ready: bool,
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

    /// Removes and returns the workers of the declared name.
    pub(super) fn take(&mut self, declared: &str) -> Served {
        let mut own = self.0.remove(&None).unwrap_or_default();
        if let Some(named) = self.0.remove(&Some(declared.to_owned())) {
            own.endpoints.extend(named.endpoints);
            own.ready += named.ready;
        }
        own
    }

    /// Converts the rest, which are workers of former names.
    pub(super) fn former<'a>(
        self,
        owner: Claimant<'a>,
        declared: &'a [&'a str],
        own: &Served,
    ) -> impl Iterator<Item = Former<'a>> {
        self.0.into_iter().filter_map(move |(name, served)| {
            Some(Former {
                owner,
                name: name?,
                declared,
                workers: served.endpoints,
                ready: served.ready,
                has_more_ready: served.ready > own.ready,
            })
        })
    }
}

// === impl Linked ===

impl Linked {
    /// Adds the models of former names, except those that another model declares now; of several models with the same
    /// former name, the first gets it. Aliases lead to the workers of the former name while more of them are ready than
    /// of the declared one; with several former names, to that with the most ready workers.
    pub(super) fn add_former(
        &mut self,
        store: &Store,
        mut former: Vec<Former<'_>>,
        owners: &Owners<'_>,
    ) {
        former.sort_by_key(|former| (former.owner, Reverse(former.ready)));
        let mut with_aliases = BTreeSet::new();
        for former in former {
            let gets_aliases = former.has_more_ready && with_aliases.insert(former.owner);
            self.add_former_model(store, former, gets_aliases, owners);
        }
    }

    fn add_former_model(
        &mut self,
        store: &Store,
        former: Former<'_>,
        gets_aliases: bool,
        owners: &Owners<'_>,
    ) {
        let Claimant {
            namespace, name, ..
        } = former.owner;
        let declared_by = owners.get(&(namespace, former.name.as_str()));
        if declared_by.is_some_and(|owner| !owner.is(namespace, name)) {
            return;
        }
        let is_alias = declared_by.is_some();
        let owns = |declared: &&&str| owners[&(namespace, **declared)].is(namespace, name);
        let (declared, aliases) = former.declared.split_at(1);
        let aliases = aliases.iter().filter(|_| gets_aliases).filter(owns);
        let aliases: Vec<Arc<str>> = aliases.map(|alias| Arc::from(*alias)).collect();
        let declared = declared.iter().find(owns);
        let namespace: Arc<str> = namespace.into();
        let names = self
            .catalog
            .names
            .entry(Arc::clone(&namespace))
            .or_default();
        if !is_alias && names.contains_key(former.name.as_str()) {
            return;
        }
        let called: Arc<str> = former.name.as_str().into();
        let id: ModelId = store.platform.model_id(&namespace, &former.name).into();
        if let Some(declared) = declared.and_then(|declared| names.get(*declared)) {
            for (one, other) in [(declared, &id), (&id, declared)] {
                let ids = self.equivalent.entry(one.clone()).or_default();
                ids.push(other.clone());
            }
        }
        if !is_alias {
            let kept = (Arc::clone(&namespace), Arc::clone(&called));
            self.former.push(kept);
        }
        let own_name = (!is_alias || former.has_more_ready).then_some(called);
        let leading: Vec<_> = aliases.into_iter().chain(own_name).collect();
        let model = Model {
            workers: former.workers.into_iter().collect(),
            id,
            ..Model::new(
                &former.name,
                u64::try_from(former.owner.created).unwrap_or(0),
            )
        };
        self.catalog.add(&namespace, model, leading);
    }
}
