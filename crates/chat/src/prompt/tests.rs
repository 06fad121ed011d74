//! Templates of known models, rendered as Jinja2 3.1 renders them with the settings of transformers'
//! `apply_chat_template` (the `.txt` files), and conversations of all kinds.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{
    ChatTemplate, Conversation, ReasoningFormat, Rendered, SpecialTokens, TemplateError, ToolFormat,
};

mod properties;

const DEMO: &str = include_str!("../../../../crates/demo-model/recipe/chat_template.jinja");
const QWEN: &str = include_str!("fixtures/qwen3.jinja");
const LLAMA: &str = include_str!("fixtures/llama3.jinja");
const MISTRAL: &str = include_str!("fixtures/mistral.jinja");
const DEEPSEEK: &str = include_str!("fixtures/deepseek-r1.jinja");
const CONVERSATION: &str = include_str!("fixtures/conversation.json");
const TOOLS: &str = include_str!("fixtures/tools.json");

static KNOWN: LazyLock<[ChatTemplate; 5]> =
    LazyLock::new(|| [DEMO, QWEN, LLAMA, MISTRAL, DEEPSEEK].map(template));

fn template(source: &str) -> ChatTemplate {
    let special = SpecialTokens {
        bos: "<bos>".to_owned(),
        eos: "<eos>".to_owned(),
        control: Vec::new(),
    };
    ChatTemplate::new(source, special).unwrap()
}

fn render(
    source: &str,
    messages: &str,
    tools: &str,
    kwargs: &str,
) -> Result<Rendered, TemplateError> {
    template(source).render(&conversation(messages, tools, kwargs), usize::MAX, &|| true)
}

fn conversation<'a>(messages: &'a str, tools: &'a str, kwargs: &'a str) -> Conversation<'a> {
    Conversation {
        messages_json: messages.as_bytes(),
        tools_json: tools.as_bytes(),
        template_kwargs_json: kwargs.as_bytes(),
    }
}

fn text(source: &str, messages: &Value) -> String {
    render(source, &messages.to_string(), "", "").unwrap().text
}

fn error(
    source: &str,
    messages: &str,
    tools: &str,
    kwargs: &str,
) -> (Option<&'static str>, String) {
    let error = render(source, messages, tools, kwargs).err().unwrap();
    (error.param(), error.to_string())
}

#[test]
fn known_templates_render_as_in_python() {
    let date = r#"{"date_string": "22 Nov 2026"}"#;
    for (source, expect) in [
        (DEMO, include_str!("fixtures/demo.txt")),
        (QWEN, include_str!("fixtures/qwen3.txt")),
        (LLAMA, include_str!("fixtures/llama3.txt")),
        (MISTRAL, include_str!("fixtures/mistral.txt")),
        (DEEPSEEK, include_str!("fixtures/deepseek-r1.txt")),
    ] {
        assert_eq!(
            render(source, CONVERSATION, TOOLS, date).unwrap().text,
            expect
        );
    }
}

#[test]
fn formats_are_read_off_the_template() {
    let think = Some(ReasoningFormat::Think);
    for (source, tools, reasoning) in [
        (DEMO, Some(ToolFormat::Hermes), None),
        (QWEN, Some(ToolFormat::Hermes), think),
        (LLAMA, Some(ToolFormat::Llama), None),
        (MISTRAL, Some(ToolFormat::Mistral), None),
        (DEEPSEEK, None, think),
        (
            "[TOOL_CALLS]name[ARGS]{}",
            Some(ToolFormat::MistralNamed),
            None,
        ),
        (
            "<tool_call><function=name></function></tool_call>",
            None,
            None,
        ),
        ("{{ messages }}", None, None),
    ] {
        let template = template(source);
        assert_eq!(template.tool_format(), tools, "{source}");
        assert_eq!(template.reasoning_format(), reasoning, "{source}");
    }
}

#[test]
fn the_prompt_can_open_the_reasoning() {
    let user = r#"[{"role": "user", "content": "Hi"}]"#;
    assert!(render(DEEPSEEK, user, "", "").unwrap().reasoning_open);
    let thinking = render(QWEN, user, "", "").unwrap();
    assert!(!thinking.reasoning_open);
    let silent = render(QWEN, user, "", r#"{"enable_thinking": false}"#).unwrap();
    assert!(!silent.reasoning_open);
    assert_eq!(silent.text, thinking.text + "<think>\n\n</think>\n\n");
}

#[test]
fn contents_fit_the_template() {
    let parts = json!([{ "role": "user", "content": [
        { "type": "text", "text": "a" }, { "type": "text", "text": "b" },
    ] }]);
    let string = json!([{ "role": "user", "content": "a" }]);
    let only_text = "{% for m in messages %}{{ m.content }};{% endfor %}";
    assert_eq!(text(only_text, &parts), "a\nb;");
    let both = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}\
                {% for p in m.content %}{{ p.text }}{% endfor %}{% endif %};{% endfor %}";
    assert_eq!(text(both, &parts), "ab;");
    assert_eq!(text(both, &string), "a;");
    let only_parts = "{% for m in messages %}{% for p in m['content'] %}{% if p['type'] == 'text' %}\
                      {{ p['text'] }}{% endif %}{% endfor %};{% endfor %}";
    assert_eq!(text(only_parts, &parts), "ab;");
    assert_eq!(text(only_parts, &string), "a;");
    let (param, message) = error(
        only_text,
        r#"[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]"#,
        "",
        "",
    );
    assert_eq!(param, Some("messages"));
    assert_eq!(
        message,
        "'messages' is not valid: messages[0].content[0] must be of type 'text': this model reads only text."
    );
}

