//! Answers that must have a shape: tool calls and JSON.

use inferyard_proto::worker::v1 as wire;
use serde_json::{Value, json};
use wire::FinishReason;
use wire::failed::Kind;
use wire::response_format::Format;
use wire::tool_choice::Mode;

use crate::harness::{Server, chat, chat_of, with_tools};

fn tool(name: &str, argument: &str) -> Value {
    json!({"type": "function", "function": {
        "name": name,
        "description": "Looks up an order.",
        "parameters": {
            "type": "object",
            "properties": {argument: {"type": "string"}},
            "required": [argument],
            "additionalProperties": false,
        },
    }})
}

fn choice(mode: Mode, names: &[&str]) -> wire::ToolChoice {
    wire::ToolChoice {
        mode: mode.into(),
        names: names.iter().map(ToString::to_string).collect(),
    }
}

fn json_shape(message: &str, format: Format) -> wire::GenerateRequest {
    wire::GenerateRequest {
        response_format: Some(wire::ResponseFormat {
            format: Some(format),
        }),
        max_tokens: Some(400),
        ..chat(message)
    }
}

fn schema(schema: &Value) -> Format {
    let schema_json = schema.to_string().into_bytes().into();
    Format::JsonSchema(wire::JsonSchema {
        name: "shape".to_owned(),
        schema_json,
        strict: false,
    })
}

#[tokio::test]
async fn the_model_calls_a_tool_by_itself() {
    let server = Server::start().await;
    let tools = json!([tool("get_order_status", "order_id")]);
    let request = with_tools(
        "What is the status of order 4711?",
        &tools,
        choice(Mode::Auto, &[]),
    );
    let answer = server.ask(request).await.only();
    assert_eq!(answer.reason, Some(FinishReason::ToolCalls));
    assert_eq!(answer.content, "");
    assert_eq!(answer.calls.len(), 1);
    assert_eq!(answer.calls[0].name, "get_order_status");
    let arguments: Value = serde_json::from_str(&answer.calls[0].arguments).unwrap();
    assert_eq!(arguments, json!({"order_id": "4711"}));
}

#[tokio::test]
async fn without_tools_or_with_none_there_is_no_call() {
    let server = Server::start().await;
    let tools = json!([tool("get_order_status", "order_id")]);
    let request = with_tools(
        "What is the status of order 4711?",
        &tools,
        choice(Mode::None, &[]),
    );
    let answer = server.ask(request).await.only();
    // The model has not seen them: the answer is the one without tools.
    let plain = server.ask(chat("What is the status of order 4711?")).await;
    let plain = plain.only();
    assert_eq!(answer.calls.len(), 0);
    assert_eq!(
        (answer.content, answer.reason),
        (plain.content, plain.reason)
    );
}

#[tokio::test]
async fn the_result_of_a_tool_is_answered() {
    let server = Server::start().await;
    let mut request = chat_of(&json!([
        {"role": "user", "content": "What is the status of order 4711?"},
        {"role": "assistant", "content": null, "tool_calls": [{
            "id": "call_1", "type": "function",
            "function": {"name": "get_order_status", "arguments": "{\"order_id\": \"4711\"}"},
        }]},
        {"role": "tool", "tool_call_id": "call_1", "content": "shipped"},
    ]));
    if let Some(wire::generate_request::Prompt::Chat(chat)) = &mut request.prompt {
        let tools = json!([tool("get_order_status", "order_id")]);
        chat.tools_json = tools.to_string().into_bytes().into();
    }
    assert_eq!(server.text(request).await, "shipped");
}

#[tokio::test]
async fn a_required_call_comes_whatever_was_said() {
    let server = Server::start().await;
    let tools = json!([
        tool("get_order_status", "order_id"),
        tool("cancel_order", "number")
    ]);
    for (mode, names) in [
        (Mode::Required, vec![]),
        (Mode::Required, vec!["cancel_order"]),
    ] {
        let request = wire::GenerateRequest {
            max_tokens: Some(400),
            ..with_tools("Hello there", &tools, choice(mode, &names))
        };
        let answer = server.ask(request).await.only();
        let call = answer.calls.first().expect("a call is required");
        assert!(
            names.is_empty() || names.contains(&call.name.as_str()),
            "{call:?}"
        );
        if answer.reason == Some(FinishReason::ToolCalls) {
            let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
            assert!(
                arguments
                    .as_object()
                    .is_some_and(|fields| fields.len() == 1),
                "{arguments}"
            );
        }
    }
}

