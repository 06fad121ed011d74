//! What is refused, where and in which words; and what is left out of schemas that are not strict.

use serde_json::{Map, Value, json};

use super::{answer, grammars, required, status_tool, tool};
use crate::grammar::{Preamble, Schema, Shape, Tool};
use crate::prompt::{ReasoningFormat, ToolFormat};

/// The field at fault and the words.
fn refusal(shape: &Shape) -> Option<(String, String)> {
    let error = grammars().compile(shape, Preamble::None).err()?;
    Some((error.param().unwrap().into_owned(), error.to_string()))
}

#[track_caller]
fn refused(shape: &Shape, path: &str, reason: &str) {
    let expect = format!("'{path}' cannot be enforced: {reason}.");
    assert_eq!(refusal(shape), Some((path.to_owned(), expect)), "{shape:?}");
}

fn loose(schema: &Value) -> Shape {
    Shape::Json(Schema {
        text: schema.to_string().into(),
        path: "answer".to_owned(),
        strict: false,
    })
}

#[test]
fn a_schema_that_cannot_be_says_why_and_where_strict_or_not() {
    let long = json!({ "const": "x".repeat(300_000) });
    let kind = "it must be the name of a JSON type, or an array of such names";
    let members: Map<String, Value> = (0..1_001).map(|at| (format!("k{at}"), json!({}))).collect();
    let cases = [
        (json!([1]), "answer", "it is not a JSON object"),
        (json!({ "type": "what" }), "answer.type", kind),
        (json!({ "type": ["null", 1] }), "answer.type", kind),
        (
            json!({ "$ref": "#/$defs/none" }),
            "answer.$ref",
            "nothing stands where it points to",
        ),
        (
            json!({ "$ref": "https://example.com/a" }),
            "answer.$ref",
            "it must point into the schema itself, as '#/…' does",
        ),
        (
            json!({ "type": "object", "properties": null }),
            "answer.properties",
            "it must be an object",
        ),
        (
            json!({ "type": "object", "properties": [] }),
            "answer.properties",
            "it must be an object",
        ),
        (
            json!({ "properties": { "a": { "required": "b" } } }),
            "answer.properties.a.required",
            "it must be an array of strings",
        ),
        (
            json!({ "items": { "anyOf": [{}, { "minLength": -1 }] } }),
            "answer.items.anyOf[1].minLength",
            "it must be a whole number, 0 or more",
        ),
        (
            json!({ "type": "string", "pattern": 1 }),
            "answer.pattern",
            "it must be a string",
        ),
        (
            json!({ "type": "integer", "multipleOf": 0 }),
            "answer.multipleOf",
            "it must be a number above 0",
        ),
        (
            json!({ "properties": members }),
            "answer.properties",
            "it has 1001 schemas; at most 1000 can be enforced",
        ),
        (long, "answer", "it has more than 262144 bytes"),
    ];
    for (schema, path, reason) in cases {
        refused(&answer(&schema), path, reason);
        refused(&loose(&schema), path, reason);
    }
}

/// What no grammar keeps, at which keyword, and why not.
fn unenforceable() -> Vec<(Value, &'static str, &'static str)> {
    let never = "this keyword cannot be enforced";
    let look =
        "regex parse error: look-around, including look-ahead and look-behind, is not supported";
    let text = |keyword: &str, value: Value| json!({ "type": "string", keyword: value });
    let object = |keyword: &str, value: Value| json!({ "type": "object", keyword: value });
    let strings = json!({ "type": "string" });
    vec![
        (text("not", json!({ "const": "a" })), "not", never),
        (text("if", json!({})), "if", never),
        (
            text("format", json!("what")),
            "format",
            "this format is not known",
        ),
        (text("pattern", json!("(?=a)")), "pattern", look),
        (
            text("pattern", json!("a\n(")),
            "pattern",
            "regex parse error: unclosed group",
        ),
        (
            json!({ "type": "array", "items": strings, "uniqueItems": true }),
            "uniqueItems",
            never,
        ),
        (
            json!({ "type": "array", "contains": strings }),
            "contains",
            never,
        ),
        (object("propertyNames", strings), "propertyNames", never),
        (
            object("dependentRequired", json!({})),
            "dependentRequired",
            never,
        ),
        (
            object("unevaluatedProperties", json!(false)),
            "unevaluatedProperties",
            never,
        ),
        (
            object("patternProperties", json!({ "(?!x)": {} })),
            "patternProperties.(?!x)",
            look,
        ),
        (
            json!({ "type": "object", "properties": { "a": {}, "b": {} }, "minProperties": 1 }),
            "minProperties",
            "members can be counted only where all of 'properties' are 'required'",
        ),
        (
            json!({ "oneOf": [{ "type": "string" }, { "type": "string", "minLength": 2 }] }),
            "oneOf",
            "two of its schemas might accept the same value; use 'anyOf'",
        ),
    ]
}

