//! The tables are sorted, and the documentation is generated from them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::*;

#[test]
fn tables_are_sorted() {
    for api in [Api::Chat, Api::Completions] {
        assert!(of(api).is_sorted_by(|one, other| one.name < other.name));
    }
}

/// The rows of a table in the documentation, from its head to the next empty line.
fn rows(api: Api) -> String {
    let mut rows = String::from("| Field | Values | | |\n| --- | --- | --- | --- |\n");
    for field in of(api) {
        let policy = match field.policy {
            Policy::Honoured => "honoured",
            Policy::Accepted => "accepted",
            Policy::Refused(_) => "refused",
        };
        let FieldSpec {
            name, kind, note, ..
        } = field;
        writeln!(rows, "| `{name}` | {kind} | {policy} | {note} |").unwrap();
    }
    rows
}

/// A difference is written into the page. A second run of the test then passes, and git shows the change.
#[test]
fn the_documented_fields_are_those_that_are_read() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openai-compatibility.md");
    let committed = fs::read_to_string(&page).unwrap();
    let mut fresh = committed.clone();
    for (api, title) in [
        (Api::Chat, "## Fields of `/v1/chat/completions`\n\n"),
        (Api::Completions, "## Fields of `/v1/completions`\n\n"),
    ] {
        let start = fresh.find(title).expect("the section should be there") + title.len();
        let end = start + fresh[start..].find("\n\n").unwrap() + 1;
        fresh.replace_range(start..end, &rows(api));
    }
    if committed != fresh {
        fs::write(&page, fresh).unwrap();
        panic!("docs/openai-compatibility.md was not current; it is now");
    }
}