#[test]
fn a_developer_is_the_system_where_the_template_knows_none() {
    let messages = json!([{ "role": "developer", "content": "a" }]);
    let roles = "{% for m in messages %}{{ m.role }}{% endfor %}";
    assert_eq!(text(roles, &messages), "system");
    assert_eq!(
        text(&format!("{roles}{{# developer #}}"), &messages),
        "developer"
    );
}

#[test]
fn fields_that_are_null_are_not_there() {
    let messages =
        json!([{ "role": "assistant", "content": "a", "tool_calls": null, "name": null }]);
    let keys = "{% for m in messages %}{{ m.keys()|join(',') }}{% endfor %}";
    assert_eq!(text(keys, &messages), "role,content");
    let messages = json!([{ "role": "assistant", "tool_calls": [] }]);
    assert_eq!(text(keys, &messages), "role,content");
}

#[test]
fn python_is_spoken() {
    let show = |expression: &str| text(&format!("{{{{ {expression} }}}}"), &json!([]));
    for (expression, expect) in [
        ("none", "None"),
        ("true", "True"),
        ("not_there", ""),
        (
            "[1, 2.0, 'ä<', {'b': none}]|tojson",
            "[1, 2.0, \"ä<\", {\"b\": null}]",
        ),
        (
            "{'b': 1, 'a': [true]}|tojson(indent=2)",
            "{\n  \"b\": 1,\n  \"a\": [\n    true\n  ]\n}",
        ),
        (
            "{'b': 1, 'a': 2}|tojson(separators=(',', ':'))",
            "{\"b\":1,\"a\":2}",
        ),
        ("[1]|tojson(ensure_ascii=False)", "[1]"),
        ("'a-b'.split('-')[-1].upper()", "B"),
        ("'x' is iterable", "True"),
        ("1 is iterable", "False"),
        ("{} is sequence", "True"),
        ("strftime_now('%Y')|length", "4"),
    ] {
        assert_eq!(show(expression), expect, "{expression}");
    }
    let looped = "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}\
                  {% break %}{% endif %}{{ i }}{% endfor %}";
    assert_eq!(text(looped, &json!([])), "02");
    let marked = "{% for m in messages %}\n  {%- generation -%} {{ m.content }}{% endgeneration %}\n{% endfor %}";
    assert_eq!(
        text(marked, &json!([{ "role": "user", "content": "a" }])),
        "a"
    );
}

#[test]
fn a_template_can_refuse() {
    let twice = r#"[{"role": "user", "content": "a"}, {"role": "user", "content": "secret"}]"#;
    let (param, message) = error(MISTRAL, twice, "", "");
    assert_eq!(param, Some("messages"));
    assert!(
        message.ends_with("roles must alternate user/assistant/user/assistant/..."),
        "{message}"
    );
}

