//! Makes a catalog of manifests and the addresses of workers.

use std::collections::BTreeMap;
use std::sync::Arc;

use inferyard_catalog::{Catalog, Endpoint, Key, KeyHash, Model, ONE_SCOPE};

use crate::manifests::Manifests;

impl Manifests {
    /// Makes a catalog. `workers` are the addresses of workers by the canonical name of their model; `more_keys` are added
    /// to the declared keys.
    #[must_use]
    pub fn catalog(
        &self,
        workers: &BTreeMap<Arc<str>, Vec<Endpoint>>,
        more_keys: impl IntoIterator<Item = (KeyHash, Arc<Key>)>,
    ) -> Catalog {
        let mut catalog = Catalog {
            keys: self.keys.clone(),
            plans: self.plans.clone(),
            ..Catalog::default()
        };
        catalog.keys.extend(more_keys);
        for manifest in &self.models {
            let model = Model {
                workers: workers.get(&manifest.name).cloned().unwrap_or_default(),
                ..Model::new(&manifest.name, manifest.created)
            };
            let names = [&manifest.name].into_iter().chain(&manifest.aliases);
            catalog.add(&ONE_SCOPE.into(), model, names.cloned());
        }
        catalog
    }
}
