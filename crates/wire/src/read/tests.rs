//! Tests of reading: bodies in, requests or errors out.
#![expect(clippy::too_many_lines, reason = "tables of cases")]

use inferyard_proto::worker::v1::response_format::Format;
use inferyard_proto::worker::v1::text_prompt::Content;
use inferyard_proto::worker::v1::tool_choice::Mode;
use inferyard_proto::worker::v1::{LogitBias, Sampling, TextPrompt, TokenIds};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use inferyard_catalog::ONE_SCOPE;

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for (model, names) in [("demo", &["demo", "alias"][..]), ("other", &["other"])] {
        let names = names.iter().map(|&name| name.into());
        catalog.add(&ONE_SCOPE.into(), Model::new(model, 0), names);
    }
    catalog
}

fn plan(models: Option<&[&str]>) -> Plan {
    Plan {
        models: models.map(|names| names.iter().map(|name| (*name).into()).collect()),
        ..Plan::unrestricted("free")
    }
}

fn read_bytes(api: Api, body: &[u8]) -> Result<Generation, ReadError> {
    let body = Bytes::copy_from_slice(body);
    let parsed = read(api, &body, &catalog(), &plan(Some(&["demo"])));
    parsed.map(|Parsed(generation)| generation)
}

fn bound(generation: Generation, account: &str) -> Generation {
    Parsed(generation).bind(&account.into(), RequestId::of([7; 16]), 0)
}

/// A chat with these fields in addition to model and messages.
fn chat_with(fields: &str) -> Result<Generation, ReadError> {
    let comma = if fields.is_empty() { "" } else { "," };
    let body = format!(
        r#"{{"model":"demo","messages":[{{"role":"user","content":"Hi"}}]{comma}{fields}}}"#
    );
    read_bytes(Api::Chat, body.as_bytes())
}

