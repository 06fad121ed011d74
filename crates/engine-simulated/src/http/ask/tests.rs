//! Bodies that are read, and bodies that are not.

use std::borrow::Cow;

use super::*;

fn read(endpoint: Endpoint, body: &str) -> Result<Ask, Failure> {
    Ask::read(endpoint, &Bytes::copy_from_slice(body.as_bytes()))
}

fn refused(endpoint: Endpoint, body: &str) -> Option<Cow<'static, str>> {
    read(endpoint, body)
        .err()
        .expect("it should be refused")
        .param
}

#[test]
fn a_chat_keeps_its_bytes() {
    let body = r#"{"model":"m","messages":[ {"role":"user","content":"x"} ],"stream":true,"n":2,
        "stream_options":{"include_usage":true},"max_tokens":3,"max_completion_tokens":4,
        "stop":"end","response_format":{"type":"text"},"priority":-2,"temperature":0.5}"#;
    let Ask {
        model,
        request,
        shape,
    } = read(Endpoint::Chat, body).unwrap();
    assert_eq!(model, "m");
    assert!(shape.streamed && shape.include_usage && shape.choices == 2);
    assert_eq!((request.max_tokens, request.priority), (Some(4), -2));
    assert_eq!(request.stop, ["end"]);
    assert!(request.format.is_none());
    let Prompt::Chat(chat) = request.prompt else {
        panic!("a chat was asked for");
    };
    assert_eq!(
        &chat.messages_json[..],
        br#"[ {"role":"user","content":"x"} ]"#
    );
    assert!(chat.tools_json.is_empty());
}

#[test]
fn tools_that_must_not_be_called_are_no_part_of_the_prompt() {
    let tools = format!(r#"[{{"x":"{}"}}]"#, "a".repeat(2 * BLOCK));
    let asked = |choice: &str| {
        let body =
            format!(r#"{{"model":"m","messages":[],"tools":{tools},"tool_choice":{choice}}}"#);
        let request = read(Endpoint::Chat, &body).unwrap().request;
        let Prompt::Chat(chat) = request.prompt else {
            panic!("a chat was asked for");
        };
        (chat.tools_json.len(), request.prefix_blocks.len())
    };
    assert_eq!(asked("\"auto\""), (tools.len(), 2));
    assert_eq!(asked("\"none\""), (0, 0));
}

#[test]
fn a_prompt_is_text_or_tokens() {
    let prompt = |body| match read(Endpoint::Completions, body).unwrap().request.prompt {
        Prompt::Text { source, .. } => source,
        Prompt::Chat(_) => panic!("no chat was asked for"),
    };
    let text = prompt(r#"{"model":"m","prompt":"a\n","stop":["x",""],"stream":null}"#);
    assert!(matches!(text, TextSource::Text(text) if text == "a\n"));
    let ids = prompt(r#"{"model":"m","prompt":[1,2]}"#);
    assert!(matches!(ids, TextSource::Tokens(ids) if ids == [1, 2]));
}

#[test]
fn what_is_wrong_is_named() {
    use Endpoint::{Chat, Completions};
    assert_eq!(refused(Chat, "no JSON"), None);
    assert_eq!(refused(Chat, r#"{"model":"m"}"#), Some("messages".into()));
    assert_eq!(
        refused(Chat, r#"{"model":"m","messages":{}}"#),
        Some("messages".into())
    );
    assert_eq!(
        refused(Chat, r#"{"model":"m","messages":[],"n":0}"#),
        Some("n".into())
    );
    assert_eq!(
        refused(Chat, r#"{"model":"m","messages":[],"stop":1}"#),
        Some("stop".into())
    );
    assert_eq!(
        refused(Completions, r#"{"model":"m"}"#),
        Some("prompt".into())
    );
    assert_eq!(
        refused(Completions, r#"{"model":"m","prompt":["a"]}"#),
        Some("prompt".into())
    );
}

#[test]
fn prefixes_share_their_blocks() {
    let long = "a".repeat(3 * BLOCK + 5);
    let blocks = chain("", [b"", long.as_bytes()]);
    assert_eq!(blocks.len(), 3);
    let other = format!("{}b", &long[..2 * BLOCK]);
    assert_eq!(chain("", [b"", other.as_bytes()]), blocks[..2]);
    let all_others = [
        chain("salt", [b"", long.as_bytes()]),
        chain("", [b"tool", long.as_bytes()]),
    ];
    for others in all_others {
        assert!(others.iter().all(|block| !blocks.contains(block)));
    }
}
