//! No key comes twice in an object, and no answer runs into a name that is used up.

use serde_json::json;

use super::{answer, any_object, check, grammars, required, tool, vocabulary};
use crate::grammar::{Grammars, GuideError, Preamble};
use crate::prompt::ToolFormat;

#[test]
fn no_key_comes_twice() {
    check(
        &any_object(),
        &[r#"{"a": 1, "b": {"a": "a", "b": ["a"]}, "aa": 1}"#],
        &[
            r#"{"a": 1, "a": 1}"#,
            r#"{"b": {"a": 1, "c": 2, "a": 1}}"#,
            r#"{"a": [{"b": 1, "b": 2}]}"#,
        ],
    );
    let named = json!({ "type": "object", "properties": { "a": {} }, "required": ["a"] });
    check(
        &answer(&named),
        &[r#"{"a": 1, "b": 2}"#],
        // The same name, written otherwise.
        &[r#"{"a": 1, "\u0061": 2}"#, r#"{"a": 1, "b": 2, "b": 3}"#],
    );
}

#[test]
fn no_argument_comes_twice_however_calls_are_written() {
    let shape = |format| required(format, vec![tool("f", &json!({}))], true);
    for (format, before, after) in [
        (
            ToolFormat::Hermes,
            r#"<tool_call>{"name": "f", "arguments": "#,
            "}</tool_call>",
        ),
        (ToolFormat::Llama, r#"{"name": "f", "parameters": "#, "}"),
        (
            ToolFormat::Mistral,
            r#"[TOOL_CALLS][{"name": "f", "arguments": "#,
            "}]",
        ),
        (ToolFormat::MistralNamed, "[TOOL_CALLS]f[ARGS]", ""),
    ] {
        let call = |arguments: &str| format!("{before}{arguments}{after}");
        let good = call(r#"{"a": 1, "name": {"a": 1}}"#);
        check(&shape(format), &[&good], &[&call(r#"{"a": 1, "a": 1}"#)]);
    }
    let two = r#"{"name": "f", "parameters": {"a": 1}}; {"name": "f", "parameters": {"a": 1}}"#;
    let bad =
        r#"{"name": "f", "parameters": {"a": 1}}; {"name": "f", "parameters": {"a": 1, "a": 1}}"#;
    check(&shape(ToolFormat::Llama), &[two], &[bad]);
}

#[test]
fn a_token_with_a_whole_key_in_it_is_seen() {
    // The last token of this vocabulary closes a value, opens a key and closes it.
    let grammars = Grammars::new(&vocabulary(&[])).unwrap();
    let mut guide = grammars.compile(&any_object(), Preamble::None).unwrap();
    for byte in r#"{"a": "#.bytes() {
        guide.consume(u32::from(byte)).unwrap();
    }
    let whole = super::END + 2;
    for byte in [b'"', b'x'] {
        guide.consume(u32::from(byte)).unwrap();
    }
    assert!(!guide.allowed().unwrap().is_allowed(whole));
    assert!(guide.allowed().unwrap().is_allowed(u32::from(b'"')));
}

#[test]
fn a_name_whose_end_is_forced_is_another_one() {
    let schema = |digits: &str, least: usize| {
        answer(&json!({
            "type": "object",
            "patternProperties": { format!("^x[{digits}]$"): { "type": "integer" } },
            "additionalProperties": false, "minProperties": least, "maxProperties": least,
        }))
    };
    check(
        &schema("0-9", 2),
        &[r#"{"x1": 1, "x2": 1}"#],
        &[r#"{"x1": 1, "x1": 1}"#, r#"{"x1": 1}"#],
    );
    // The digit is refused, not only the quote behind it: no answer gets stuck between them.
    let grammars = grammars();
    let mut guide = grammars.compile(&schema("0-9", 2), Preamble::None).unwrap();
    for byte in r#"{"x1": 1, "x"#.bytes() {
        guide.consume(u32::from(byte)).unwrap();
    }
    assert_eq!(guide.consume(u32::from(b'1')), Err(GuideError::Repeats));
    assert!(guide.allowed().unwrap().is_allowed(u32::from(b'2')));
    for byte in r#"2": 7}"#.bytes() {
        guide.consume(u32::from(byte)).unwrap();
    }
    assert!(guide.is_complete());
}

#[test]
fn an_object_ends_behind_its_last_name() {
    let languages = |least: usize| {
        answer(&json!({
            "type": "object", "patternProperties": { "^(de|en)$": { "type": "integer" } },
            "additionalProperties": false, "minProperties": least,
        }))
    };
    check(
        &languages(2),
        &[r#"{"de": 1, "en": 2}"#, r#"{"en": 1, "de": 2}"#],
        &["{}", r#"{"de": 1}"#, r#"{"de": 1, "de": 2}"#],
    );
    let beside = answer(&json!({
        "type": "object", "properties": { "id": { "type": "integer" } },
        "patternProperties": { "^(de|en)$": { "type": "integer" } }, "additionalProperties": false,
    }));
    check(
        &beside,
        &["{}", r#"{"id": 1, "en": 2}"#, r#"{"de": 1, "en": 2}"#],
        &[r#"{"fr": 1}"#, r#"{"id": 1, "en": 2, "en": 2}"#],
    );
    let grammars = grammars();
    for (shape, begun) in [
        (languages(0), r#"{"en": 1, "de": 2"#),
        (languages(2), r#"{"en": 1, "de": 2"#),
        (beside, r#"{"id": 1, "de": 1, "en": 2"#),
    ] {
        let mut guide = grammars.compile(&shape, Preamble::None).unwrap();
        for byte in begun.bytes() {
            guide.consume(u32::from(byte)).unwrap();
        }
        let allowed = guide.allowed().unwrap();
        assert!(allowed.is_allowed(u32::from(b'}')), "{begun}");
        assert!(!allowed.is_allowed(u32::from(b',')), "{begun}");
    }
}