#[tokio::test]
async fn parallel_calls_can_be_forbidden() {
    let server = Server::start().await;
    let tools = json!([tool("get_order_status", "order_id")]);
    let mut request = with_tools("Order 12?", &tools, choice(Mode::Required, &[]));
    if let Some(wire::generate_request::Prompt::Chat(chat)) = &mut request.prompt {
        chat.parallel_tool_calls = Some(false);
    }
    assert_eq!(server.ask(request).await.only().calls.len(), 1);
}

#[tokio::test]
async fn an_answer_fits_its_schema() {
    let server = Server::start().await;
    let colours = json!({
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "green"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["colour", "count"],
        "additionalProperties": false,
    });
    let answer = server
        .ask(json_shape("Reply with: red", schema(&colours)))
        .await
        .only();
    assert_eq!(
        answer.reason,
        Some(FinishReason::Stop),
        "{}",
        answer.content
    );
    let value: Value = serde_json::from_str(&answer.content).unwrap();
    assert!(["red", "green"].contains(&value["colour"].as_str().unwrap()));
    assert!(value["count"].as_u64().unwrap() <= 9);
}

#[tokio::test]
async fn a_json_object_is_one() {
    let server = Server::start().await;
    let format = Format::JsonObject(wire::JsonObject {});
    let answer = server
        .ask(json_shape("Reply with: {\"a\": 1}", format))
        .await
        .only();
    assert!(answer.content.starts_with('{'), "{}", answer.content);
    if answer.reason == Some(FinishReason::Stop) {
        let value: Value = serde_json::from_str(&answer.content).unwrap();
        assert!(value.is_object());
    }
}

#[tokio::test]
async fn a_shape_that_cannot_be_is_refused() {
    let server = Server::start().await;
    let nonsense = schema(&json!({"type": "no such type"}));
    let failed = server.failure(json_shape("Reply with: x", nonsense)).await;
    assert_eq!(
        (failed.kind(), failed.param.as_str()),
        (
            Kind::InvalidRequest,
            "response_format.json_schema.schema.type"
        )
    );
    let required = wire::GenerateRequest {
        ..with_tools("Hello", &json!([]), choice(Mode::Required, &[]))
    };
    let failed = server.failure(required).await;
    assert_eq!(failed.kind(), Kind::InvalidRequest);
}

/// Objects that are told apart only by the end of a name.
fn alternatives(count: usize) -> Value {
    let one = |at| {
        let name = format!("f{at}");
        json!({"type": "object", "properties": {&name: {}}, "required": [&name]})
    };
    json!({"anyOf": (0..count).map(one).collect::<Vec<_>>()})
}

fn inside(schema: &Value) -> Value {
    json!({"type": "object", "properties": {"a": schema}, "required": ["a"]})
}

#[tokio::test]
async fn a_shape_of_too_many_alternatives_is_the_request_s_fault_wherever_it_stands() {
    let server = Server::start().await;
    let many = alternatives(3_000);
    for (value, at) in [
        (many.clone(), "anyOf"),
        (inside(&many), "properties.a.anyOf"),
    ] {
        let path = format!("response_format.json_schema.schema.{at}");
        let failed = server
            .failure(json_shape("Reply with: x", schema(&value)))
            .await;
        assert_eq!(
            (failed.kind(), &failed.param, failed.message),
            (
                Kind::InvalidRequest,
                &path,
                format!(
                    "'{path}' cannot be enforced: it has 3000 schemas; at most 1000 can be enforced."
                )
            )
        );
    }
    server.wait_idle().await;
}

const LOOKUP: &str = "Look up the status of order 123.";

fn two_tools() -> Value {
    json!([
        tool("get_order_status", "order_id"),
        tool("cancel_order", "order_id")
    ])
}

