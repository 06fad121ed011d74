//! Conversations of any form: nothing breaks a template, and what it is given comes through unchanged.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Conversation, KNOWN, conversation};

fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("role"),
        Just("content"),
        Just("tool_calls"),
        Just("function"),
        Just("name"),
        Just("arguments"),
        Just("type"),
        Just("text"),
        Just("id"),
        Just("tool_call_id"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        "\\PC{0,8}".prop_map(Value::from),
        prop_oneof![
            Just("user"),
            Just("assistant"),
            Just("tool"),
            Just("text"),
            Just("{}")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..5).prop_map(|fields| {
                fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn contents_come_through_unchanged(turns in proptest::collection::vec(("\\PC{0,40}", any::<bool>()), 1..6)) {
        let message = |(content, user): &(String, bool)| {
            json!({ "role": if *user { "user" } else { "assistant" }, "content": content })
        };
        let messages: Vec<_> = turns.iter().map(message).collect();
        let turn = |(content, user): &(String, bool)| {
            format!("<|{}|>{content}<|im_end|>", if *user { "user" } else { "assistant" })
        };
        let expect = turns.iter().map(turn).collect::<Vec<_>>().concat();
        let prompt = KNOWN[0].render(&conversation(&json!(messages).to_string(), "", ""), usize::MAX, &|| true).unwrap();
        prop_assert_eq!(prompt.text, format!("<bos>{expect}<|assistant|>"));
    }

    #[test]
    fn no_json_breaks_a_template(messages in any_json(), tools in any_json(), kwargs in any_json()) {
        let (tools, kwargs) = (json!([{ "function": tools }]).to_string(), kwargs.to_string());
        let list = json!([messages]).to_string();
        for template in KNOWN.iter() {
            let _ = template.render(&conversation(&list, &tools, ""), usize::MAX, &|| true);
            let _ = template.render(&conversation(&messages.to_string(), "", &kwargs), usize::MAX, &|| true);
        }
    }

    #[test]
    fn no_bytes_break_a_template(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let chat = Conversation { messages_json: &bytes, tools_json: &bytes, template_kwargs_json: &bytes };
        let _ = KNOWN[0].render(&chat, usize::MAX, &|| true);
    }

    #[test]
    fn arguments_come_through_as_python_writes_them(key in "\\PC{0,8}", value in any_json()) {
        let arguments = json!({ key: value });
        let call = json!({ "function": { "name": "f", "arguments": arguments.to_string() } });
        let messages = json!([{ "role": "assistant", "content": null, "tool_calls": [call] }]);
        let prompt = KNOWN[0].render(&conversation(&messages.to_string(), "", ""), usize::MAX, &|| true).unwrap().text;
        let written = prompt.split_once("\"arguments\": ").unwrap().1;
        let written = written.rsplit_once("}</tool_call>").unwrap().0;
        prop_assert_eq!(serde_json::from_str::<Value>(written).unwrap(), arguments);
    }
}
