//! Writes and edits one document of a manifest.

use std::fmt::Write as _;

use inferyard_manifests::text_documents;
use serde_json::{Map, Value};

/// A field of `spec` and its new value; `None`: the field is removed.
pub(super) type Change<'a> = (&'a str, Option<Value>);

/// The text of a document with changed fields of `spec`. Comments and order are kept, unless the document's style does
/// not have one field per line.
pub(super) fn changed(text: &str, value: &Value, changes: &[Change<'_>]) -> String {
    let mut wanted = value.clone();
    let fields = wanted["spec"].as_object_mut();
    let fields = fields.expect("a key should have a spec");
    for (field, new) in changes {
        match new {
            Some(new) => drop(fields.insert((*field).to_owned(), new.clone())),
            None => drop(fields.shift_remove(*field)),
        }
    }
    let edited = edited(text, changes).filter(|edited| {
        let read = text_documents(edited).unwrap_or_default();
        matches!(&read[..], [document] if document.value == wanted)
    });
    edited.unwrap_or_else(|| written(&wanted))
}

/// The text with changed lines; the caller has to check that its meaning is right.
fn edited(text: &str, changes: &[Change<'_>]) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (field, new) in changes {
        // Every key has `spec.hash`, so new fields are inserted next to it.
        let hash = find(&lines, None, "hash")?;
        let indent = lines[hash].len() - lines[hash].trim_start().len();
        let spaces = " ".repeat(indent);
        let line = new
            .as_ref()
            .map(|new| format!("{spaces}{field}: {}", scalar(new)));
        match (find(&lines, Some(indent), field), line) {
            (Some(place), Some(line)) => {
                let comment = lines[place].find(" #").map(|at| lines[place].split_off(at));
                lines[place] = line + &comment.unwrap_or_default();
            }
            (Some(place), None) => drop(lines.remove(place)),
            (None, Some(line)) => lines.insert(hash + 1, line),
            (None, None) => {}
        }
    }
    Some(lines.join("\n") + "\n")
}

/// Index of the line with this field, at this indentation.
fn find(lines: &[String], indent: Option<usize>, field: &str) -> Option<usize> {
    lines.iter().position(|line| {
        let start = line.trim_start();
        let depth = line.len() - start.len();
        let rest = start.strip_prefix(field);
        rest.is_some_and(|rest| rest.starts_with(':')) && indent.is_none_or(|at| at == depth)
    })
}

/// A document as YAML, one field per line.
pub(super) fn written(value: &Value) -> String {
    let mut text = String::new();
    if let Some(fields) = value.as_object() {
        write_fields(fields, 0, &mut text);
    }
    text
}

fn write_fields(fields: &Map<String, Value>, depth: usize, text: &mut String) {
    for (field, value) in fields {
        let spaces = " ".repeat(2 * depth);
        let field = plain(field);
        let wrote = match value {
            Value::Object(inner) if !inner.is_empty() => {
                let wrote = writeln!(text, "{spaces}{field}:");
                write_fields(inner, depth + 1, text);
                wrote
            }
            value => writeln!(text, "{spaces}{field}: {}", scalar(value)),
        };
        wrote.expect("writing to a string should not fail");
    }
}

/// A value on one line, as JSON, which is YAML too.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        value => value.to_string(),
    }
}

/// A YAML scalar without quotes, if it cannot be read as another type.
fn plain(text: &str) -> String {
    const WORDS: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "y"];
    let word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    let simple = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    if simple && !word && !text.eq_ignore_ascii_case("n") {
        return text.to_owned();
    }
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "\
# Alice's key.
apiVersion: inferyard.dev/v1alpha1
kind: ApiKey
metadata: {name: alice}
spec:
  plan: team  # since May
  hash: aa  # SHA-256
  limits:
    requestsPerMinute: 5
  disabled: false
";

    fn value(text: &str) -> Value {
        text_documents(text).unwrap().remove(0).value
    }

    #[test]
    fn lines_are_changed_and_comments_stay() {
        let changes = [
            ("hash", Some(json!("bb"))),
            ("previousHash", Some(json!("aa"))),
            ("disabled", None),
        ];
        let text = changed(KEY, &value(KEY), &changes);
        let expected = KEY
            .replace("  hash: aa  # SHA", "  hash: bb # SHA")
            .replace("SHA-256\n", "SHA-256\n  previousHash: aa\n")
            .replace("  disabled: false\n", "");
        assert_eq!(text, expected);
    }

    #[test]
    fn what_has_no_lines_is_written_anew() {
        let flow = "kind: ApiKey\nspec: {plan: team, hash: '0e1', limits: {}, notes: [1]}\n";
        let text = changed(flow, &value(flow), &[("disabled", Some(json!(true)))]);
        let expected = "kind: ApiKey\nspec:\n  plan: team\n  hash: \"0e1\"\n  limits: {}\n  \
                        notes: [1]\n  disabled: true\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let document = json!({
            "kind": "ApiKey", "metadata": {"name": "no"},
            "spec": {
                "hash": "12e5", "account": "a: b # c", "when": "2027-01-01T00:00:00Z", "n": 5,
                "limits": {"budgetPerMonth": "25.00"}, "text": "two\nlines", "empty": "", "y": "ü",
            },
        });
        assert_eq!(value(&written(&document)), document);
    }
}
