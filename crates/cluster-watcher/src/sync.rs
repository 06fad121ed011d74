//! Which lists have arrived and which ones the API server refuses: whether the store is complete enough for a catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::object::Kind;

/// A kind in a namespace; `None`: in all namespaces.
pub(crate) type List = (Kind, Option<Arc<str>>);

/// The name under which a list of all namespaces is reported.
const ALL: &str = "*";

/// The state of all lists.
#[derive(Debug)]
pub(crate) struct SyncState {
    scopes: BTreeSet<Option<Arc<str>>>,
    /// Lists that have not arrived yet.
    awaited: BTreeSet<List>,
    /// Lists that the API server refused when it was asked last, and its message.
    refused: BTreeMap<List, String>,
}

// === impl SyncState ===

impl SyncState {
    pub(crate) fn new(all: impl Iterator<Item = List>) -> Self {
        let awaited: BTreeSet<_> = all.collect();
        Self {
            scopes: awaited.iter().map(|(_, scope)| scope.clone()).collect(),
            awaited,
            refused: BTreeMap::new(),
        }
    }

    /// Records that a list has arrived. Returns whether [`unread`](Self::unread) has changed.
    pub(crate) fn listed(&mut self, list: &List) -> bool {
        self.awaited.remove(list);
        self.refused.remove(list).is_some()
    }

    /// Records that the API server refuses a list. Returns whether [`unread`](Self::unread) has changed.
    pub(crate) fn refused(&mut self, list: List, why: String) -> bool {
        let before = self.refused.insert(list, why.clone());
        before != Some(why)
    }

    /// Whether each namespace has either arrived or is refused, and at least one has arrived: a namespace without rights
    /// does not delay the others. While all are refused, the API server may just have started.
    pub(crate) fn is_synced(&self) -> bool {
        let mut awaited = self.awaited.iter();
        let mut scopes = self.scopes.iter().map(Option::as_deref);
        awaited.all(|(_, scope)| self.refuses(scope.as_deref()))
            && scopes.any(|scope| !self.awaits(scope))
    }

    /// Lists that have never arrived.
    pub(crate) fn never_listed(&self) -> impl Iterator<Item = &List> {
        self.awaited.iter()
    }

    /// Namespaces with a list that is refused, and the reason.
    pub(crate) fn unread(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let mut unread: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
        for ((kind, scope), why) in &self.refused {
            let namespace = scope.clone().unwrap_or_else(|| ALL.into());
            let reason = || format!("cannot list {}: {why}", kind.plural()).into();
            unread.entry(namespace).or_insert_with(reason);
        }
        unread
    }

    fn refuses(&self, scope: Option<&str>) -> bool {
        let mut refused = self.refused.keys();
        refused.any(|(_, refused)| refused.as_deref() == scope)
    }

    fn awaits(&self, scope: Option<&str>) -> bool {
        let mut awaited = self.awaited.iter();
        awaited.any(|(_, awaited)| awaited.as_deref() == scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(namespaces: &[&str]) -> SyncState {
        let scopes = namespaces.iter().map(|name| Some(Arc::from(*name)));
        SyncState::new(scopes.flat_map(|scope| Kind::ALL.map(|kind| (kind, scope.clone()))))
    }

    fn list_all(sync: &mut SyncState, namespace: &str) {
        for kind in Kind::ALL {
            sync.listed(&(kind, Some(namespace.into())));
        }
    }

    fn refuse(sync: &mut SyncState, kind: Kind, namespace: &str) -> bool {
        sync.refused((kind, Some(namespace.into())), "forbidden".to_owned())
    }

    #[test]
    fn a_namespace_without_rights_does_not_delay_the_others() {
        let mut sync = state(&["a", "typo"]);
        list_all(&mut sync, "a");
        assert!(!sync.is_synced(), "typo may be slow");
        assert!(refuse(&mut sync, Kind::Plans, "typo"));
        assert!(sync.is_synced());
        assert!(!refuse(&mut sync, Kind::Plans, "typo"), "it is no news");
        let unread: Vec<_> = sync.unread().into_iter().collect();
        let why = "cannot list plans: forbidden".into();
        assert_eq!(unread, [("typo".into(), why)]);
        // The right is granted.
        assert!(sync.listed(&(Kind::Plans, Some("typo".into()))));
        list_all(&mut sync, "typo");
        assert!(sync.is_synced() && sync.unread().is_empty());
        assert_eq!(sync.never_listed().count(), 0);
    }

    #[test]
    fn nothing_is_synced_while_all_lists_are_refused() {
        let mut sync = state(&["a", "b"]);
        for kind in Kind::ALL {
            refuse(&mut sync, kind, "a");
            refuse(&mut sync, kind, "b");
        }
        assert!(!sync.is_synced());
        list_all(&mut sync, "b");
        assert!(sync.is_synced());
    }

    #[test]
    fn a_list_that_is_refused_after_it_arrived_is_reported() {
        let mut sync = state(&["a"]);
        list_all(&mut sync, "a");
        refuse(&mut sync, Kind::Keys, "a");
        assert!(sync.is_synced());
        assert_eq!(sync.never_listed().count(), 0);
        assert_eq!(sync.unread().len(), 1);
    }
}
