//! The client's messages and tools become what chat templates are used to.

use minijinja::{Value, value::ValueKind};

use super::{
    TemplateError,
    capabilities::{Arguments, Contents, TemplateCapabilities, text_part},
    exact,
};

/// The messages of a conversation.
pub(super) fn messages(
    json: &[u8],
    capabilities: &TemplateCapabilities,
) -> Result<Value, TemplateError> {
    let messages = read(json, "messages")?;
    if messages.kind() != ValueKind::Seq {
        return Err(invalid("messages", "it must be a list".to_owned()));
    }
    let messages = items(&messages).enumerate().map(|(at, message)| {
        let message = fields(&message)
            .ok_or_else(|| invalid("messages", format!("messages[{at}] must be an object")))?;
        self::message(message, capabilities)
            .map_err(|reason| invalid("messages", format!("messages[{at}].{reason}")))
    });
    messages.collect::<Result<Vec<_>, _>>().map(Value::from)
}

/// The tools; none where the list is empty.
pub(super) fn tools(json: &[u8]) -> Result<Value, TemplateError> {
    if json.is_empty() {
        return Ok(Value::from(()));
    }
    let tools = read(json, "tools")?;
    match (tools.kind(), tools.len()) {
        (ValueKind::Seq, Some(0)) | (ValueKind::None, _) => Ok(Value::from(())),
        (ValueKind::Seq, _) if items(&tools).all(|tool| tool.kind() == ValueKind::Map) => Ok(tools),
        _ => Err(invalid("tools", "it must be a list of objects".to_owned())),
    }
}

/// The fields of an object; empty text has none.
pub(super) fn object(
    json: &[u8],
    param: &'static str,
) -> Result<Vec<(String, Value)>, TemplateError> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    fields(&read(json, param)?).ok_or_else(|| invalid(param, "it must be an object".to_owned()))
}

fn read(json: &[u8], param: &'static str) -> Result<Value, TemplateError> {
    exact::read(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        invalid(
            param,
            format!("it is not JSON at line {line}, column {column}"),
        )
    })
}

fn invalid(param: &'static str, reason: String) -> TemplateError {
    TemplateError::Read { param, reason }
}

fn items(list: &Value) -> impl Iterator<Item = Value> {
    list.try_iter().into_iter().flatten()
}

fn fields(object: &Value) -> Option<Vec<(String, Value)>> {
    let keys = (object.kind() == ValueKind::Map).then(|| items(object))?;
    Some(
        keys.filter_map(|key| Some((key.as_str()?.to_owned(), object.get_item(&key).ok()?)))
            .collect(),
    )
}

/// An error names the path of the field at fault within the message.
fn message(
    fields: Vec<(String, Value)>,
    capabilities: &TemplateCapabilities,
) -> Result<Value, String> {
    let mut has_content = false;
    let mut message = Vec::with_capacity(fields.len() + 1);
    for (name, value) in fields {
        let value = match name.as_str() {
            "content" => {
                has_content = true;
                content(&value, capabilities)?
            }
            // Templates ask whether the field is there, not what it is.
            _ if value.is_none() => continue,
            "tool_calls" if value.len() == Some(0) => continue,
            "tool_calls" => tool_calls(&value, capabilities)?,
            "role" if value.as_str() == Some("developer") && !capabilities.developer => {
                Value::from("system")
            }
            "tool_call_id" => call_id(value, capabilities),
            _ => value,
        };
        message.push((name, value));
    }
    if !has_content {
        message.push((
            "content".to_owned(),
            content(&Value::from(()), capabilities)?,
        ));
    }
    Ok(message.into_iter().collect())
}

fn content(content: &Value, capabilities: &TemplateCapabilities) -> Result<Value, String> {
    match (content.kind(), capabilities.contents) {
        (ValueKind::String, Contents::Parts) => Ok(Value::from_iter([text_part(content.clone())])),
        (ValueKind::String, _) => Ok(content.clone()),
        (ValueKind::None, _) if capabilities.null_content => Ok(content.clone()),
        (ValueKind::None, Contents::Parts) => Ok(Value::from(Vec::<Value>::new())),
        (ValueKind::None, _) => Ok(Value::from("")),
        (ValueKind::Seq, _) => {
            let texts = items(content)
                .enumerate()
                .map(|(at, part)| part_text(at, &part));
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            Ok(match capabilities.contents {
                Contents::Text => {
                    let texts: Vec<_> = texts.iter().filter_map(Value::as_str).collect();
                    Value::from(texts.join("\n"))
                }
                Contents::Parts | Contents::TextOrParts => {
                    texts.into_iter().map(text_part).collect()
                }
            })
        }
        _ => Err("content must be a string or a list of parts".to_owned()),
    }
}

fn part_text(at: usize, part: &Value) -> Result<Value, String> {
    let kind = part.get_attr("type").unwrap_or_default();
    let field = match kind.as_str() {
        Some("text") => "text",
        Some("refusal") => "refusal",
        _ => {
            return Err(format!(
                "content[{at}] must be of type 'text': this model reads only text"
            ));
        }
    };
    let text = part.get_attr(field).unwrap_or_default();
    if text.as_str().is_none() {
        return Err(format!("content[{at}].{field} must be a string"));
    }
    Ok(text)
}

fn tool_calls(calls: &Value, capabilities: &TemplateCapabilities) -> Result<Value, String> {
    if calls.kind() != ValueKind::Seq {
        return Err("tool_calls must be a list".to_owned());
    }
    let calls = items(calls).enumerate().map(|(at, call)| {
        let call = fields(&call).ok_or_else(|| format!("tool_calls[{at}] must be an object"))?;
        let call = call.into_iter().map(|(name, value)| {
            let value = match name.as_str() {
                "id" => call_id(value, capabilities),
                "function" if capabilities.arguments == Arguments::Json => function(&value),
                _ => value,
            };
            (name, value)
        });
        Ok(call.collect())
    });
    calls
        .collect::<Result<Vec<Value>, String>>()
        .map(Value::from)
}

/// OpenAI sends the arguments as a text that holds JSON; templates are used to the JSON itself.
fn function(function: &Value) -> Value {
    let Some(fields) = fields(function) else {
        return function.clone();
    };
    let fields = fields
        .into_iter()
        .map(|(name, value)| match value.as_str() {
            Some(text) if name == "arguments" => {
                let json = if text.trim().is_empty() { "{}" } else { text };
                let arguments = exact::read(json.as_bytes()).ok();
                let arguments = arguments.filter(|it| it.kind() == ValueKind::Map);
                (name, arguments.unwrap_or(value))
            }
            _ => (name, value),
        });
    fields.collect()
}

/// The last nine characters of an id: the random ones.
fn call_id(id: Value, capabilities: &TemplateCapabilities) -> Value {
    match id.as_str().and_then(|text| text.char_indices().nth_back(8)) {
        Some((at, _)) if capabilities.short_ids => {
            id.as_str().map_or(id.clone(), |text| (&text[at..]).into())
        }
        _ => id,
    }
}
