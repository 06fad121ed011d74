//! Calls beside text and beside JSON.

use serde_json::json;

use super::{END, accepts_tokens, check, status_tool, vocabulary};
use crate::grammar::{Calls, Grammars, Preamble, Schema, Shape};
use crate::prompt::ToolFormat;

fn calls(format: ToolFormat, parallel: bool) -> Calls {
    Calls {
        format,
        tools: vec![status_tool()],
        forbidden: vec!["cancel_order".to_owned()],
        parallel,
    }
}

fn in_text(format: ToolFormat, parallel: bool) -> Shape {
    Shape::CallsInText(calls(format, parallel))
}

fn or_json(format: ToolFormat) -> Shape {
    let schema = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "n": { "type": "integer" } },
        "required": ["name", "n"],
        "additionalProperties": false,
    });
    Shape::CallsOrJson(
        calls(format, true),
        Schema {
            text: schema.to_string().into(),
            path: "answer".to_owned(),
            strict: true,
        },
    )
}

const HERMES: &str =
    r#"<tool_call>{"name": "get_order_status", "arguments": {"order_id": "7"}}</tool_call>"#;
const LLAMA: &str = r#"{"name": "get_order_status", "parameters": {"order_id": "7"}}"#;
const MISTRAL: &str =
    r#"[TOOL_CALLS][{"name": "get_order_status", "arguments": {"order_id": "7"}}]"#;
const NAMED: &str = r#"[TOOL_CALLS]get_order_status[ARGS]{"order_id": "7"}"#;

#[test]
fn free_text_stays_free() {
    let texts = [
        "",
        "Hello.",
        "a < b, {\"name\": 1} [x]\n<tool",
        "größer 漢字 🙂",
    ];
    for format in [
        ToolFormat::Hermes,
        ToolFormat::Llama,
        ToolFormat::Mistral,
        ToolFormat::MistralNamed,
    ] {
        for parallel in [true, false] {
            check(&in_text(format, parallel), &texts, &[]);
        }
    }
}

#[test]
fn a_call_in_text_names_an_allowed_tool() {
    let cases = [
        (ToolFormat::Hermes, HERMES),
        (ToolFormat::Llama, LLAMA),
        (ToolFormat::Mistral, MISTRAL),
        (ToolFormat::MistralNamed, NAMED),
    ];
    for (format, call) in cases {
        let forbidden = call.replace("get_order_status", "cancel_order");
        for parallel in [true, false] {
            check(&in_text(format, parallel), &[call], &[&forbidden]);
        }
    }
    let between = format!("Wait.\n{HERMES}\n{HERMES}\nDone.");
    check(&in_text(ToolFormat::Hermes, true), &[&between], &[]);
    check(&in_text(ToolFormat::Hermes, false), &[], &[&between]);
    let text = format!(
        "Wait. {}",
        HERMES.replace("get_order_status", "cancel_order")
    );
    check(&in_text(ToolFormat::Hermes, true), &[], &[&text]);
    let more = format!(
        "{LLAMA}; {}",
        LLAMA.replace("get_order_status", "cancel_order")
    );
    check(&in_text(ToolFormat::Llama, true), &[], &[&more]);
}

#[test]
fn a_mark_that_is_a_token_opens_a_call_in_text() {
    let grammars = Grammars::new(&vocabulary(&["<tool_call>", "</tool_call>"])).unwrap();
    let shape = in_text(ToolFormat::Hermes, true);
    let tokens = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
    let call = |name: &str| {
        let head = format!(r#"{{"name": "{name}", "arguments": {{"order_id": "7"}}}}"#);
        [tokens("Wait."), vec![END + 1], tokens(&head), vec![END + 2]].concat()
    };
    let accepted = |answer: &[u32]| accepts_tokens(&grammars, &shape, Preamble::None, answer);
    assert!(accepted(&call("get_order_status")));
    assert!(!accepted(&call("cancel_order")));
    assert!(accepted(&tokens("Hello.")));
    // The reader of the answer does not tell the token from its text.
    assert!(!accepted(&tokens("<tool_call>")));
}

#[test]
fn an_answer_is_a_call_or_fits_the_schema() {
    let json = r#"{"name": "Bob", "n": 1}"#;
    let bad = ["", "Hello", "{}", r#"{"name": "Bob"}"#];
    for (format, call) in [
        (ToolFormat::Hermes, HERMES),
        (ToolFormat::Llama, LLAMA),
        (ToolFormat::Mistral, MISTRAL),
        (ToolFormat::MistralNamed, NAMED),
    ] {
        let forbidden = call.replace("get_order_status", "cancel_order");
        let both = format!("{call}{json}");
        let bad = [&bad[..], &[forbidden.as_str(), &both]].concat();
        check(&or_json(format), &[json, call], &bad);
    }
}
