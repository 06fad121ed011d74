//! What a chat template is used to. Templates do not say it, so it is found by trying them.

use minijinja::Value;

use super::ToolFormat;

/// What a template is used to.
pub(super) struct TemplateCapabilities {
    /// The contents of messages that it understands.
    pub(super) contents: Contents,
    /// An answer without content may be `null`; otherwise it is an empty text.
    pub(super) null_content: bool,
    /// The arguments of calls that it understands.
    pub(super) arguments: Arguments,
    /// It knows the role `developer`; others get it as `system`, which they do not leave out.
    pub(super) developer: bool,
    /// It insists on ids of tool calls with nine characters.
    pub(super) short_ids: bool,
}

/// The contents of messages that a template understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// Texts; parts are joined by line feeds.
    Text,
    /// Lists of parts; a text becomes one.
    Parts,
    /// Both, as the client sent them.
    TextOrParts,
}

/// The arguments of calls that a template understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arguments {
    /// The JSON itself.
    Json,
    /// A text that holds the JSON, as OpenAI has it.
    Text,
}

const PROBE: &str = "a probe of the template";

// === impl TemplateCapabilities ===

impl TemplateCapabilities {
    /// Tries a template. `render` gives the prompt of some messages, if there is one.
    pub(super) fn find(source: &str, render: impl Fn(Value) -> Option<String>) -> Self {
        let format = ToolFormat::of_template(source);
        Self {
            contents: contents(&render),
            null_content: render(calling(Value::from(()), Value::from(PROBE)))
                .or_else(|| render(calling(Value::from(()), arguments())))
                .is_some_and(|prompt| !prompt.contains("None")),
            arguments: render(calling(Value::from(""), arguments()))
                .filter(|prompt| prompt.contains(&format!("\"{PROBE}\"")))
                .map_or(Arguments::Text, |_| Arguments::Json),
            developer: source.contains("developer"),
            short_ids: matches!(format, Some(ToolFormat::Mistral | ToolFormat::MistralNamed)),
        }
    }
}

fn contents(render: impl Fn(Value) -> Option<String>) -> Contents {
    let with = |content: Value| {
        let prompt = render(Value::from_iter([message("user", content)]))?;
        prompt.contains(PROBE).then_some(prompt)
    };
    let text = with(Value::from(PROBE));
    // A list that is printed as it is, with its names and brackets, is not understood.
    let parts =
        with(Value::from_iter([text_part(PROBE)])).filter(|prompt| !prompt.contains("\"type\""));
    match (text, parts) {
        (Some(text), Some(parts)) if text == parts => Contents::TextOrParts,
        (None, Some(_)) => Contents::Parts,
        _ => Contents::Text,
    }
}

fn message(role: &str, content: Value) -> Value {
    Value::from_iter([("role", Value::from(role)), ("content", content)])
}

fn arguments() -> Value {
    Value::from_iter([(PROBE, 1)])
}

/// A question, and a call as its answer.
fn calling(content: Value, arguments: Value) -> Value {
    let function = Value::from_iter([("name", Value::from("probe")), ("arguments", arguments)]);
    let call = [
        ("id", Value::from("probe0001")),
        ("type", Value::from("function")),
        ("function", function),
    ];
    let answer = [
        ("role", Value::from("assistant")),
        ("content", content),
        ("tool_calls", Value::from_iter([Value::from_iter(call)])),
    ];
    Value::from_iter([
        message("user", Value::from(PROBE)),
        Value::from_iter(answer),
    ])
}

/// A part of a message's contents that is text.
pub(super) fn text_part(text: impl Into<Value>) -> Value {
    Value::from_iter([("type", Value::from("text")), ("text", text.into())])
}