fn text_with(fields: &str) -> Result<Generation, ReadError> {
    read_bytes(
        Api::Completions,
        format!(r#"{{"model":"demo",{fields}}}"#).as_bytes(),
    )
}

fn chat_prompt(generation: &Generation) -> &ChatPrompt {
    match generation.request.prompt.as_ref().unwrap() {
        Prompt::Chat(chat) => chat,
        Prompt::Text(_) => panic!("a chat should be a chat"),
    }
}

/// Code, param and message of the refusal.
fn refusal(
    result: Result<Generation, ReadError>,
) -> (Option<&'static str>, Option<String>, String) {
    let error = result.expect_err("the body should be refused");
    let param = error.param().map(str::to_owned);
    (error.code(), param, error.to_string())
}

fn refused(result: Result<Generation, ReadError>, code: &str, param: &str, what: &str) {
    let error = result.expect_err("the body should be refused");
    let got = (
        error.code().unwrap_or_default(),
        error.param().unwrap_or_default(),
    );
    assert_eq!(got, (code, param), "{what}: {error}");
}

const TOOL: &str =
    r#"{"type":"function","function":{"name":"get_order","parameters":{"type":"object"}}}"#;

#[test]
fn the_smallest_chat() {
    let generation = chat_with("").unwrap();
    assert_eq!(&*generation.model.name, "demo");
    assert_eq!(&*generation.response.requested_model, "demo");
    assert_eq!(generation.response.stream, None);
    let expected = Shape {
        api: Api::Chat,
        choices: 1,
        logprobs: None,
    };
    assert_eq!(generation.response.shape, expected);
    let request = &generation.request;
    assert_eq!(request.model, "demo");
    assert_eq!(request.choices, 1);
    assert_eq!(request.max_tokens, None);
    assert_eq!(request.sampling, Some(Sampling::default()));
    assert_eq!(request.extra_json, "");
    let chat = chat_prompt(&generation);
    assert_eq!(chat.messages_json, r#"[{"role":"user","content":"Hi"}]"#);
    assert_eq!(chat.tools_json, "");
    assert_eq!(chat.tool_choice, None);
}

#[test]
fn every_honoured_field_of_a_chat() {
    let generation = chat_with(&format!(
        r#""temperature":0.5,"top_p":0.9,"frequency_penalty":-2,"presence_penalty":2.0,
        "max_tokens":5,"max_completion_tokens":7,"n":3,"seed":-9223372036854775808,
        "stop":["a","é\n"],"logprobs":true,"top_logprobs":20,"logit_bias":{{"5":-100,"6":1.5}},
        "stream":true,"stream_options":{{"include_usage":true,"include_obfuscation":false}},
        "tools":[{TOOL}],"tool_choice":"required","parallel_tool_calls":false,
        "response_format":{{"type":"json_object"}},"top_k":40,"min_p":0.05,
        "repetition_penalty":1.1,"reasoning_effort":"low",
        "chat_template_kwargs":{{"enable_thinking":true}}"#
    ))
    .unwrap();
    let options = StreamOptions {
        include_usage: true,
    };
    assert_eq!(generation.response.stream, Some(options));
    assert_eq!(generation.response.shape.choices, 3);
    assert_eq!(generation.response.shape.logprobs, Some(20));
    let request = &generation.request;
    assert_eq!(request.max_tokens, Some(7));
    assert_eq!(request.stop, ["a", "é\n"]);
    assert_eq!(request.top_logprobs, Some(20));
    let expected = Sampling {
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
        min_p: Some(0.05),
        frequency_penalty: Some(-2.0),
        presence_penalty: Some(2.0),
        repetition_penalty: Some(1.1),
        seed: Some(i64::MIN),
        logit_bias: vec![
            LogitBias {
                token: 5,
                bias: -100.0,
            },
            LogitBias {
                token: 6,
                bias: 1.5,
            },
        ],
    };
    assert_eq!(request.sampling, Some(expected));
    let format = request
        .response_format
        .as_ref()
        .unwrap()
        .format
        .as_ref()
        .unwrap();
    assert!(matches!(format, Format::JsonObject(_)));
    let chat = chat_prompt(&generation);
    assert_eq!(chat.tools_json, format!("[{TOOL}]"));
    assert_eq!(chat.tool_choice.as_ref().unwrap().mode(), Mode::Required);
    assert_eq!(chat.parallel_tool_calls, Some(false));
    assert_eq!(
        chat.template_kwargs_json,
        r#"{"reasoning_effort":"low","enable_thinking":true}"#
    );
    assert_eq!(request.extra_json, "");
}

#[test]
fn null_is_absent() {
    let fields = r#""temperature":null,"n":null,"stop":null,"logprobs":null,"logit_bias":null,
        "stream":null,"stream_options":null,"tools":null,"tool_choice":null,"audio":null,
        "response_format":null,"functions":null,"metadata":null,"store":null,"user":null,
        "max_tokens":null,"seed":null,"reasoning_effort":null,"chat_template_kwargs":null"#;
    let generation = chat_with(fields).unwrap();
    assert_eq!(generation.request, chat_with("").unwrap().request);
}

#[test]
fn messages_are_a_slice_of_the_body() {
    let body = Bytes::from_static(
        br#" {"messages" : [ {"role":"user", "content":"\u00e9 \ud83d\ude00"} ] ,"model":"demo"} "#,
    );
    let Parsed(generation) = read(Api::Chat, &body, &catalog(), &plan(None)).unwrap();
    let messages = chat_prompt(&generation).messages_json.clone();
    assert_eq!(
        messages,
        r#"[ {"role":"user", "content":"\u00e9 \ud83d\ude00"} ]"#
    );
    assert!(body.as_ptr_range().contains(&messages.as_ptr()));
}

#[test]
fn all_kinds_of_messages() {
    let messages = r#"[
        {"role":"developer","content":"a"},
        {"role":"system","content":[{"type":"text","text":"a"},{"type":"text","text":""}]},
        {"role":"user","content":"","name":"x"},
        {"role":"user","content":[]},
        {"role":"assistant","content":null,"refusal":null,"audio":null,"function_call":null,
         "tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"call_1","content":[{"type":"text","text":"a"}]},
        {"role":"assistant","tool_calls":[{"id":"c","function":{"arguments":"","name":"f"}}]},
        {"role":"assistant","content":[{"type":"refusal","refusal":"no"}],"tool_calls":null},
        {"role":"assistant","refusal":"no"},
        {"role":"assistant","content":"a","reasoning_content":"b","annotations":[{}],"x":{"y":[1]}},
        {"content":"a","\u0072ole":"us\u0065r"}
    ]"#;
    let body = format!(r#"{{"model":"demo","messages":{messages}}}"#);
    read_bytes(Api::Chat, body.as_bytes()).unwrap();
}

#[test]
fn bad_json() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "line 1 column 1"),
        (b"{\"model\":\"demo\",}", "line 1 column 17"),
        (b"{\n \"model\": demo}", "line 2 column 11"),
        (b"{\"model\":\"demo\"", "line 1 column 16"),
        (b"{\"model\":\"demo\"} {}", "line 1 column 18"),
        (b"{\"model\":\"de\x00mo\"}", "control characters"),
        (b"{\"model\":\"de\xffmo\"}", "UTF-8"),
        (b"{\"x\":\"\xed\xa0\x80\"}", "UTF-8"),
        (b"{\"x\":\"\\ud800\"}", "surrogate"),
        (b"{\"x\":1e999}", "range of a double"),
        (b"model=demo", "line 1 column 1"),
    ];
    for (body, text) in cases {
        let (code, param, message) = refusal(read_bytes(Api::Chat, body));
        assert_eq!((code, param), (None, None), "{message}");
        assert!(
            message.starts_with("We could not parse the JSON body of your request."),
            "{message}"
        );
        assert!(message.contains(text), "{message}");
    }
    let deep = format!(
        r#"{{"model":"demo","x":{}{}}}"#,
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    let (_, _, message) = refusal(read_bytes(Api::Chat, deep.as_bytes()));
    assert!(message.contains("64 levels"), "{message}");
    refused(
        read_bytes(Api::Chat, b"[1]"),
        "invalid_type",
        "",
        "an array",
    );
    refused(read_bytes(Api::Chat, b"null"), "invalid_type", "", "null");
    let twice = br#"{"messages":[],"model":"demo","model":"demo"}"#;
    refused(
        read_bytes(Api::Chat, twice),
        "empty_array",
        "messages",
        "the first mistake counts",
    );
    let twice = br#"{"model":"demo","m\u006fdel":"demo"}"#;
    refused(read_bytes(Api::Chat, twice), "", "model", "a key twice");
}

#[test]
fn models() {
    let body = |model: &str| {
        format!(r#"{{"model":{model},"messages":[{{"role":"user","content":"a"}}]}}"#)
    };
    let read = |model: &str| read_bytes(Api::Chat, body(model).as_bytes());
    let alias = read("\"alias\"").unwrap();
    assert_eq!(alias.request.model, "demo");
    assert_eq!(&*alias.response.requested_model, "alias");
    refused(read("\"gpt\""), "model_not_found", "model", "unknown");
    refused(
        read("\"other\""),
        "model_not_found",
        "model",
        "not on the plan",
    );
    refused(read("\"\""), "model_not_found", "model", "empty");
    refused(read("5"), "invalid_type", "model", "a number");
    refused(read("null"), "missing_required_parameter", "model", "null");
    refused(
        read(&format!("\"{}\"", "a".repeat(300))),
        "string_above_max_length",
        "model",
        "long",
    );
    refused(
        read_bytes(Api::Chat, b"{}"),
        "missing_required_parameter",
        "model",
        "absent",
    );
}

#[test]
fn bad_messages() {
    let part = |part: &str| format!(r#"[{{"role":"user","content":[{part}]}}]"#);
    let call = |call: &str| format!(r#"[{{"role":"assistant","tool_calls":[{call}]}}]"#);
    let message = |fields: &str| format!(r#"[{{"role":"user","content":"a"}},{{{fields}}}]"#);
    let missing = "missing_required_parameter";
    let cases: &[(String, &str, &str)] = &[
        ("\"a\"".into(), "invalid_type", "messages"),
        ("{}".into(), "invalid_type", "messages"),
        ("null".into(), "invalid_type", "messages"),
        ("[]".into(), "empty_array", "messages"),
        ("[ ]".into(), "empty_array", "messages"),
        ("[\"a\"]".into(), "invalid_type", "messages[0]"),
        ("[{}]".into(), missing, "messages[0].role"),
        (message(r#""content":"a""#), missing, "messages[1].role"),
        (
            message(r#""role":5,"content":"a""#),
            "invalid_type",
            "messages[1].role",
        ),
        (
            message(r#""role":"robot","content":"a""#),
            "invalid_value",
            "messages[1].role",
        ),
        (
            message(r#""role":"function","content":"a""#),
            "unsupported_value",
            "messages[1].role",
        ),
        (message(r#""role":"user""#), missing, "messages[1].content"),
        (
            message(r#""role":"user","content":null"#),
            "invalid_type",
            "messages[1].content",
        ),
        (
            message(r#""role":"user","content":5"#),
            "invalid_type",
            "messages[1].content",
        ),
        (
            message(r#""role":"user","content":{}"#),
            "invalid_type",
            "messages[1].content",
        ),
        (
            message(r#""role":"assistant""#),
            missing,
            "messages[1].content",
        ),
        (
            message(r#""role":"assistant","content":null"#),
            "invalid_type",
            "messages[1].content",
        ),
        (
            message(r#""role":"assistant","tool_calls":[]"#),
            missing,
            "messages[1].content",
        ),
        (
            message(r#""role":"tool","content":"a""#),
            missing,
            "messages[1].tool_call_id",
        ),
        (
            message(r#""role":"tool","content":"a","tool_call_id":5"#),
            "invalid_type",
            "messages[1].tool_call_id",
        ),
        (
            message(r#""role":"user","content":"a","name":{}"#),
            "invalid_type",
            "messages[1].name",
        ),
        (
            message(r#""role":"assistant","audio":{"id":"a"}"#),
            "unsupported_parameter",
            "messages[1].audio",
        ),
        (
            message(r#""role":"assistant","function_call":{}"#),
            "unsupported_parameter",
            "messages[1].function_call",
        ),
        (part("5"), "invalid_type", "messages[0].content[0]"),
        (part("{}"), missing, "messages[0].content[0].type"),
        (
            part(r#"{"type":"text"}"#),
            missing,
            "messages[0].content[0].text",
        ),
        (
            part(r#"{"type":"text","text":null}"#),
            "invalid_type",
            "messages[0].content[0].text",
        ),
        (
            part(r#"{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"a"}}"#),
            "unsupported_value",
            "messages[0].content[1].type",
        ),
        (
            part(r#"{"type":"input_audio"}"#),
            "unsupported_value",
            "messages[0].content[0].type",
        ),
        (
            part(r#"{"type":5}"#),
            "invalid_type",
            "messages[0].content[0].type",
        ),
        (call("5"), "invalid_type", "messages[0].tool_calls[0]"),
        (call("{}"), missing, "messages[0].tool_calls[0].id"),
        (
            call(r#"{"id":"a"}"#),
            missing,
            "messages[0].tool_calls[0].function",
        ),
        (
            call(r#"{"id":"a","function":{}}"#),
            missing,
            "messages[0].tool_calls[0].function.name",
        ),
        (
            call(r#"{"id":"a","function":{"name":"f"}}"#),
            missing,
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            call(r#"{"id":"a","function":{"name":"f","arguments":{}}}"#),
            "invalid_type",
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            call(r#"{"id":"a","type":"custom","custom":{}}"#),
            "unsupported_value",
            "messages[0].tool_calls[0].type",
        ),
        (
            message(r#""role":"assistant","tool_calls":{}"#),
            "invalid_type",
            "messages[1].tool_calls",
        ),
    ];
    for (messages, code, param) in cases {
        let body = format!(r#"{{"model":"demo","messages":{messages}}}"#);
        refused(
            read_bytes(Api::Chat, body.as_bytes()),
            code,
            param,
            messages,
        );
    }
    let absent = read_bytes(Api::Chat, br#"{"model":"demo"}"#);
    refused(absent, missing, "messages", "absent");
    let long = format!(
        r#"[{{"role":"user","content":"a","name":"{}"}}]"#,
        "a".repeat(257)
    );
    let body = format!(r#"{{"model":"demo","messages":{long}}}"#);
    refused(
        read_bytes(Api::Chat, body.as_bytes()),
        "string_above_max_length",
        "messages[0].name",
        "long",
    );
}

#[test]
fn lengths_are_of_characters_however_they_are_written() {
    let named = |name: &str| {
        let body = format!(
            r#"{{"model":"demo","messages":[{{"role":"user","content":"a","name":"{name}"}}]}}"#
        );
        read_bytes(Api::Chat, body.as_bytes())
    };
    for (character, written) in [
        ("ü", "ü"),
        ("ü", "\\u00fc"),
        ("😀", "\\ud83d\\ude00"),
        ("\n", "\\n"),
    ] {
        assert!(named(&written.repeat(256)).is_ok(), "{character}");
        let message = refusal(named(&written.repeat(257))).2;
        assert!(message.contains("length 257"), "{message}");
    }
}

#[test]
fn a_key_stands_once_at_every_depth() {
    let call = r#"{"id":"c","type":"function","function":{"name":"f","arguments":"{}""#;
    for (messages, path) in [
        (
            r#"[{"role":"user","content":"a","content":"b"}]"#.to_owned(),
            "messages[0].content",
        ),
        (
            r#"[{"role":"user","content":"a"},{"role":"user","role":"system","content":"a"}]"#
                .to_owned(),
            "messages[1].role",
        ),
        (
            r#"[{"role":"user","content":[{"type":"image_url","type":"text","text":"a"}]}]"#
                .to_owned(),
            "messages[0].content[0].type",
        ),
        (
            format!(r#"[{{"role":"assistant","tool_calls":[{call},"name":"g"}}}}]}}]"#),
            "messages[0].tool_calls[0].function.name",
        ),
        (
            format!(r#"[{{"role":"assistant","tool_calls":[{call}}},"\u0069d":"d"}}]}}]"#),
            "messages[0].tool_calls[0].id",
        ),
        (
            r#"[{"role":"user","content":"a","x":[{},{"y":1,"y":1}]}]"#.to_owned(),
            "messages[0].x[1].y",
        ),
    ] {
        let body = format!(r#"{{"model":"demo","messages":{messages}}}"#);
        let result = read_bytes(Api::Chat, body.as_bytes());
        refused(result, "", path, &messages);
    }
    for (fields, path) in [
        (r#""logit_bias":{"1":1,"1":2}"#, "logit_bias.1"),
        (r#""unknown":1,"unknown":2"#, "unknown"),
        (r#""unknown":{"a":{"b":1,"b":2}}"#, "unknown.a.b"),
        (r#""stream":true,"stream":false"#, "stream"),
        (
            r#""stream":true,"stream_options":{"include_usage":true,"include_usage":false}"#,
            "stream_options.include_usage",
        ),
        (r#""metadata":{"a":"b","a":"c"}"#, "metadata.a"),
        (
            r#""chat_template_kwargs":{"a":[{"b":1,"b":2}]}"#,
            "chat_template_kwargs.a[0].b",
        ),
        (
            r#""tools":[{"type":"function","type":"custom"}]"#,
            "tools[0].type",
        ),
        (
            r#""tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"a":{},"a":{}}}}}]"#,
            "tools[0].function.parameters.properties.a",
        ),
        (
            r#""tool_choice":{"type":"function","function":{"name":"f","name":"g"}}"#,
            "tool_choice.function.name",
        ),
        (
            r#""response_format":{"type":"text","type":"json_object"}"#,
            "response_format.type",
        ),
        (
            r#""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","type":"array"}}}"#,
            "response_format.json_schema.schema.type",
        ),
    ] {
        refused(chat_with(fields), "", path, fields);
    }
    let long = "k".repeat(1_000);
    let (_, param, message) = refusal(chat_with(&format!(r#""x":{{"{long}":1,"{long}":2}}"#)));
    assert_eq!(param.unwrap(), format!("x.{}…", "k".repeat(64)));
    assert!(
        message.ends_with("stands twice in the body. Send it once."),
        "{message}"
    );
}

#[test]
fn what_the_template_gets_has_no_key_twice() {
    let kwargs = |fields: &str| {
        let generation = chat_with(fields).unwrap();
        String::from_utf8(chat_prompt(&generation).template_kwargs_json.to_vec()).unwrap()
    };
    assert_eq!(
        kwargs(r#""reasoning_effort":"low","chat_template_kwargs":{"reasoning_effort":"high"}"#),
        r#"{"reasoning_effort":"high"}"#
    );
    assert_eq!(
        kwargs(
            r#""reasoning_effort":"none","chat_template_kwargs":{ "a":1,"enable_th\u0069nking":true}"#
        ),
        r#"{"reasoning_effort":"none","a":1,"enable_th\u0069nking":true}"#
    );
}

#[test]
fn bad_fields() {
    let below = "integer_below_min_value";
    let above = "integer_above_max_value";
    let cases: &[(&str, &str, &str)] = &[
        (
            r#""temperature":2.01"#,
            "decimal_above_max_value",
            "temperature",
        ),
        (
            r#""temperature":-0.1"#,
            "decimal_below_min_value",
            "temperature",
        ),
        (r#""temperature":"1""#, "invalid_type", "temperature"),
        (
            r#""temperature":1e300"#,
            "decimal_above_max_value",
            "temperature",
        ),
        (r#""top_p":1.5"#, "decimal_above_max_value", "top_p"),
        (r#""min_p":2"#, "decimal_above_max_value", "min_p"),
        (
            r#""repetition_penalty":0"#,
            "decimal_below_min_value",
            "repetition_penalty",
        ),
        (
            r#""frequency_penalty":3"#,
            "decimal_above_max_value",
            "frequency_penalty",
        ),
        (
            r#""presence_penalty":-3"#,
            "decimal_below_min_value",
            "presence_penalty",
        ),
        (r#""max_tokens":-1"#, below, "max_tokens"),
        (r#""max_tokens":0"#, below, "max_tokens"),
        (r#""max_tokens":1.5"#, "invalid_type", "max_tokens"),
        (r#""max_tokens":10.0"#, "invalid_type", "max_tokens"),
        (
            r#""max_completion_tokens":1e1"#,
            "invalid_type",
            "max_completion_tokens",
        ),
        (r#""n":1.0"#, "invalid_type", "n"),
        (r#""seed":5.0"#, "invalid_type", "seed"),
        (r#""top_k":5.0"#, "invalid_type", "top_k"),
        (
            r#""logprobs":true,"top_logprobs":2.0"#,
            "invalid_type",
            "top_logprobs",
        ),
        (r#""max_tokens":"5""#, "invalid_type", "max_tokens"),
        (
            r#""max_completion_tokens":99999999999"#,
            above,
            "max_completion_tokens",
        ),
        (r#""n":0"#, below, "n"),
        (r#""n":129"#, above, "n"),
        (r#""seed":9223372036854775808"#, above, "seed"),
        (
            r#""seed":-99999999999999999999999999999999999999999999"#,
            below,
            "seed",
        ),
        (r#""top_k":-2"#, below, "top_k"),
        (r#""stop":5"#, "invalid_type", "stop"),
        (r#""stop":"""#, "empty_string", "stop"),
        (r#""stop":["a",""]"#, "empty_string", "stop[1]"),
        (r#""stop":["a",5]"#, "invalid_type", "stop[1]"),
        (
            r#""stop":["1","2","3","4","5"]"#,
            "array_above_max_length",
            "stop",
        ),
        (r#""logprobs":1"#, "invalid_type", "logprobs"),
        (
            r#""logprobs":true,"top_logprobs":21"#,
            above,
            "top_logprobs",
        ),
        (r#""top_logprobs":1"#, "", "top_logprobs"),
        (
            r#""logit_bias":{"5":101}"#,
            "decimal_above_max_value",
            "logit_bias.5",
        ),
        (r#""logit_bias":{"x":1}"#, "invalid_value", "logit_bias"),
        (
            r#""logit_bias":{"5":1,"05":2}"#,
            "invalid_value",
            "logit_bias",
        ),
        (r#""logit_bias":{"+5":1}"#, "invalid_value", "logit_bias"),
        (r#""logit_bias":{"5":"1"}"#, "invalid_type", "logit_bias.5"),
        (r#""logit_bias":[]"#, "invalid_type", "logit_bias"),
        (r#""stream":"yes""#, "invalid_type", "stream"),
        (r#""stream_options":{}"#, "", "stream_options"),
        (
            r#""stream":false,"stream_options":{}"#,
            "",
            "stream_options",
        ),
        (
            r#""stream":true,"stream_options":5"#,
            "invalid_type",
            "stream_options",
        ),
        (
            r#""stream":true,"stream_options":{"include_usage":1}"#,
            "invalid_type",
            "stream_options.include_usage",
        ),
        (
            r#""parallel_tool_calls":1"#,
            "invalid_type",
            "parallel_tool_calls",
        ),
        (
            r#""chat_template_kwargs":[]"#,
            "invalid_type",
            "chat_template_kwargs",
        ),
        (
            r#""reasoning_effort":"much""#,
            "invalid_value",
            "reasoning_effort",
        ),
        (r#""verbosity":"loud""#, "invalid_value", "verbosity"),
        (r#""service_tier":"slow""#, "invalid_value", "service_tier"),
        (r#""store":true"#, "unsupported_value", "store"),
        (r#""store":1"#, "invalid_type", "store"),
        (
            r#""modalities":["text","audio"]"#,
            "unsupported_value",
            "modalities",
        ),
        (r#""modalities":"text""#, "invalid_type", "modalities"),
        (r#""audio":{}"#, "unsupported_parameter", "audio"),
        (r#""moderation":{}"#, "unsupported_parameter", "moderation"),
        (
            r#""web_search_options":{}"#,
            "unsupported_parameter",
            "web_search_options",
        ),
        (r#""functions":[]"#, "unsupported_parameter", "functions"),
        (
            r#""function_call":"auto""#,
            "unsupported_parameter",
            "function_call",
        ),
        (r#""user":5"#, "invalid_type", "user"),
        (r#""metadata":{"a":5}"#, "invalid_type", "metadata.a"),
        (r#""metadata":[]"#, "invalid_type", "metadata"),
        (r#""prediction":"a""#, "invalid_type", "prediction"),
    ];
    for (fields, code, param) in cases {
        refused(chat_with(fields), code, param, fields);
    }
    let long = |count: usize| "x".repeat(count);
    refused(
        chat_with(&format!(r#""safety_identifier":"{}""#, long(65))),
        "string_above_max_length",
        "safety_identifier",
        "long",
    );
    let pairs: Vec<_> = (0..17).map(|index| format!(r#""k{index}":"v""#)).collect();
    refused(
        chat_with(&format!(r#""metadata":{{{}}}"#, pairs.join(","))),
        "object_above_max_properties",
        "metadata",
        "17 pairs",
    );
    refused(
        chat_with(&format!(r#""stop":"{}""#, long(1_025))),
        "string_above_max_length",
        "stop",
        "long",
    );
}

#[test]
fn messages_of_refusals_say_what_to_do() {
    let message = |fields: &str| refusal(chat_with(fields)).2;
    insta::assert_snapshot!(message(r#""max_tokens":-1"#), @"Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got -1 instead.");
    insta::assert_snapshot!(message(r#""temperature":2.5"#), @"Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 2.5 instead.");
    insta::assert_snapshot!(message(r#""stop":{}"#), @"Invalid type for 'stop': expected a string or an array of strings, but got an object instead.");
    insta::assert_snapshot!(message(r#""verbosity":"loud""#), @"Invalid value for 'verbosity': 'loud'. Supported values are: 'low', 'medium', 'high'.");
    insta::assert_snapshot!(message(r#""functions":[]"#), @"Unsupported parameter: 'functions' is deprecated: use 'tools' instead.");
    insta::assert_snapshot!(message(r#""model":"demo""#), @"The key 'model' stands twice in the body. Send it once.");
    insta::assert_snapshot!(message(r#""tools":[]"#), @"Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array instead.");
}

#[test]
fn harmless_fields_change_nothing() {
    let fields = r#""user":"u","safety_identifier":"s","metadata":{"a":"b"},"store":false,
        "service_tier":"flex","verbosity":"low","prompt_cache_key":"k","modalities":["text"],
        "prompt_cache_options":{"mode":"implicit"},"prompt_cache_retention":"24h",
        "prediction":{"type":"content","content":"a"},"response_format":{"type":"text"},
        "top_logprobs":0,"top_k":-1,"stop":[],"tool_choice":"none""#;
    assert_eq!(
        chat_with(fields).unwrap().request,
        chat_with("").unwrap().request
    );
}

#[test]
fn unknown_fields_go_on_to_the_engine() {
    let generation =
        chat_with(r#""structured_outputs": {"regex":"a"} ,"priority":5,"\u0078":null"#);
    assert_eq!(
        generation.unwrap().request.extra_json,
        r#"{"structured_outputs":{"regex":"a"},"priority":5,"\u0078":null}"#
    );
}

#[test]
fn bad_tools() {
    let missing = "missing_required_parameter";
    let cases: &[(&str, &str, &str)] = &[
        (r#""tools":{}"#, "invalid_type", "tools"),
        (r#""tools":[]"#, "empty_array", "tools"),
        (r#""tools":[5]"#, "invalid_type", "tools[0]"),
        (
            r#""tools":[{"function":{"name":"f"}}]"#,
            missing,
            "tools[0].type",
        ),
        (
            r#""tools":[{"type":"function"}]"#,
            missing,
            "tools[0].function",
        ),
        (
            r#""tools":[{"type":"custom","custom":{"name":"f"}}]"#,
            "unsupported_value",
            "tools[0].type",
        ),
        (
            r#""tools":[{"type":"function","function":5}]"#,
            "invalid_type",
            "tools[0].function",
        ),
        (
            r#""tools":[{"type":"function","function":{}}]"#,
            missing,
            "tools[0].function.name",
        ),
        (
            r#""tools":[{"type":"function","function":{"name":"a b"}}]"#,
            "invalid_value",
            "tools[0].function.name",
        ),
        (
            r#""tools":[{"type":"function","function":{"name":""}}]"#,
            "invalid_value",
            "tools[0].function.name",
        ),
        (
            r#""tools":[{"type":"function","function":{"name":5}}]"#,
            "invalid_type",
            "tools[0].function.name",
        ),
        (
            r#""tools":[{"type":"function","function":{"name":"f","parameters":[]}}]"#,
            "invalid_type",
            "tools[0].function.parameters",
        ),
        (
            r#""tools":[{"type":"function","function":{"name":"f","strict":"yes"}}]"#,
            "invalid_type",
            "tools[0].function.strict",
        ),
        (r#""tool_choice":"auto""#, "", "tool_choice"),
    ];
    for (fields, code, param) in cases {
        refused(chat_with(fields), code, param, fields);
    }
    let name = "f".repeat(65);
    refused(
        chat_with(&format!(
            r#""tools":[{{"type":"function","function":{{"name":"{name}"}}}}]"#
        )),
        "string_above_max_length",
        "tools[0].function.name",
        "long",
    );
    let many = vec![TOOL; 129].join(",");
    refused(
        chat_with(&format!(r#""tools":[{many}]"#)),
        "array_above_max_length",
        "tools",
        "129",
    );
}

#[test]
fn tool_choices() {
    let choice = |choice: &str| chat_with(&format!(r#""tools":[{TOOL}],"tool_choice":{choice}"#));
    let chosen = |text: &str| {
        let generation = choice(text).unwrap();
        let choice = chat_prompt(&generation).tool_choice.clone().unwrap();
        (choice.mode(), choice.names)
    };
    let named = vec!["get_order".to_owned()];
    assert_eq!(chosen("\"none\""), (Mode::None, vec![]));
    assert_eq!(chosen("\"auto\""), (Mode::Auto, vec![]));
    assert_eq!(
        chosen(r#"{"type":"function","function":{"name":"get_order"}}"#),
        (Mode::Required, named.clone())
    );
    let allowed = |mode: &str| {
        format!(
            r#"{{"type":"allowed_tools","allowed_tools":{{"mode":"{mode}","tools":[{TOOL}]}}}}"#
        )
    };
    assert_eq!(chosen(&allowed("auto")), (Mode::Auto, named.clone()));
    assert_eq!(chosen(&allowed("required")), (Mode::Required, named));
    let missing = "missing_required_parameter";
    let path = "tool_choice.allowed_tools";
    let cases: &[(&str, &str, &str)] = &[
        ("\"any\"", "invalid_value", "tool_choice"),
        ("5", "invalid_type", "tool_choice"),
        ("{}", missing, "tool_choice.type"),
        (r#"{"type":"function"}"#, missing, "tool_choice.function"),
        (
            r#"{"type":"function","function":{}}"#,
            missing,
            "tool_choice.function.name",
        ),
        (
            r#"{"type":"function","function":{"name":"other"}}"#,
            "invalid_value",
            "tool_choice",
        ),
        (
            r#"{"type":"custom","custom":{"name":"f"}}"#,
            "unsupported_value",
            "tool_choice.type",
        ),
        (r#"{"type":"allowed_tools"}"#, missing, path),
        (
            r#"{"type":"allowed_tools","allowed_tools":{"tools":[]}}"#,
            missing,
            "tool_choice.allowed_tools.mode",
        ),
        (
            r#"{"type":"allowed_tools","allowed_tools":{"mode":"auto"}}"#,
            "empty_array",
            "tool_choice.allowed_tools.tools",
        ),
        (
            r#"{"type":"allowed_tools","allowed_tools":{"mode":"none","tools":[]}}"#,
            "invalid_value",
            "tool_choice.allowed_tools.mode",
        ),
    ];
    for (text, code, param) in cases {
        refused(choice(text), code, param, text);
    }
}

#[test]
fn tools_that_must_not_be_called_are_not_shown() {
    let description = "a".repeat(2 * inferyard_proto::prefix::BLOCK);
    let asked = |choice: &str| {
        let read = chat_with(&format!(
            r#""tools":[{{"type":"function","function":{{"name":"f","description":"{description}"}}}}]{choice}"#
        ));
        let generation = bound(read.unwrap(), "account");
        let tools = chat_prompt(&generation).tools_json.clone();
        (tools.is_empty(), generation.request.prefix_blocks.len())
    };
    // Hidden tools are not part of the prefix blocks either.
    assert_eq!(asked(r#","tool_choice":"none""#), (true, 0));
    assert_eq!(asked(r#","tool_choice":"auto""#), (false, 2));
    assert_eq!(asked(""), (false, 2));
    refused(
        chat_with(r#""tools":[{"type":"function","function":{}}],"tool_choice":"none""#),
        "missing_required_parameter",
        "tools[0].function.name",
        "checked all the same",
    );
}

#[test]
fn response_formats() {
    let format = |format: &str| chat_with(&format!(r#""response_format":{format}"#));
    let schema = |text: &str| match format(text)
        .unwrap()
        .request
        .response_format
        .unwrap()
        .format
    {
        Some(Format::JsonSchema(schema)) => (schema.name, schema.schema_json, schema.strict),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        schema(
            r#"{"type":"json_schema","json_schema":{"name":"a","strict":true,"schema":{"type": "object"}}}"#
        ),
        (
            "a".to_owned(),
            Bytes::from_static(br#"{"type": "object"}"#),
            true
        )
    );
    assert_eq!(
        schema(r#"{"json_schema":{"name":"a"},"type":"json_schema"}"#),
        ("a".to_owned(), Bytes::from_static(b"{}"), false)
    );
    assert_eq!(
        schema(r#"{"type":"json_schema","json_schema":{"name":"a","strict":null}}"#),
        ("a".to_owned(), Bytes::from_static(b"{}"), false)
    );
    let missing = "missing_required_parameter";
    let cases: &[(&str, &str, &str)] = &[
        ("\"json\"", "invalid_type", "response_format"),
        ("{}", missing, "response_format.type"),
        (r#"{"type":5}"#, "invalid_type", "response_format.type"),
        (r#"{"type":"xml"}"#, "invalid_value", "response_format.type"),
        (
            r#"{"type":"json_schema"}"#,
            missing,
            "response_format.json_schema",
        ),
        (
            r#"{"type":"json_schema","json_schema":{}}"#,
            missing,
            "response_format.json_schema.name",
        ),
        (
            r#"{"type":"json_schema","json_schema":{"name":"a b"}}"#,
            "invalid_value",
            "response_format.json_schema.name",
        ),
        (
            r#"{"type":"json_schema","json_schema":{"name":"a","strict":"yes"}}"#,
            "invalid_type",
            "response_format.json_schema.strict",
        ),
        (
            r#"{"type":"json_schema","json_schema":{"name":"a","schema":"s"}}"#,
            "invalid_type",
            "response_format.json_schema.schema",
        ),
    ];
    for (text, code, param) in cases {
        refused(format(text), code, param, text);
    }
}

#[test]
fn a_schema_has_the_types_of_the_standard() {
    let object = "an object";
    let schema = "an object or a boolean";
    let cases: &[(&str, &str, &str)] = &[
        (r#"{"properties":null}"#, ".properties", object),
        (r#"{"properties":[]}"#, ".properties", object),
        (r#"{"properties":{"a":null}}"#, ".properties.a", schema),
        (r#"{"properties":{"a":"string"}}"#, ".properties.a", schema),
        (
            r#"{"properties":{"type":{"properties":[]}}}"#,
            ".properties.type.properties",
            object,
        ),
        (r#"{"required":null}"#, ".required", "an array of strings"),
        (r#"{"required":true}"#, ".required", "an array of strings"),
        (r#"{"required":["a",5]}"#, ".required[1]", "a string"),
        (r#"{"type":null}"#, ".type", "a string"),
        (r#"{"type":["string",null]}"#, ".type[1]", "a string"),
        (r#"{"items":null}"#, ".items", schema),
        (r#"{"items":{"items":5}}"#, ".items.items", schema),
        (
            r#"{"items":[{},{"enum":{}}]}"#,
            ".items[1].enum",
            "an array",
        ),
        (r#"{"enum":null}"#, ".enum", "an array"),
        (r#"{"description":{}}"#, ".description", "a string"),
        (r#"{"title":null}"#, ".title", "a string"),
        (r#"{"anyOf":{}}"#, ".anyOf", "an array of objects"),
        (r#"{"anyOf":[{"not":[]}]}"#, ".anyOf[0].not", schema),
        (
            r#"{"$defs":{"a":{"additionalProperties":"no"}}}"#,
            ".$defs.a.additionalProperties",
            schema,
        ),
        (r#"{"p\u0072operties":[]}"#, ".properties", object),
    ];
    for (parameters, path, expected) in cases {
        for (fields, at) in [
            (
                format!(
                    r#""tools":[{TOOL},{{"type":"function","function":{{"name":"f","parameters":{parameters}}}}}]"#
                ),
                "tools[1].function.parameters",
            ),
            (
                format!(
                    r#""response_format":{{"type":"json_schema","json_schema":{{"name":"n","schema":{parameters}}}}}"#
                ),
                "response_format.json_schema.schema",
            ),
        ] {
            let (code, param, message) = refusal(chat_with(&fields));
            let expected_param = format!("{at}{path}");
            assert_eq!(
                (code, param),
                (Some("invalid_type"), Some(expected_param)),
                "{parameters}"
            );
            assert!(
                message.contains(&format!("expected {expected}, but got")),
                "{message}"
            );
        }
    }
    let fine = r#"{"type":["object","null"],"properties":{"properties":{"type":"string","default":null,
        "const":[],"enum":[null,{"required":5}],"examples":{}},"required":true,"items":{}},
        "items":[true,{}],"required":[],"additionalProperties":false,"minLength":5}"#;
    chat_with(&format!(
        r#""tools":[{{"type":"function","function":{{"name":"f","parameters":{fine}}}}}]"#
    ))
    .unwrap();
    for parameters in ["null", "{}"] {
        chat_with(&format!(
            r#""tools":[{{"type":"function","function":{{"name":"f","parameters":{parameters}}}}}]"#
        ))
        .unwrap();
    }
}

#[test]
fn reasoning_effort_reaches_the_template() {
    let kwargs = |fields: &str| {
        let generation = chat_with(fields).unwrap();
        let text = chat_prompt(&generation).template_kwargs_json.clone();
        serde_json::from_slice::<Value>(&text).unwrap().to_string()
    };
    assert_eq!(
        kwargs(r#""reasoning_effort":"high""#),
        r#"{"reasoning_effort":"high"}"#
    );
    assert_eq!(
        kwargs(r#""reasoning_effort":"none","chat_template_kwargs":{ }"#),
        r#"{"reasoning_effort":"none","enable_thinking":false}"#
    );
    assert_eq!(
        kwargs(r#""reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":true}"#),
        r#"{"reasoning_effort":"none","enable_thinking":true}"#
    );
    assert_eq!(kwargs(r#""chat_template_kwargs":{"a":1}"#), r#"{"a":1}"#);
}

#[test]
fn legacy_prompts() {
    let content = |fields: &str| match text_with(fields).unwrap().request.prompt.unwrap() {
        Prompt::Text(text) => text.content.unwrap(),
        Prompt::Chat(_) => panic!("a text should be a text"),
    };
    let hi = Content::Text("Hé\n".to_owned());
    let ids = Content::Tokens(TokenIds { ids: vec![1, 2] });
    assert_eq!(content(r#""prompt":"H\u00e9\n""#), hi);
    assert_eq!(content(r#""prompt":["Hé\n"]"#), hi);
    assert_eq!(content(r#""prompt":[1,2]"#), ids);
    assert_eq!(content(r#""prompt":[[1,2]]"#), ids);
    // An empty prompt is the beginning of a document.
    assert_eq!(content(r#""prompt":"""#), Content::Text(String::new()));
    assert_eq!(content(r#""prompt":[""]"#), Content::Text(String::new()));
    let echo = text_with(r#""prompt":"a","echo":true,"max_tokens":0"#).unwrap();
    assert_eq!(echo.request.max_tokens, Some(0));
    assert!(matches!(
        echo.request.prompt,
        Some(Prompt::Text(TextPrompt { echo: true, .. }))
    ));
    let plain = text_with(r#""prompt":"a","logprobs":5,"n":2,"best_of":2"#).unwrap();
    assert_eq!(plain.request.max_tokens, Some(16));
    assert_eq!(plain.request.top_logprobs, Some(5));
    let cases: &[(&str, &str, &str)] = &[
        (r#""n":1"#, "missing_required_parameter", "prompt"),
        (r#""prompt":5"#, "invalid_type", "prompt"),
        (r#""prompt":[]"#, "empty_array", "prompt"),
        (r#""prompt":[[]]"#, "empty_array", "prompt[0]"),
        (r#""prompt":["a","b"]"#, "unsupported_value", "prompt"),
        (r#""prompt":[[1],[2]]"#, "unsupported_value", "prompt"),
        (r#""prompt":[1,"a"]"#, "invalid_type", "prompt[1]"),
        (r#""prompt":["a",1]"#, "invalid_type", "prompt[1]"),
        (r#""prompt":[-1]"#, "integer_below_min_value", "prompt[0]"),
        (r#""prompt":[[1,1.5]]"#, "invalid_type", "prompt[0][1]"),
        (r#""prompt":[[1,null]]"#, "invalid_type", "prompt[0][1]"),
        (r#""prompt":[{}]"#, "invalid_type", "prompt[0]"),
        (
            r#""prompt":"a","logprobs":6"#,
            "integer_above_max_value",
            "logprobs",
        ),
        (
            r#""prompt":"a","logprobs":true"#,
            "invalid_type",
            "logprobs",
        ),
        (r#""prompt":"a","logprobs":0,"echo":true"#, "", "logprobs"),
        (
            r#""prompt":"a","best_of":3"#,
            "unsupported_value",
            "best_of",
        ),
        (
            r#""prompt":"a","suffix":"b""#,
            "unsupported_parameter",
            "suffix",
        ),
        (
            r#""prompt":"a","max_tokens":-1"#,
            "integer_below_min_value",
            "max_tokens",
        ),
    ];
    for (fields, code, param) in cases {
        refused(text_with(fields), code, param, fields);
    }
}

#[test]
fn accounts_do_not_share_blocks() {
    let salted = |account: &str| {
        let content = "a".repeat(3_000);
        let body =
            format!(r#"{{"model":"demo","messages":[{{"role":"user","content":"{content}"}}]}}"#);
        let generation = bound(read_bytes(Api::Chat, body.as_bytes()).unwrap(), account);
        assert_eq!(generation.request.cache_salt, account);
        generation.request.prefix_blocks
    };
    let (one, other) = (salted("one"), salted("other"));
    assert_eq!(one.len(), 2);
    assert!(one.iter().all(|block| !other.contains(block)));
}

#[test]
fn large_bodies_are_read_to_the_end() {
    // Each body takes milliseconds; a quadratic step would take minutes.
    let many = |piece: &str| vec![piece; (4 << 20) / (piece.len() + 1)].join(",");
    let content = r#"\""#.repeat(2 << 20);
    let messages = [
        many(r#"{"role":"user","content":""}"#),
        format!(r#"{{"role":"user","content":"{content}"}}"#),
    ];
    for messages in messages {
        let body = format!(r#"{{"model":"demo","messages":[{messages}]}}"#);
        let generation = read_bytes(Api::Chat, body.as_bytes()).unwrap();
        assert_eq!(
            chat_prompt(&generation).messages_json.len(),
            messages.len() + 2
        );
    }
    let unknown: Vec<String> = (0..350_000).map(|key| format!("\"x{key}\":1")).collect();
    let unknown = unknown.join(",");
    let extra = chat_with(&unknown).unwrap().request.extra_json;
    assert_eq!(extra.len(), unknown.len() + 2);
    let ids = text_with(&format!(r#""prompt":[{}]"#, many("1"))).unwrap();
    let Some(Prompt::Text(TextPrompt { content, .. })) = ids.request.prompt else {
        panic!("a text should be a text")
    };
    assert!(matches!(content, Some(Content::Tokens(TokenIds { ids })) if ids.len() == 2 << 20));
}

/// A body that exercises every parser.
const RICH: &str = r#"{"model":"demo","messages":[{"role":"system","content":[{"type":"text",
"text":"a\u00e9"}]},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":
{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"é"}],"tools":[{"type":
"function","function":{"name":"f","parameters":{"type":"object"},"strict":null}}],"tool_choice":
{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":
{"name":"f"}}]}},"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{}}},
"stop":["a","b"],"logit_bias":{"1":-1.5e1},"metadata":{"a":"b"},"reasoning_effort":"none",
"chat_template_kwargs":{"a":[1]},"stream":true,"stream_options":{"include_usage":true},"n":2,
"seed":-1,"x\n":{"y":[null]}}"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn a_damaged_body_is_refused_or_leaves_whole_json(
        at in any::<prop::sample::Index>(),
        with in prop::sample::select(&b"\"\\{}[],:0-e.un \x00\xc3"[..]),
        how in 0..3_u8,
    ) {
        let mut body = RICH.as_bytes().to_vec();
        prop_assert!(read_bytes(Api::Chat, &body).is_ok());
        let at = at.index(body.len());
        match how {
            0 => body[at] = with,
            1 => { body.remove(at); }
            _ => body.insert(at, with),
        }
        let result = read_bytes(Api::Chat, &body);
        if serde_json::from_slice::<Value>(&body).is_err() {
            prop_assert!(result.is_err());
        }
        let Ok(generation) = result else {
            return Ok(());
        };
        let is_json = |text: &Bytes| text.is_empty() || serde_json::from_slice::<Value>(text).is_ok();
        let chat = chat_prompt(&generation);
        prop_assert!(is_json(&chat.messages_json) && !chat.messages_json.is_empty());
        prop_assert!(is_json(&chat.tools_json) && is_json(&chat.template_kwargs_json));
        prop_assert!(is_json(&generation.request.extra_json));
        if let Some(Format::JsonSchema(schema)) =
            generation.request.response_format.and_then(|format| format.format)
        {
            prop_assert!(is_json(&schema.schema_json));
        }
    }
}
