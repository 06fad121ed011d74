//! Which lists a catalog is made of: those that were given, and those that the API server refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::object::Kind;

/// A kind in a namespace; `None`: in all of them.
pub(crate) type List = (Kind, Option<Arc<str>>);

/// What all namespaces together are called.
const ALL: &str = "*";

/// How far reading is.
#[derive(Debug)]
pub(crate) struct Lists {
    scopes: BTreeSet<Option<Arc<str>>>,
    /// Not given yet.
    awaited: BTreeSet<List>,
    /// What the API server said instead of giving it, when it was last asked.
    refused: BTreeMap<List, String>,
}

// === impl Lists ===

impl Lists {
    pub(crate) fn new(all: impl Iterator<Item = List>) -> Self {
        let awaited: BTreeSet<_> = all.collect();
        Self {
            scopes: awaited.iter().map(|(_, scope)| scope.clone()).collect(),
            awaited,
            refused: BTreeMap::new(),
        }
    }

    /// A list was given. Whether what is said of lists has changed.
    pub(crate) fn given(&mut self, list: &List) -> bool {
        self.awaited.remove(list);
        self.refused.remove(list).is_some()
    }

    /// The API server refuses a list. Whether that is new.
    pub(crate) fn refused(&mut self, list: List, why: String) -> bool {
        let before = self.refused.insert(list, why.clone());
        before != Some(why)
    }

    /// Every namespace was given whole or is refused, and one at least was given: one without rights does not
    /// hold up the others. While all are refused, it may as well be that the API server has just started.
    pub(crate) fn settled(&self) -> bool {
        let mut awaited = self.awaited.iter();
        let mut scopes = self.scopes.iter().map(Option::as_deref);
        awaited.all(|(_, scope)| self.refuses(scope.as_deref()))
            && scopes.any(|scope| !self.awaits(scope))
    }

    /// Lists that were never given.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &List> {
        self.awaited.iter()
    }

    /// Namespaces that are refused, and why.
    pub(crate) fn unread(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let mut unread: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
        for ((kind, scope), why) in &self.refused {
            let namespace = scope.clone().unwrap_or_else(|| ALL.into());
            let said = || format!("cannot list {}: {why}", kind.plural()).into();
            unread.entry(namespace).or_insert_with(said);
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

    fn lists(namespaces: &[&str]) -> Lists {
        let scopes = namespaces.iter().map(|name| Some(Arc::from(*name)));
        Lists::new(scopes.flat_map(|scope| Kind::ALL.map(|kind| (kind, scope.clone()))))
    }

    fn give_all(lists: &mut Lists, namespace: &str) {
        for kind in Kind::ALL {
            lists.given(&(kind, Some(namespace.into())));
        }
    }

    fn refuse(lists: &mut Lists, kind: Kind, namespace: &str) -> bool {
        lists.refused((kind, Some(namespace.into())), "forbidden".to_owned())
    }

    #[test]
    fn a_namespace_without_rights_does_not_hold_up_the_others() {
        let mut lists = lists(&["a", "typo"]);
        give_all(&mut lists, "a");
        assert!(!lists.settled(), "typo may be slow");
        assert!(refuse(&mut lists, Kind::Plans, "typo"));
        assert!(lists.settled());
        assert!(!refuse(&mut lists, Kind::Plans, "typo"), "it is known");
        let unread: Vec<_> = lists.unread().into_iter().collect();
        let why = "cannot list plans: forbidden".into();
        assert_eq!(unread, [("typo".into(), why)]);
        // It is granted.
        assert!(lists.given(&(Kind::Plans, Some("typo".into()))));
        give_all(&mut lists, "typo");
        assert!(lists.settled() && lists.unread().is_empty());
        assert_eq!(lists.missing().count(), 0);
    }

    #[test]
    fn nothing_is_settled_while_all_are_refused() {
        let mut lists = lists(&["a", "b"]);
        for kind in Kind::ALL {
            refuse(&mut lists, kind, "a");
            refuse(&mut lists, kind, "b");
        }
        assert!(!lists.settled());
        give_all(&mut lists, "b");
        assert!(lists.settled());
    }

    #[test]
    fn what_is_refused_after_it_was_given_is_said_and_missing_is_nothing() {
        let mut lists = lists(&["a"]);
        give_all(&mut lists, "a");
        refuse(&mut lists, Kind::Keys, "a");
        assert!(lists.settled());
        assert_eq!(lists.missing().count(), 0);
        assert_eq!(lists.unread().len(), 1);
    }
}
