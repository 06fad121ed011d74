//! Who watches hears everything once, and only what is news.

use super::*;

fn apply(state: &State, changes: impl IntoIterator<Item = PrefixChange>) {
    state.set_load(Load::default(), changes.into_iter());
}

#[test]
fn a_watcher_hears_everything_first_and_changes_later() {
    let state = State::new("m".to_owned(), 1);
    apply(&state, [PrefixChange::Added(1), PrefixChange::Added(2)]);
    let mut cursor = Cursor::default();
    let (_, mut first) = state.observe(&mut cursor);
    first.added.sort_unstable();
    assert_eq!(
        first,
        PrefixNews {
            reset: true,
            added: vec![1, 2],
            removed: vec![]
        }
    );

    apply(
        &state,
        [
            PrefixChange::Removed(1),
            PrefixChange::Added(3),
            PrefixChange::Removed(3),
        ],
    );
    let (_, mut second) = state.observe(&mut cursor);
    second.removed.sort_unstable();
    assert_eq!(
        second,
        PrefixNews {
            reset: false,
            added: vec![],
            removed: vec![1, 3]
        }
    );
    assert_eq!(state.observe(&mut cursor).1, PrefixNews::default());
}

#[test]
fn a_watcher_that_is_too_far_behind_hears_everything_again() {
    let state = State::new("m".to_owned(), 1);
    let mut cursor = Cursor::default();
    state.observe(&mut cursor);
    apply(&state, (0..=CHANGES_KEPT as u64).map(PrefixChange::Added));
    let (_, news) = state.observe(&mut cursor);
    assert!(news.reset);
    assert_eq!(news.added.len(), CHANGES_KEPT + 1);
}

#[test]
fn only_changes_wake_watchers() {
    let state = State::new("m".to_owned(), 1);
    let mut changes = state.changes();
    apply(&state, []);
    assert!(!changes.has_changed().unwrap());
    state.set_load(
        Load {
            running: 1,
            ..Load::default()
        },
        std::iter::empty(),
    );
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
}
