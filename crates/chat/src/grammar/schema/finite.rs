//! Objects whose names run out: the compiler counts members, but does not know that each name comes once.
//!
//! Without a bound it would let a comma be written behind the last name, and no name could follow.

use std::collections::BTreeSet;

use llguidance::regex_to_lark;
use regex_syntax::hir::{Look, literal::Extractor};
use serde_json::{Map, Value};

/// The most names that a pattern is written out as.
const MOST_NAMES: usize = 1_000;

/// All names that the patterns of an object allow.
struct Names {
    // Each with the index of the schema of its value.
    names: Vec<(String, usize)>,
    schemas: Vec<Value>,
}

/// Bounds the members of an object whose patterns allow a finite number of names and that allows no others.
pub(super) fn bound_members(object: &mut Map<String, Value>) {
    let Some(Names { names, schemas }) = finite_names(object) else {
        return;
    };
    let known = names_of(object.get("properties"));
    let required = names_of(object.get("required"));
    let free: Vec<_> = names
        .into_iter()
        .filter(|(name, _)| !known.contains(name) && !required.contains(name))
        .collect();
    if known.is_subset(&required) {
        let most = (required.len() + free.len()) as u64;
        let bound = object.get("maxProperties").and_then(Value::as_u64);
        let most = bound.map_or(most, |bound| bound.min(most));
        object.insert("maxProperties".to_owned(), most.into());
        return;
    }
    // The compiler counts only where all named members are required. Optional members need no counting.
    let counts = |bound: &&str| object.get(*bound).is_some_and(|bound| *bound != 0);
    if ["minProperties", "maxProperties"].iter().any(counts) {
        return;
    }
    let Some(Value::Object(properties)) = object.get_mut("properties") else {
        return;
    };
    for (name, at) in free {
        properties.insert(name, schemas[at].clone());
    }
    object.shift_remove("patternProperties");
}

/// The names that the patterns of an object allow. None: other names are allowed as well.
fn finite_names(object: &Map<String, Value>) -> Option<Names> {
    if object.get("additionalProperties") != Some(&Value::Bool(false)) {
        return None;
    }
    let patterns = object.get("patternProperties")?.as_object()?;
    let mut names = Vec::new();
    for (at, (pattern, schema)) in patterns.iter().enumerate() {
        if *schema != Value::Bool(false) {
            names.extend(matching(pattern)?.into_iter().map(|name| (name, at)));
        }
        if names.len() > MOST_NAMES {
            return None;
        }
    }
    let schemas = patterns.values().cloned().collect();
    Some(Names { names, schemas })
}

/// All names that a pattern matches. None: there is no end of them, or too many.
fn matching(pattern: &str) -> Option<Vec<String>> {
    let pattern = regex_to_lark(pattern, "dw");
    let syntax = regex_syntax::parse(&pattern).ok()?;
    let properties = syntax.properties();
    let is_anchored = properties.look_set_prefix().contains(Look::Start)
        && properties.look_set_suffix().contains(Look::End);
    if !is_anchored {
        return None;
    }
    let mut extractor = Extractor::new();
    extractor
        .limit_class(MOST_NAMES)
        .limit_repeat(100)
        .limit_total(MOST_NAMES);
    let found = extractor.extract(&syntax);
    if !found.is_exact() {
        return None;
    }
    let names = found.literals()?.iter();
    let names = names.map(|name| std::str::from_utf8(name.as_bytes()).map(str::to_owned));
    names.collect::<Result<_, _>>().ok()
}

/// The keys of an object, or the strings of an array.
fn names_of(value: Option<&Value>) -> BTreeSet<String> {
    match value {
        Some(Value::Object(fields)) => fields.keys().cloned().collect(),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bounded(object: Value) -> Value {
        let Value::Object(mut object) = object else {
            panic!("it should be an object");
        };
        bound_members(&mut object);
        object.into()
    }

    #[test]
    fn names_that_a_pattern_matches() {
        let names = |pattern| matching(pattern).map(|names| names.join(" "));
        assert_eq!(names("^(de|en)$").as_deref(), Some("de en"));
        assert_eq!(names("^de$|^en$").as_deref(), Some("de en"));
        assert_eq!(names("^x[0-2]$").as_deref(), Some("x0 x1 x2"));
        assert_eq!(names(r"^\d$").as_deref(), Some("0 1 2 3 4 5 6 7 8 9"));
        assert_eq!(names("^a?$").as_deref(), Some("a "));
        for endless in ["de", "^de", "de$", "^a*$", "^[a-z]{4}$", "^.$", "(?!a)"] {
            assert_eq!(names(endless), None, "{endless}");
        }
    }

    #[test]
    fn members_are_counted_where_names_run_out() {
        let patterns = json!({ "^x[0-9]$": {} });
        let most = |object: Value| bounded(object)["maxProperties"].clone();
        let object = json!({ "patternProperties": patterns, "additionalProperties": false });
        assert_eq!(most(object.clone()), 10);
        let mut with = object.clone();
        with["required"] = json!(["x1", "y"]);
        with["properties"] = json!({ "y": {} });
        assert_eq!(most(with.clone()), 11);
        with["maxProperties"] = json!(3);
        assert_eq!(most(with), 3);
        let mut open = object;
        open["additionalProperties"] = json!({});
        assert_eq!(bounded(open.clone()), open);
    }

    #[test]
    fn names_beside_optional_members_are_optional_members() {
        let object = json!({
            "properties": { "y": {} }, "patternProperties": { "^(de|en)$": { "type": "string" } },
            "additionalProperties": false,
        });
        let text = json!({ "type": "string" });
        assert_eq!(
            bounded(object),
            json!({ "properties": { "y": {}, "de": text, "en": text }, "additionalProperties": false })
        );
    }
}
