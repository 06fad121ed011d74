//! The status of an `ApiKey`: whether its callers are served, and the hash of a key from a Secret.

use std::collections::BTreeMap;

use inferyard_crds::{ApiKey, ApiKeyStatus, Claimant, Platform, Reason, owners};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::dereference::{claimant, id};
use crate::plans::{Permission, Plans};
use crate::secrets::{Found, Secrets};
use crate::status::accepted;

/// The keys, with everything that they are checked against.
pub(crate) struct Keys<'a> {
    plans: &'a Plans<'a>,
    /// All keys with the contents of their Secrets.
    declared: Vec<(&'a ApiKey, Option<Found>)>,
    /// The owner of each hash: namespace and name of the key.
    owners: BTreeMap<String, (String, String)>,
}

type Refused = (Reason, String);

// === impl Keys ===

impl<'a> Keys<'a> {
    pub(crate) fn new(
        platform: &Platform,
        plans: &'a Plans<'a>,
        keys: &[&'a ApiKey],
        secrets: &Secrets,
    ) -> Self {
        let found = keys.iter().map(|key| (*key, secrets.of(key)));
        Self::with(platform, plans, found.collect())
    }

    fn with(
        platform: &Platform,
        plans: &'a Plans<'a>,
        keys: Vec<(&'a ApiKey, Option<Found>)>,
    ) -> Self {
        let claims = keys.iter().flat_map(|(key, found)| {
            let namespace = key.metadata.namespace.as_deref().unwrap_or_default();
            hashes(key, found.as_ref()).map(move |(_, hash)| {
                let has = key
                    .status
                    .as_ref()
                    .is_some_and(|it| it.hashes.contains(&hash));
                (hash, claimant(*key, platform.key_rank(namespace, has)))
            })
        });
        let owner = |owner: Claimant<'_>| (owner.namespace.to_owned(), owner.name.to_owned());
        let owners = owners(claims).into_iter();
        let owners = owners
            .map(|(hash, claimant)| (hash, owner(claimant)))
            .collect();
        Self {
            plans,
            declared: keys,
            owners,
        }
    }

    /// All keys with the status that they should have.
    pub(crate) fn statuses(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (&'a ApiKey, ApiKeyStatus)> {
        let keys = self.declared.iter();
        keys.map(move |(key, found)| (*key, self.status(key, found.as_ref(), now)))
    }

    fn status(&self, key: &ApiKey, found: Option<&Found>, now: Timestamp) -> ApiKeyStatus {
        let before = key.status.as_ref();
        let generation = key.metadata.generation.unwrap_or(0);
        let conditions = before.map_or(&[][..], |status| &status.conditions);
        ApiKeyStatus {
            observed_generation: generation,
            hash: secret_hash(key, found),
            hashes: hashes(key, found)
                .filter(|(_, hash)| self.is_owner(key, hash))
                .map(|(_, hash)| hash)
                .collect(),
            conditions: accepted(self.check(key, found), conditions, generation, now),
        }
    }

    fn is_owner(&self, key: &ApiKey, hash: &str) -> bool {
        self.owners.get(hash) == Some(&id(key))
    }

    fn check(&self, key: &ApiKey, found: Option<&Found>) -> Result<String, Refused> {
        let (namespace, plan) = (key.namespace().unwrap_or_default(), &key.spec.plan);
        match found {
            Some(Found::NoKey(reason, message)) => return Err((*reason, message.clone())),
            Some(Found::Unread(message)) => return Err((Reason::Refused, message.clone())),
            Some(Found::Key(_)) | None => {}
        }
        match self.plans.permission(&namespace, plan) {
            None => {
                let message = format!("spec.plan: there is no Plan {plan}");
                return Err((Reason::NotFound, message));
            }
            Some(Permission::Refused) => {
                let message =
                    format!("spec.plan: the Plan {plan} is not allowed; its status says why");
                return Err((Reason::NotAllowed, message));
            }
            Some(Permission::Allowed) => {}
        }
        for (field, hash) in hashes(key, found) {
            if let Some((owner_namespace, owner)) = self.owners.get(&hash)
                && !self.is_owner(key, &hash)
            {
                // A user must not learn the names of keys in other namespaces.
                let whose = if *owner_namespace == namespace {
                    format!("the ApiKey {owner}")
                } else {
                    "an ApiKey of another namespace".to_owned()
                };
                let message =
                    format!("{field}: {whose} has the same key and comes first; make another key");
                return Err((Reason::NameTaken, message));
            }
        }
        Ok(format!("its callers are on the Plan {plan}"))
    }
}

/// All hashes of a key, those of its declaration and that of its Secret, with their fields.
fn hashes(
    key: &ApiKey,
    found: Option<&Found>,
) -> impl Iterator<Item = (&'static str, String)> + use<> {
    let from_secret = secret_hash(key, found).map(|hash| ("spec.secret", hash));
    declared(key).chain(from_secret)
}

/// The hashes in the declaration of a key, with their fields.
fn declared(key: &ApiKey) -> impl Iterator<Item = (&'static str, String)> + use<> {
    let spec = &key.spec;
    let fields = [
        ("spec.hash", &spec.hash),
        ("spec.previousHash", &spec.previous_hash),
    ];
    let declared = fields.map(|(field, hash)| Some((field, hash.clone()?)));
    declared.into_iter().flatten()
}

/// The hash of the key in the Secret. If the Secret cannot be read now, the last hash stays valid.
fn secret_hash(key: &ApiKey, found: Option<&Found>) -> Option<String> {
    match found? {
        Found::Key(hash) => Some(hash.clone()),
        Found::NoKey(..) => None,
        Found::Unread(_) => key.status.as_ref()?.hash.clone(),
    }
}

#[cfg(test)]
mod tests;
