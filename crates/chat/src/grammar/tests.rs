//! What the grammars let through, on a vocabulary of bytes with some tokens of their own.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use super::{Calls, Grammars, GuideError, Preamble, Schema, Shape, Tool};

mod beside;
mod keys;
mod refused;
use crate::prompt::{ReasoningFormat, ToolFormat};

const END: u32 = 256;

/// Every byte, an end token, and `special` tokens that are not text.
fn vocabulary(special: &[&str]) -> TokEnv {
    let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    words.push(b"\xff<end>".to_vec());
    words.extend(
        special
            .iter()
            .map(|text| [b"\xff", text.as_bytes()].concat()),
    );
    words.push(b"<tool_call>".to_vec());
    words.push(br#"", "a": "#.to_vec());
    let info = TokRxInfo::new(u32::try_from(words.len()).unwrap(), END);
    Arc::new(ApproximateTokEnv::new(TokTrie::from(&info, &words)))
}

fn grammars() -> Grammars {
    Grammars::new(&vocabulary(&[])).unwrap()
}

/// Whether the whole answer may be written, and then the end and nothing but the end.
fn accepts(grammars: &Grammars, shape: &Shape, preamble: Preamble, answer: &str) -> bool {
    let tokens: Vec<_> = answer.bytes().map(u32::from).collect();
    accepts_tokens(grammars, shape, preamble, &tokens)
}

fn accepts_tokens(grammars: &Grammars, shape: &Shape, preamble: Preamble, answer: &[u32]) -> bool {
    let mut matcher = grammars.compile(shape, preamble).unwrap();
    for token in answer {
        let allowed = matcher.allowed();
        if !allowed.is_ok_and(|allowed| allowed.is_allowed(*token)) {
            return false;
        }
        match matcher.consume(*token) {
            Err(GuideError::Repeats) => return false,
            consumed => consumed.unwrap(),
        }
    }
    matcher
        .allowed()
        .is_ok_and(|allowed| allowed.is_allowed(END))
}

#[track_caller]
fn check(shape: &Shape, good: &[&str], bad: &[&str]) {
    let grammars = grammars();
    for answer in good {
        assert!(
            accepts(&grammars, shape, Preamble::None, answer),
            "refused: {answer}"
        );
    }
    for answer in bad {
        assert!(
            !accepts(&grammars, shape, Preamble::None, answer),
            "let through: {answer}"
        );
    }
}

fn tool(name: &str, parameters: &Value) -> Tool {
    Tool {
        name: name.to_owned(),
        parameters: Schema {
            text: parameters.to_string().into(),
            path: format!("tools.{name}"),
            strict: false,
        },
    }
}

/// A strict schema of the answer.
fn answer(schema: &Value) -> Shape {
    Shape::Json(Schema {
        text: schema.to_string().into(),
        path: "answer".to_owned(),
        strict: true,
    })
}

fn any_object() -> Shape {
    Shape::Json(Schema::any_object())
}

fn required(format: ToolFormat, tools: Vec<Tool>, parallel: bool) -> Shape {
    Shape::Calls(Calls {
        format,
        tools,
        forbidden: Vec::new(),
        parallel,
    })
}

fn status_tool() -> Tool {
    tool(
        "get_order_status",
        &json!({ "type": "object", "properties": { "order_id": { "type": "string" } },
                "required": ["order_id"], "additionalProperties": false }),
    )
}

fn calls(format: ToolFormat, parallel: bool) -> Shape {
    required(
        format,
        vec![status_tool(), tool("now", &json!({}))],
        parallel,
    )
}

#[test]
fn any_json_object() {
    check(
        &any_object(),
        &["{}", r#"{"a": [1, true, null, {"b": "c\n"}]}"#],
        &[
            "[]",
            "",
            "{ }",
            r#"{"a":1}"#,
            "{\"a\": 1}\n",
            r#"{"a": 1"#,
            "Sure: {}",
        ],
    );
}

#[test]
fn a_json_schema() {
    let schema = json!({
        "type": "object",
        "properties": { "n": { "type": "integer" }, "c": { "$ref": "#/$defs/color" } },
        "required": ["n", "c"],
        "additionalProperties": false,
        "$defs": { "color": { "enum": ["red", "blue"] } },
    });
    check(
        &answer(&schema),
        &[r#"{"n": 12, "c": "red"}"#],
        &[
            "{}",
            r#"{"n": "12", "c": "red"}"#,
            r#"{"n": 1, "c": "green"}"#,
            r#"{"n": 1}"#,
        ],
    );
    check(
        &answer(&json!({ "type": "boolean" })),
        &["true"],
        &["1", "true "],
    );
}

#[test]
fn hermes_calls() {
    let one =
        r#"<tool_call>{"name": "get_order_status", "arguments": {"order_id": "7"}}</tool_call>"#;
    let lines = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let two = format!("{one}\n{lines}");
    let bad = [
        "",
        "Hello",
        r#"<tool_call>{"name": "other", "arguments": {}}</tool_call>"#,
        r#"<tool_call>{"name": "get_order_status", "arguments": {}}</tool_call>"#,
        r#"<tool_call>{"name": "now", "arguments": {}}"#,
        r#"<tool_call>{"name": "now", "arguments": []}</tool_call>"#,
    ];
    check(&calls(ToolFormat::Hermes, true), &[one, lines, &two], &bad);
    check(&calls(ToolFormat::Hermes, false), &[one, lines], &[&two]);
}

#[test]
fn a_run_of_calls_comes_to_an_end() {
    let one = r#"<tool_call>{"name": "now", "arguments": {}}</tool_call>"#;
    let (eight, nine) = (one.repeat(8), one.repeat(9));
    check(&calls(ToolFormat::Hermes, true), &[&eight], &[&nine]);
}

#[test]
fn llama_calls() {
    let one = r#"{"name": "get_order_status", "parameters": {"order_id": "7"}}"#;
    let two = format!(r#"{one}; {{"name": "now", "parameters": {{}}}}"#);
    let bad = [r#"{"name": "now", "arguments": {}}"#];
    check(&calls(ToolFormat::Llama, true), &[one, &two], &bad);
    check(&calls(ToolFormat::Llama, false), &[one], &[&two]);
}

#[test]
fn mistral_calls() {
    let one = r#"[TOOL_CALLS][{"name": "now", "arguments": {}}]"#;
    let two =
        r#"[TOOL_CALLS] [{"name": "now", "arguments": {}}, {"name": "now", "arguments": {}}]"#;
    check(
        &calls(ToolFormat::Mistral, true),
        &[one, two],
        &["[TOOL_CALLS][]"],
    );
    check(&calls(ToolFormat::Mistral, false), &[one], &[two]);
    let one = r#"[TOOL_CALLS]get_order_status[ARGS]{"order_id": "7"}"#;
    let two = format!("{one}[TOOL_CALLS]now[ARGS]{{}}");
    check(
        &calls(ToolFormat::MistralNamed, true),
        &[one, &two],
        &["[TOOL_CALLS]now[ARGS]"],
    );
    check(&calls(ToolFormat::MistralNamed, false), &[one], &[&two]);
}

#[test]
fn marks_can_be_tokens_that_are_not_text() {
    let grammars = Grammars::new(&vocabulary(&["[TOOL_CALLS]", "</think>"])).unwrap();
    let shape = calls(ToolFormat::Mistral, false);
    let text = r#"[{"name": "now", "arguments": {}}]"#.bytes().map(u32::from);
    let with_mark: Vec<_> = [END + 1].into_iter().chain(text.clone()).collect();
    assert!(accepts_tokens(
        &grammars,
        &shape,
        Preamble::None,
        &with_mark
    ));
    let as_text: Vec<_> = b"[TOOL_CALLS]"
        .iter()
        .copied()
        .map(u32::from)
        .chain(text)
        .collect();
    assert!(!accepts_tokens(&grammars, &shape, Preamble::None, &as_text));
    let thought: Vec<_> = b"why"
        .iter()
        .copied()
        .map(u32::from)
        .chain([END + 2])
        .collect();
    let answer: Vec<_> = thought
        .into_iter()
        .chain(b"\n\n{}".iter().copied().map(u32::from))
        .collect();
    let open = Preamble::Open(ReasoningFormat::Think);
    assert!(accepts_tokens(&grammars, &any_object(), open, &answer));
}

#[test]
fn a_text_mark_may_be_one_token() {
    let grammars = grammars();
    let shape = calls(ToolFormat::Hermes, false);
    let text = r#"{"name": "now", "arguments": {}}</tool_call>"#
        .bytes()
        .map(u32::from);
    let tokens: Vec<_> = [END + 1].into_iter().chain(text).collect();
    assert!(accepts_tokens(&grammars, &shape, Preamble::None, &tokens));
}

#[test]
fn reasoning_may_come_first() {
    let grammars = grammars();
    let check = |preamble, answer, expect| {
        assert_eq!(
            accepts(&grammars, &any_object(), preamble, answer),
            expect,
            "{answer}"
        );
    };
    let possible = Preamble::Possible(ReasoningFormat::Think);
    check(possible, "{}", true);
    check(possible, "<think>\nwhy? {</think>\n\n{}", true);
    check(possible, "<think>why", false);
    check(possible, "why</think>{}", false);
    let open = Preamble::Open(ReasoningFormat::Think);
    check(open, "why</think>{}", true);
    check(open, "</think>\n{}", true);
    check(open, "{}", false);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_value_of_a_schema_can_be_written(name in "[a-z\"\\\\{}ß]{1,10}", value in "\\PC{0,10}", n in any::<i32>()) {
        let parameters = json!({
            "type": "object",
            "properties": { "value": { "type": "string" }, "n": { "type": "integer" } },
            "required": ["value", "n"],
        });
        let shape = required(ToolFormat::Hermes, vec![tool(&name, &parameters)], false);
        let (name, value) = (json!(name), json!(value));
        let answer = format!(
            "<tool_call>{{\"name\": {name}, \"arguments\": {{\"value\": {value}, \"n\": {n}}}}}</tool_call>"
        );
        prop_assert!(accepts(&grammars(), &shape, Preamble::None, &answer), "{}", answer);
    }

    #[test]
    fn no_schema_breaks_the_compiler(schema in any_json()) {
        let _ = grammars().compile(&answer(&schema), Preamble::None);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("type"),
        Just("properties"),
        Just("items"),
        Just("anyOf"),
        Just("enum"),
        Just("$ref"),
        Just("required"),
        Just("minimum"),
        Just("pattern"),
        Just("additionalProperties"),
    ];
    let leaf = prop_oneof![
        Just(json!("object")),
        Just(json!("array")),
        Just(json!("string")),
        Just(json!("#")),
        Just(json!("#/properties")),
        Just(json!("[a")),
        Just(json!(true)),
        Just(json!(null)),
        any::<i8>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..4).prop_map(|fields| {
                fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            }),
        ]
    })
}