#[test]
fn what_a_template_cannot_render_is_named() {
    let user = r#"[{"role": "user", "content": "a"}]"#;
    let source = "{{ messages[0].content }}{% for tool in tools or [] %}{% for name in \
                  tool.function.parameters.properties.items() %}{{ name }}{% endfor %}{% endfor %}\
                  {% if effort is defined and effort is not string %}{{ raise_exception('No.') }}{% endif %}";
    let tool = |properties: &str| {
        format!(r#"[{{"function": {{"parameters": {{"properties": {properties}}}}}}}]"#)
    };
    assert!(render(source, user, &tool("{}"), r#"{"effort": "low"}"#).is_ok());
    let (param, message) = error(source, user, &tool("null"), "");
    assert_eq!(param, Some("tools"));
    assert!(
        message.starts_with("The model's chat template cannot render these tools ("),
        "{message}"
    );
    let (param, message) = error(source, user, &tool("{}"), r#"{"effort": 5}"#);
    assert_eq!(param, Some("chat_template_kwargs"));
    assert!(message.ends_with("'reasoning_effort'): No."), "{message}");
    let (param, _) = error(
        &format!("{source}{{{{ messages[1].a }}}}"),
        user,
        &tool("{}"),
        "",
    );
    assert_eq!(param, Some("messages"));
}

#[test]
fn numbers_stay_as_the_client_wrote_them() {
    let numbers = r#"{"a": 1234567890123456789012, "b": [0.12345678901234567890, 9007199254740993], "c": -1e-400}"#;
    let arguments = serde_json::to_string(numbers).unwrap();
    let messages = format!(
        r#"[{{"role": "user", "content": "a", "x": {numbers}}}, {{"role": "assistant", "tool_calls": [
            {{"id": "123456789", "type": "function", "function": {{"name": "f", "arguments": {arguments}}}}}]}}]"#
    );
    let tools = format!(
        r#"[{{"type": "function", "function": {{"name": "f", "parameters": {{"properties": {{}}, "const": {numbers}}}}}}}]"#
    );
    let calls = render(QWEN, &messages, &tools, "").unwrap().text;
    assert_eq!(calls.matches(numbers).count(), 2, "{calls}");
    let source = "{{ messages[0].x | tojson }}|{{ x.a }}|{{ x.b[0] | string }}|{{ x.b[0] is number }}|\
                  {{ x.c is string }}|{{ x.b }}";
    let printed = render(source, &messages, "", &format!(r#"{{"x": {numbers}}}"#)).unwrap();
    assert_eq!(
        printed.text,
        format!(
            "{numbers}|1234567890123456789012|0.12345678901234567890|True|False|\
             [0.12345678901234567890, 9007199254740993]"
        )
    );
    let indented = render("{{ messages[0].x | tojson(indent=1) }}", &messages, "", "").unwrap();
    assert!(
        indented.text.contains("\n  0.12345678901234567890,"),
        "{}",
        indented.text
    );
}

#[test]
fn errors_quote_nothing_of_the_conversation() {
    let source = "\n{{ messages[0].content.secret.more }}";
    let (param, message) = error(source, r#"[{"role": "user", "content": "secret"}]"#, "", "");
    assert_eq!(param, Some("messages"));
    assert!(
        message.contains("undefined value in line 2") && !message.contains("secret"),
        "{message}"
    );
}

#[test]
fn a_template_without_end_is_stopped() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    let (param, message) = error(endless, "[]", "", "");
    assert_eq!(param, Some("messages"));
    assert!(
        message.starts_with("The conversation is too long"),
        "{message}"
    );
}

#[test]
fn what_is_not_a_template_is_said_at_the_start() {
    let special = SpecialTokens {
        bos: String::new(),
        eos: String::new(),
        control: Vec::new(),
    };
    let error = ChatTemplate::new("{% if %}", special).err().unwrap();
    assert_eq!(error.param(), None);
    assert!(
        error
            .to_string()
            .starts_with("The model's chat template cannot be compiled: "),
        "{error}"
    );
}

#[test]
fn wrong_json_names_its_place() {
    let user = r#"[{"role": "user", "content": "a"}]"#;
    let cases = [
        (
            "[{",
            "",
            "",
            "messages",
            "it is not JSON at line 1, column 2",
        ),
        ("{}", "", "", "messages", "it must be a list"),
        ("[1]", "", "", "messages", "messages[0] must be an object"),
        (
            r#"[{"role": "user", "content": 1}]"#,
            "",
            "",
            "messages",
            "messages[0].content must be a string or a list of parts",
        ),
        (
            r#"[{"role": "assistant", "tool_calls": [1]}]"#,
            "",
            "",
            "messages",
            "messages[0].tool_calls[0] must be an object",
        ),
        (user, "{}", "", "tools", "it must be a list of objects"),
        (
            user,
            "",
            "[]",
            "chat_template_kwargs",
            "it must be an object",
        ),
    ];
    for (messages, tools, kwargs, param, reason) in cases {
        let expect = (Some(param), format!("'{param}' is not valid: {reason}."));
        assert_eq!(error(DEMO, messages, tools, kwargs), expect);
    }
}

#[test]
fn a_prompt_ends_where_it_is_too_long_or_nobody_waits() {
    let messages = vec![json!({"role": "user", "content": "a"}); 10_000];
    let messages = json!(messages).to_string();
    let chat = conversation(&messages, "", "");
    let whole = KNOWN[0].render(&chat, usize::MAX, &|| true).unwrap().text;
    let rendered = KNOWN[0].render(&chat, whole.len(), &|| true);
    assert_eq!(rendered.unwrap().text, whole);
    let refused = KNOWN[0].render(&chat, 1_000, &|| true).err().unwrap();
    assert!(
        matches!(
            refused,
            TemplateError::TooLong {
                bytes: 1_001..1_100
            }
        ),
        "{refused}"
    );
    let asked = std::cell::Cell::new(0);
    let stopped = KNOWN[0].render(&chat, usize::MAX, &|| {
        asked.set(asked.get() + 1);
        asked.get() < 3
    });
    assert!(matches!(stopped, Err(TemplateError::Stopped)));
    assert_eq!(asked.get(), 3, "it is not asked again");
}
