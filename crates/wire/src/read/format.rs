//! `response_format`, and variables of the chat template.

use bytes::Bytes;
use inferyard_proto::worker::v1::response_format::Format;
use inferyard_proto::worker::v1::{JsonObject, JsonSchema, ResponseFormat};

use super::cursor::{Cursor, Kind};
use super::fields::{Field, Fields};
use super::tools::{check_name, object_kind, string};
use super::walk::{Stop, members};
use super::{ReadError, schema};

/// Reads `response_format`; the type `text` is `None`.
pub(super) fn response_format(fields: &Fields) -> Result<Option<ResponseFormat>, ReadError> {
    let Some(field) = fields.get("response_format") else {
        return Ok(None);
    };
    if field.kind != Kind::Object {
        return Err(ReadError::wrong_type(
            "response_format",
            "an object",
            field.kind,
        ));
    }
    let (mut named, mut schema) = (None, None);
    members(fields.text(field), |cursor, key| {
        if key.is("type") {
            named = Some(string(cursor, "response_format.type".to_owned())?.decoded());
        } else if key.is("json_schema") {
            schema = Some(json_schema(cursor, fields, field)?);
        } else {
            cursor.skip()?;
        }
        Ok(())
    })?;
    let format = match named.as_deref() {
        None => return Err(ReadError::missing("response_format.type")),
        Some("text") => return Ok(None),
        Some("json_object") => Format::JsonObject(JsonObject {}),
        Some("json_schema") => Format::JsonSchema(
            schema.ok_or_else(|| ReadError::missing("response_format.json_schema"))?,
        ),
        Some(other) => {
            let values = ["text", "json_object", "json_schema"];
            return Err(ReadError::not_one_of(
                "response_format.type",
                other,
                &values,
            ));
        }
    };
    Ok(Some(ResponseFormat {
        format: Some(format),
    }))
}

fn json_schema(cursor: &mut Cursor, fields: &Fields, field: &Field) -> Result<JsonSchema, Stop> {
    const PATH: &str = "response_format.json_schema";
    object_kind(cursor, PATH.to_owned())?;
    let (mut name, mut strict) = (None, false);
    // Without a schema any JSON value is allowed.
    let mut schema_json = Bytes::from_static(b"{}");
    cursor.object::<Stop>(|cursor, key| {
        let kind = cursor.kind()?;
        if key.is("name") {
            let path = format!("{PATH}.name");
            let text = string(cursor, path.clone())?.decoded();
            check_name(&path, &text)?;
            name = Some(text);
        } else if key.is("schema") && kind != Kind::Null {
            if kind != Kind::Object {
                return Err(
                    ReadError::wrong_type(format!("{PATH}.schema"), "an object", kind).into(),
                );
            }
            let start = cursor.position();
            schema::walk(cursor, &|rest| format!("{PATH}.schema{rest}"))?;
            let before = field.range.start;
            schema_json = fields.slice(before + start..before + cursor.position());
        } else if key.is("strict") && kind != Kind::Null {
            if kind != Kind::Bool {
                let path = format!("{PATH}.strict");
                return Err(ReadError::wrong_type(path, "a boolean", kind).into());
            }
            strict = fields.text(field)[cursor.range()?] == *b"true";
        } else {
            cursor.skip()?;
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| ReadError::missing(format!("{PATH}.name")))?;
    Ok(JsonSchema {
        name,
        schema_json,
        strict,
    })
}

/// `chat_template_kwargs`, with `reasoning_effort` added unless the client sets that variable itself. `none`
/// also disables thinking in templates that have only the switch `enable_thinking`.
pub(super) fn template_kwargs(fields: &Fields) -> Result<Bytes, ReadError> {
    let given = match fields.get("chat_template_kwargs") {
        Some(field) if field.kind == Kind::Object => Some(field),
        Some(field) => {
            let name = "chat_template_kwargs";
            return Err(ReadError::wrong_type(name, "an object", field.kind));
        }
        None => None,
    };
    let Some(effort) = fields.one_of("reasoning_effort")? else {
        return Ok(given.map_or_else(Bytes::new, |field| fields.slice(field.range.clone())));
    };
    // The client's own variables win, so that no key is duplicated.
    let rest = given.map_or("{}".as_bytes(), |field| fields.text(field));
    let (mut has_effort, mut has_switch) = (false, false);
    members(rest, |cursor, key| {
        has_effort |= key.is("reasoning_effort");
        has_switch |= key.is("enable_thinking");
        Ok(cursor.skip()?)
    })?;
    let mut head = String::from("{");
    if !has_effort {
        head = format!("{head}\"reasoning_effort\":\"{effort}\",");
    }
    if effort == "none" && !has_switch {
        head.push_str("\"enable_thinking\":false,");
    }
    let rest = rest[1..].trim_ascii_start();
    let head = match rest {
        b"}" => head.trim_end_matches(','),
        _ => &head,
    };
    Ok([head.as_bytes(), rest].concat().into())
}
