//! The tables of conditions and of reasons in `docs/kubernetes.md` name every one that there is, and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use inferyard_crds::{ConditionType, Reason};

/// The names in the first columns of the tables with this head.
fn documented(head: &str) -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kubernetes.md");
    let page = fs::read_to_string(page).expect("the page should be there");
    let mut inside = false;
    let rows = page.lines().filter(|line| {
        inside = line.starts_with(head) || inside && line.starts_with('|');
        inside
    });
    let columns = rows.filter_map(|row| row.split('|').nth(1).map(str::to_owned));
    let mut names = BTreeSet::new();
    for column in columns {
        names.extend(column.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    names
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> BTreeSet<String> {
    all.iter().map(|it| name(*it).to_owned()).collect()
}

#[test]
fn every_condition_is_documented() {
    let all = names(ConditionType::ALL, ConditionType::as_str);
    assert_eq!(documented("| condition |"), all);
}

#[test]
fn every_reason_is_documented() {
    assert_eq!(documented("| reason |"), names(Reason::ALL, Reason::as_str));
}