#[tokio::test]
async fn with_a_response_format_the_model_can_still_call_its_tool() {
    let server = Server::start().await;
    let shape = json!({
        "type": "object",
        "properties": {"done": {"type": "boolean"}},
        "required": ["done"],
        "additionalProperties": false,
    });
    for format in [Format::JsonObject(wire::JsonObject {}), schema(&shape)] {
        let request = wire::GenerateRequest {
            response_format: Some(wire::ResponseFormat {
                format: Some(format.clone()),
            }),
            ..with_tools(LOOKUP, &two_tools(), choice(Mode::Auto, &[]))
        };
        let answer = server.ask(request).await.only();
        assert_eq!(answer.reason, Some(FinishReason::ToolCalls));
        assert_eq!(answer.content, "");
        assert_eq!(answer.calls[0].name, "get_order_status");
        let arguments: Value = serde_json::from_str(&answer.calls[0].arguments).unwrap();
        assert_eq!(arguments, json!({"order_id": "123"}));
        // What is no call fits the schema.
        let request = wire::GenerateRequest {
            response_format: Some(wire::ResponseFormat {
                format: Some(format),
            }),
            max_tokens: Some(400),
            ..with_tools("Reply with: red", &two_tools(), choice(Mode::Auto, &[]))
        };
        let answer = server.ask(request).await.only();
        if answer.calls.is_empty() && answer.reason == Some(FinishReason::Stop) {
            let value: Value = serde_json::from_str(&answer.content).unwrap();
            assert!(value.is_object(), "{value}");
        }
    }
}

#[tokio::test]
async fn a_tool_that_is_not_allowed_is_never_called_and_the_prompt_stays_the_same() {
    let server = Server::start().await;
    let ask = |mode, names: &[&str]| with_tools(LOOKUP, &two_tools(), choice(mode, names));
    let open = server.ask(ask(Mode::Auto, &[])).await;
    let prompt = open.admitted.as_ref().unwrap().prompt_tokens;
    assert_eq!(open.only().calls[0].name, "get_order_status");
    for mode in [Mode::Auto, Mode::Required] {
        for name in ["get_order_status", "cancel_order"] {
            let request = wire::GenerateRequest {
                max_tokens: Some(200),
                ..ask(mode, &[name])
            };
            let answer = server.ask(request).await;
            assert_eq!(answer.admitted.as_ref().unwrap().prompt_tokens, prompt);
            let choice = answer.only();
            assert!(
                choice.calls.iter().all(|call| call.name == name),
                "{choice:?}"
            );
            if mode == Mode::Required || name == "get_order_status" {
                assert_eq!(choice.calls[0].name, name);
            }
        }
    }
    let hello = wire::GenerateRequest {
        ..with_tools(
            "Reply with: river",
            &two_tools(),
            choice(Mode::Auto, &["cancel_order"]),
        )
    };
    assert_eq!(server.ask(hello).await.only().content, "river");
}

#[tokio::test]
async fn a_tool_is_taken_or_refused_whether_it_must_be_called_or_not() {
    let server = Server::start().await;
    let with = |strict: bool, order_id: Value| {
        json!([{"type": "function", "function": {
            "name": "get_order_status",
            "description": "Looks up an order.",
            "strict": strict,
            "parameters": {"type": "object", "properties": {"order_id": order_id}, "required": ["order_id"]},
        }}])
    };
    let at = "tools[0].function.parameters.properties.order_id";
    let look = json!({"type": "string", "pattern": "^(?!x)"});
    let cases = [
        (with(false, look.clone()), None),
        (with(true, look), Some(format!("{at}.pattern"))),
        (
            with(true, json!({"type": "string", "not": {}})),
            Some(format!("{at}.not")),
        ),
        (
            with(
                true,
                json!({"oneOf": [{"type": "string"}, {"type": "string"}]}),
            ),
            Some(format!("{at}.oneOf")),
        ),
        (
            with(false, json!({"properties": []})),
            Some(format!("{at}.properties")),
        ),
        (
            with(false, json!({"$ref": "#/none"})),
            Some(format!("{at}.$ref")),
        ),
    ];
    for (tools, param) in cases {
        for mode in [Mode::Auto, Mode::Required] {
            let answer = server
                .ask(with_tools(LOOKUP, &tools, choice(mode, &[])))
                .await;
            let failed = answer.failed.as_ref();
            let told = failed.map(|failed| (failed.kind(), failed.param.clone()));
            let expect = param.clone().map(|param| (Kind::InvalidRequest, param));
            assert_eq!(told, expect, "{tools}");
            if let Some(failed) = failed {
                assert!(!failed.message.contains("coerce"), "{}", failed.message);
            }
        }
    }
}
