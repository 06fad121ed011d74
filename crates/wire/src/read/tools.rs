//! Reads `tools` and `tool_choice`.

use bytes::Bytes;
use inferyard_proto::worker::v1::ToolChoice;
use inferyard_proto::worker::v1::tool_choice::Mode;

use super::cursor::{Cursor, Kind, Raw};
use super::fields::Fields;
use super::length::check_length;
use super::text::shortened;
use super::walk::{Stop, elements, members};
use super::{Param, ReadError, schema};

/// OpenAI's limits: number of tools, and length of a name in characters.
const MOST_TOOLS: usize = 128;
const LONGEST_NAME: usize = 64;
/// The allowed strings of `tool_choice`.
const MODES: &[&str] = &["none", "auto", "required"];

/// The tools of a request.
#[derive(Debug, Default)]
pub(super) struct Tools {
    /// The client's own bytes; empty if there are no tools.
    pub(super) json: Bytes,
    /// The names of the tools, in order.
    pub(super) names: Vec<String>,
}

/// Builds the path of a value from its path within a tool, for errors.
type Path<'a> = &'a dyn Fn(&str) -> String;

/// Reads `tools`.
pub(super) fn tools(fields: &Fields) -> Result<Tools, ReadError> {
    let Some(field) = fields.get("tools") else {
        return Ok(Tools::default());
    };
    if field.kind != Kind::Array {
        let expected = "an array of objects";
        return Err(ReadError::wrong_type("tools", expected, field.kind));
    }
    let mut names = Vec::new();
    elements(fields.text(field), |cursor, index| {
        if index == MOST_TOOLS {
            return Err(ReadError::long_array("tools", MOST_TOOLS).into());
        }
        names.push(tool(cursor, &|name| format!("tools[{index}]{name}"))?);
        Ok(())
    })?;
    if names.is_empty() {
        return Err(ReadError::empty_array("tools"));
    }
    Ok(Tools {
        json: fields.slice(field.range.clone()),
        names,
    })
}

/// Checks `{"type": "function", "function": {"name": …}}`; returns the name.
fn tool(cursor: &mut Cursor, path: Path) -> Result<String, Stop> {
    object_kind(cursor, path(""))?;
    let (mut named, mut function_name) = (false, None);
    cursor.object::<Stop>(|cursor, key| {
        let kind = cursor.kind()?;
        if key.is("type") {
            named = true;
            let named = string(cursor, path(".type"))?;
            if !named.is("function") {
                return Err(only_functions(path(".type"), named).into());
            }
        } else if key.is("function") {
            function_name = Some(function(cursor, kind, path)?);
        } else {
            cursor.skip()?;
        }
        Ok(())
    })?;
    match function_name {
        Some(name) if named => Ok(name),
        Some(_) => Err(ReadError::missing(path(".type")).into()),
        None => Err(ReadError::missing(path(".function")).into()),
    }
}

fn function(cursor: &mut Cursor, kind: Kind, path: Path) -> Result<String, Stop> {
    if kind != Kind::Object {
        return Err(ReadError::wrong_type(path(".function"), "an object", kind).into());
    }
    let inner = |name: &str| path(&format!(".function.{name}"));
    let mut function_name = None;
    cursor.object::<Stop>(|cursor, key| {
        let kind = cursor.kind()?;
        let expected = match &*key.name() {
            b"name" => {
                let name = string(cursor, inner("name"))?.decoded();
                check_name(&inner("name"), &name)?;
                function_name = Some(name);
                return Ok(());
            }
            b"description" => (Kind::String, "a string"),
            b"parameters" if kind == Kind::Object => {
                return schema::walk(cursor, &|rest| inner(&format!("parameters{rest}")));
            }
            b"parameters" => (Kind::Object, "an object"),
            b"strict" => (Kind::Bool, "a boolean"),
            _ => (kind, ""),
        };
        if kind != expected.0 && kind != Kind::Null {
            let path = inner(&key.decoded());
            return Err(ReadError::wrong_type(path, expected.1, kind).into());
        }
        cursor.skip()?;
        Ok(())
    })?;
    function_name.ok_or_else(|| ReadError::missing(inner("name")).into())
}

/// Reads `tool_choice`, and checks it against the names of the tools.
pub(super) fn tool_choice(
    fields: &Fields,
    tools: &[String],
) -> Result<Option<ToolChoice>, ReadError> {
    let Some(field) = fields.get("tool_choice") else {
        return Ok(None);
    };
    let (mode, names) = match field.kind {
        Kind::String => {
            let word = fields.string("tool_choice")?.unwrap_or_default();
            if !MODES.contains(&word.as_str()) {
                return Err(ReadError::not_one_of("tool_choice", &word, MODES));
            }
            (mode(&word), Vec::new())
        }
        Kind::Object => chosen(fields.text(field))?,
        Kind::Null | Kind::Bool | Kind::Number | Kind::Array => {
            let expected = "a string or an object";
            return Err(ReadError::wrong_type("tool_choice", expected, field.kind));
        }
    };
    if tools.is_empty() {
        return match mode {
            Mode::None => Ok(None),
            _ => Err(ReadError::Conflict {
                param: Param::new("tool_choice"),
                problem: "'tool_choice' is only allowed when 'tools' are specified.",
            }),
        };
    }
    if let Some(stranger) = names.iter().find(|name| !tools.contains(name)) {
        return Err(ReadError::Value {
            param: Param::new("tool_choice"),
            problem: format!("no tool of 'tools' is named '{}'.", shortened(stranger)),
        });
    }
    Ok(Some(ToolChoice {
        mode: mode.into(),
        names,
    }))
}

