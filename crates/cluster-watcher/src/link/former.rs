//! A model that got a new name: as long as workers from before it are there, the old name leads to them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use inferyard_catalog::{Endpoint, Model};
use inferyard_crds::Claimant;

use super::{Linked, Owners};
use crate::known::Known;
use crate::meaning::WorkerPod;

/// The workers of one `ModelDeployment` by the name that they serve; without a name: the declared one.
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
pub(super) struct Former<'a> {
    /// The `ModelDeployment`.
    owner: Claimant<'a>,
    name: String,
    /// The names that it declares now: the one in the place of this one, and the aliases.
    declared: &'a [&'a str],
    workers: BTreeSet<Endpoint>,
    ready: usize,
    /// More of its workers are ready than of the declared name.
    is_ahead: bool,
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
                is_ahead: served.ready > own.ready,
            })
        })
    }
}

// === impl Linked ===

impl Linked {
    /// Keeps the models of former names: what another model declares by now is not kept, and of several former ones
    /// the first has the name. Aliases lead to the old workers as long as more of them are ready than of the new ones;
    /// where there are workers of several former names, to the most.
    pub(super) fn keep(&mut self, known: &Known, mut former: Vec<Former<'_>>, owners: &Owners<'_>) {
        former.sort_by_key(|former| (former.owner, Reverse(former.ready)));
        let mut led = BTreeSet::new();
        for former in former {
            let is_first = former.is_ahead && led.insert(former.owner);
            self.keep_one(known, former, is_first, owners);
        }
    }

    fn keep_one(
        &mut self,
        known: &Known,
        former: Former<'_>,
        has_aliases: bool,
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
        let aliases = aliases.iter().filter(|_| has_aliases).filter(owns);
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
        let id: Arc<str> = known.platform.model_id(&namespace, &former.name).into();
        if let Some(declared) = declared.and_then(|declared| names.get(*declared)) {
            for (one, other) in [(declared, &id), (&id, declared)] {
                let alike = self.alike.entry(Arc::clone(one)).or_default();
                alike.push(Arc::clone(other));
            }
        }
        if !is_alias {
            let kept = (Arc::clone(&namespace), Arc::clone(&called));
            self.former.push(kept);
        }
        let own_name = (!is_alias || former.is_ahead).then_some(called);
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
