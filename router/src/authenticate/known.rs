//! A key of the key store, as it is cached.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use inferyard_catalog::{Catalog, Key, Limits};
use inferyard_domain::{Account, KeyName};
use inferyard_keys::{KeyLimits, StoredKey};

/// A stored key, which becomes a [`Key`] with the plan from the current catalog.
#[derive(Debug, PartialEq)]
pub(crate) struct Known {
    id: KeyName,
    account: Account,
    plan: Arc<str>,
    expires: Option<SystemTime>,
    disabled: bool,
    limits: Option<Limits>,
}

// === impl Known ===

impl Known {
    pub(crate) fn of(key: StoredKey) -> Self {
        Self {
            // Names need not be unique in a store; ids are.
            id: key.id.into(),
            account: key.account.into(),
            plan: key.plan.into(),
            expires: key.expires.map(|end| UNIX_EPOCH + Duration::from_secs(end)),
            disabled: key.disabled,
            limits: key.limits.as_ref().map(limits),
        }
    }

    /// The key on its plan in this catalog; `None`: the catalog has no such plan.
    pub(crate) fn on(&self, catalog: &Catalog) -> Option<Key> {
        let plan = catalog.plans.get(&self.plan)?;
        Some(Key {
            name: Some(self.id.clone()),
            account: self.account.clone(),
            plan: Arc::clone(plan),
            expires: self.expires,
            disabled: self.disabled,
            limits: self.limits,
        })
    }

    pub(crate) fn plan(&self) -> &str {
        &self.plan
    }
}

/// Converts limits of a key. Our writers reject a limit of zero; the strictest limit, 1, replaces it.
fn limits(limits: &KeyLimits) -> Limits {
    let limit = |number: Option<u64>| {
        number.map(|number| NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    };
    Limits {
        requests_per_minute: limit(limits.requests_per_minute),
        requests_per_day: limit(limits.requests_per_day),
        requests_total: limit(limits.requests_total),
        tokens_per_minute: limit(limits.tokens_per_minute),
        tokens_per_day: limit(limits.tokens_per_day),
        concurrent_requests: limit(limits.concurrent_requests),
        budget_per_month: limit(limits.budget_nanodollars),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferyard_catalog::Plan;

    #[test]
    fn a_stored_key_is_on_the_plan_of_the_catalog_in_force() {
        let known = Known::of(StoredKey {
            id: "key_1".into(),
            name: "production".into(),
            account: "acme".into(),
            plan: "team".into(),
            expires: Some(100),
            limits: Some(KeyLimits {
                tokens_per_day: Some(7),
                ..KeyLimits::default()
            }),
            ..StoredKey::default()
        });
        let mut catalog = Catalog::default();
        assert_eq!(known.on(&catalog), None);
        let plan = Arc::new(Plan::unrestricted("team"));
        catalog.plans.insert("team".into(), Arc::clone(&plan));
        let expected = Key {
            name: Some("key_1".into()),
            account: "acme".into(),
            plan,
            expires: Some(UNIX_EPOCH + Duration::from_secs(100)),
            disabled: false,
            limits: Some(Limits {
                tokens_per_day: NonZeroU64::new(7),
                ..Limits::default()
            }),
        };
        assert_eq!(known.on(&catalog), Some(expected));
    }
}