fn mode(word: &str) -> Mode {
    match word {
        "none" => Mode::None,
        "required" => Mode::Required,
        _ => Mode::Auto,
    }
}

/// Reads a named function, or `allowed_tools`.
fn chosen(text: &[u8]) -> Result<(Mode, Vec<String>), ReadError> {
    let (mut named, mut function, mut allowed) = (None, None, None);
    members(text, |cursor, key| {
        if key.is("type") {
            named = Some(string(cursor, "tool_choice.type".to_owned())?);
        } else if key.is("function") {
            function = Some(name_in(cursor, "tool_choice.function")?);
        } else if key.is("allowed_tools") {
            allowed = Some(allowed_tools(cursor)?);
        } else {
            cursor.skip()?;
        }
        Ok(())
    })?;
    match named {
        None => Err(ReadError::missing("tool_choice.type")),
        Some(named) if named.is("function") => function
            .map(|name| (Mode::Required, vec![name]))
            .ok_or_else(|| ReadError::missing("tool_choice.function")),
        Some(named) if named.is("allowed_tools") => {
            allowed.ok_or_else(|| ReadError::missing("tool_choice.allowed_tools"))
        }
        Some(named) => Err(only_functions("tool_choice.type".to_owned(), named)),
    }
}

/// Reads `{"mode": "auto", "tools": [{"type": "function", "function": {"name": …}}]}`.
fn allowed_tools(cursor: &mut Cursor) -> Result<(Mode, Vec<String>), Stop> {
    const PATH: &str = "tool_choice.allowed_tools";
    object_kind(cursor, PATH.to_owned())?;
    let (mut word, mut names) = (None, Vec::new());
    cursor.object::<Stop>(|cursor, key| {
        if key.is("mode") {
            let path = format!("{PATH}.mode");
            let mode = string(cursor, path.clone())?.decoded();
            if !["auto", "required"].contains(&mode.as_str()) {
                return Err(ReadError::not_one_of(path, &mode, &["auto", "required"]).into());
            }
            word = Some(mode);
        } else if key.is("tools") {
            let kind = cursor.kind()?;
            if kind != Kind::Array {
                let expected = "an array of objects";
                return Err(ReadError::wrong_type(format!("{PATH}.tools"), expected, kind).into());
            }
            cursor.array::<Stop>(|cursor, index| {
                if index == MOST_TOOLS {
                    return Err(ReadError::long_array(format!("{PATH}.tools"), index).into());
                }
                names.push(tool(cursor, &|name| {
                    format!("{PATH}.tools[{index}]{name}")
                })?);
                Ok(())
            })?;
        } else {
            cursor.skip()?;
        }
        Ok(())
    })?;
    let word = word.ok_or_else(|| ReadError::missing(format!("{PATH}.mode")))?;
    if names.is_empty() {
        return Err(ReadError::empty_array(format!("{PATH}.tools")).into());
    }
    Ok((mode(&word), names))
}

/// Reads the `name` of an object.
fn name_in(cursor: &mut Cursor, path: &str) -> Result<String, Stop> {
    object_kind(cursor, path.to_owned())?;
    let mut name = None;
    cursor.object::<Stop>(|cursor, key| {
        if key.is("name") {
            name = Some(string(cursor, format!("{path}.name"))?.decoded());
        } else {
            cursor.skip()?;
        }
        Ok(())
    })?;
    name.ok_or_else(|| ReadError::missing(format!("{path}.name")).into())
}

/// Requires that the next value is an object.
pub(super) fn object_kind(cursor: &mut Cursor, path: String) -> Result<(), Stop> {
    match cursor.kind()? {
        Kind::Object => Ok(()),
        got => Err(ReadError::wrong_type(path, "an object", got).into()),
    }
}

/// Requires that the next value is a string.
pub(super) fn string<'a>(cursor: &mut Cursor<'a>, path: String) -> Result<Raw<'a>, Stop> {
    match cursor.kind()? {
        Kind::String => Ok(cursor.string()?),
        got => Err(ReadError::wrong_type(path, "a string", got).into()),
    }
}

/// Checks a name: 1 to 64 characters of `[A-Za-z0-9_-]`.
pub(super) fn check_name(path: &str, name: &str) -> Result<(), ReadError> {
    check_length(path, name, LONGEST_NAME)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(ReadError::Value {
            param: Param::new(path),
            problem: "string does not match pattern. Expected a string that matches the pattern \
                      '^[a-zA-Z0-9_-]+$'."
                .to_owned(),
        });
    }
    Ok(())
}

fn only_functions(path: String, got: Raw) -> ReadError {
    ReadError::UnsupportedValue {
        param: Param(path),
        hint: format!(
            "'{}' is not served here: only tools of type 'function' are.",
            shortened(&got.decoded())
        ),
    }
}