#[test]
fn limits_that_nothing_meets_are_refused_in_plain_words() {
    let cases = [
        (
            json!({ "enum": [] }),
            "answer.enum",
            "it must have at least one value",
        ),
        (
            json!({ "type": "string", "minLength": 4_294_967_296_u64 }),
            "answer.minLength",
            "it must be at most 1000000000",
        ),
        (
            json!({ "type": "string", "pattern": "^a$", "minLength": 5 }),
            "answer",
            "it allows no value: no text meets all of its limits",
        ),
        (
            json!({ "anyOf": [{ "type": "integer", "minimum": 2, "maximum": 1 }, { "type": "string", "minLength": 2, "maxLength": 1 }] }),
            "answer",
            "it allows no value: none of its alternatives can be met",
        ),
    ];
    for (schema, path, reason) in cases {
        refused(&answer(&schema), path, reason);
        refused(&loose(&schema), path, reason);
    }
}

/// Limits of other kinds that no grammar keeps.
fn unenforceable_too() -> [(Value, &'static str, &'static str); 3] {
    let never = "this keyword cannot be enforced";
    let text = |keyword: &str, value: Value| json!({ "type": "string", keyword: value });
    let names: Map<String, Value> = (0..101)
        .map(|at| (format!("^k{at:03}"), json!({})))
        .collect();
    [
        (
            text("contentEncoding", json!("base64")),
            "contentEncoding",
            never,
        ),
        (text("nullable", json!(true)), "nullable", never),
        (
            json!({ "type": "object", "patternProperties": names }),
            "patternProperties",
            "at most 100 patterns of names can be enforced",
        ),
    ]
}

#[test]
fn what_cannot_be_enforced_is_refused_by_path_where_strict_and_left_out_otherwise() {
    let divisor = (
        json!({ "type": "integer", "multipleOf": 9_999_991 }),
        "multipleOf",
        "it has too many digits, or too many with the other ones of the schema",
    );
    let cases = unenforceable()
        .into_iter()
        .chain(unenforceable_too())
        .chain([divisor]);
    for (schema, keyword, reason) in cases {
        assert_eq!(refusal(&loose(&schema)), None, "{schema}");
        refused(&answer(&schema), &format!("answer.{keyword}"), reason);
        let inside = json!({ "type": "object", "properties": { "x": schema }, "required": ["x"] });
        assert_eq!(refusal(&loose(&inside)), None, "{inside}");
        refused(
            &answer(&inside),
            &format!("answer.properties.x.{keyword}"),
            reason,
        );
    }
    for off in [
        json!({ "type": "array", "uniqueItems": false }),
        json!({ "type": "string", "nullable": false }),
        // No answer is that long.
        json!({ "type": "string", "maxLength": 4_294_967_296_u64 }),
        json!({ "type": "array", "maxItems": u64::MAX }),
    ] {
        assert_eq!(refusal(&answer(&off)), None, "{off}");
    }
}

#[test]
fn the_rest_of_a_schema_is_enforced_without_what_is_left_out() {
    let schema = json!({
        "type": "array", "uniqueItems": true, "maxItems": 2.0,
        "items": { "type": "string", "pattern": "^(?!x)", "maxLength": 1 },
    });
    super::check(
        &loose(&schema),
        &["[]", r#"["a", "x"]"#],
        &["[1]", r#"["aa"]"#, "{}"],
    );
    let schema = json!({
        "type": "object", "additionalProperties": false,
        "patternProperties": { "^(?=x)": { "type": "integer" } },
    });
    super::check(&loose(&schema), &["{}", r#"{"x1": 1}"#], &["[]"]);
}

#[test]
fn numbers_that_would_be_rounded_are_refused_by_path() {
    let reason = "a number with this many digits cannot be enforced exactly";
    let cases = [
        (r#"{"const": 9007199254740993}"#, "answer.const"),
        (
            r#"{"const": {"a": [1, -9007199254740993]}}"#,
            "answer.const.a[1]",
        ),
        (r#"{"enum": [1, 1234567890123456789]}"#, "answer.enum[1]"),
        (r#"{"const": 18446744073709551616}"#, "answer.const"),
        (
            r#"{"properties": {"a": {"type": "integer", "minimum": 9007199254740993}}}"#,
            "answer.properties.a.minimum",
        ),
        (
            r#"{"type": "number", "exclusiveMaximum": 0.12345678901234567890}"#,
            "answer.exclusiveMaximum",
        ),
        (
            r#"{"type": "number", "multipleOf": 0.10000000000000000555}"#,
            "answer.multipleOf",
        ),
    ];
    for strict in [true, false] {
        let shape = |text: &str| {
            Shape::Json(Schema {
                text: text.to_owned().into(),
                path: "answer".to_owned(),
                strict,
            })
        };
        for (text, path) in cases {
            refused(&shape(text), path, reason);
        }
        let harmless = r#"{"type": "integer", "default": 9007199254740993, "examples": [1e400]}"#;
        let harmless = harmless.replace("1e400", "18446744073709551616");
        assert_eq!(refusal(&shape(&harmless)), None);
    }
    super::check(
        &answer(&json!({ "const": 9_007_199_254_740_992_i64 })),
        &["9007199254740992"],
        &["9007199254740991", "9007199254740993"],
    );
}

#[test]
fn too_many_alternatives_are_refused_before_anything_is_compiled() {
    let alternatives: Vec<Value> = (0..1_001)
        .map(|at| json!({ "type": "object", "required": [format!("f{at}")] }))
        .collect();
    let schema = json!({ "type": "object", "properties": { "a": { "anyOf": alternatives } } });
    let reason = "it has 1001 schemas; at most 1000 can be enforced";
    refused(&answer(&schema), "answer.properties.a.anyOf", reason);
}

#[test]
fn a_tool_is_told_by_its_place() {
    let tools = |parameters| {
        let tools = json!([
            { "type": "function", "function": { "name": "ok" } },
            { "type": "function", "function": { "name": "f", "strict": true, "parameters": parameters } },
        ]);
        let tools = Tool::parse(tools.to_string().as_bytes()).unwrap();
        required(ToolFormat::Hermes, tools, true)
    };
    let at = "tools[1].function.parameters";
    refused(
        &tools(json!({ "type": "object", "properties": { "x": { "pattern": "(?=a)" } } })),
        &format!("{at}.properties.x.pattern"),
        "regex parse error: look-around, including look-ahead and look-behind, is not supported",
    );
    refused(
        &tools(json!({ "type": "string" })),
        &format!("{at}.type"),
        "the type of arguments must be 'object'",
    );
}

#[test]
fn a_schema_that_allows_no_value_is_refused() {
    let endless = json!({ "$ref": "#/$defs/a" });
    let with_defs = |mut schema: Value| {
        schema["$defs"] = json!({ "a": { "$ref": "#/$defs/a" } });
        schema
    };
    let itself = json!({ "type": "object", "properties": { "a": { "$ref": "#" } } });
    let mut needs_itself = itself.clone();
    needs_itself["required"] = json!(["a"]);
    let may_have = json!({ "type": "object", "properties": { "a": endless.clone() } });
    let (no_value, no_part) = ("it allows no value", "a part of it allows no value");
    let cases = [
        (json!({ "$ref": "#" }), Some(no_value)),
        (with_defs(endless), Some(no_value)),
        (needs_itself, Some(no_value)),
        (with_defs(may_have), Some(no_part)),
        (itself, None),
        (
            json!({ "type": "object", "properties": { "a": false } }),
            None,
        ),
    ];
    let (grammars, open) = (grammars(), Preamble::Open(ReasoningFormat::Think));
    for (schema, expect) in cases {
        let tools = vec![status_tool(), tool("f", &schema)];
        let calls = required(ToolFormat::Hermes, tools, true);
        for (shape, path) in [(answer(&schema), "answer"), (calls, "tools.f")] {
            for preamble in [Preamble::None, open] {
                let error = grammars.compile(&shape, preamble).err();
                let said = error.map(|error| error.to_string());
                let expect = expect.map(|reason| format!("'{path}' cannot be enforced: {reason}."));
                assert_eq!(said, expect, "{shape:?}");
            }
        }
    }
}

#[test]
fn the_allowed_tools_are_found_by_name() {
    let tools = br#"[{"type": "function", "function": {"name": "f"}},
                     {"type": "function", "function": {"name": "g", "parameters": {}, "strict": true}}]"#;
    let tools = Tool::parse(tools).unwrap();
    let found = |allowed: &[&str]| {
        let names: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        let tools = Tool::allowed(&tools, &names);
        tools.map(|tools| tools.into_iter().map(|tool| tool.name).collect::<Vec<_>>())
    };
    assert_eq!(found(&[]).unwrap(), ["f", "g"]);
    assert_eq!(found(&["g"]).unwrap(), ["g"]);
    assert_eq!(
        found(&["h"]).unwrap_err().param().as_deref(),
        Some("tool_choice")
    );
    for wrong in [b"[1]".as_slice(), b"[]"] {
        assert_eq!(
            Tool::parse(wrong).unwrap_err().param().as_deref(),
            Some("tools")
        );
    }
}
