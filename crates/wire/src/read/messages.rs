//! Checks `messages` in place during the walk of the body.

use super::cursor::{Cursor, Kind, Raw};
use super::length::check_length;
use super::text::shortened;
use super::walk::Stop;
use super::{Param, ReadError};

/// Maximum length of a participant's `name` and of a `tool_call_id`, in characters.
const LONGEST_ID: usize = 256;

/// The author of a message, as far as the checks distinguish them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// `developer`, `system` or `user`.
    Prompting,
    Assistant,
    Tool,
}

/// The facts that rules between the fields of a message depend on.
#[derive(Debug, Default)]
struct Message {
    role: Option<Role>,
    content: Option<Kind>,
    has_tool_calls: bool,
    has_refusal: bool,
    has_tool_call_id: bool,
}

/// The index of the message, which becomes text only in an error.
#[derive(Debug, Clone, Copy)]
struct MessageIndex(usize);

/// Walks the array of messages and checks each one.
pub(super) fn walk(cursor: &mut Cursor) -> Result<(), Stop> {
    let mut count = 0;
    cursor.array::<Stop>(|cursor, index| {
        count = index + 1;
        let place = MessageIndex(index);
        let kind = cursor.kind()?;
        if kind != Kind::Object {
            let path = format!("messages[{index}]");
            return Err(ReadError::wrong_type(path, "an object", kind).into());
        }
        let mut message = Message::default();
        cursor.object(|cursor, key| message.member(cursor, key, place))?;
        Ok(message.check(place)?)
    })?;
    if count == 0 {
        return Err(ReadError::empty_array("messages").into());
    }
    Ok(())
}

// === impl Message ===

impl Message {
    fn member(&mut self, cursor: &mut Cursor, key: Raw, place: MessageIndex) -> Result<(), Stop> {
        let kind = cursor.kind()?;
        match &*key.name() {
            b"role" => self.role = Some(role(cursor, kind, place)?),
            b"content" => {
                self.content = Some(kind);
                content(cursor, kind, place)?;
            }
            b"tool_calls" => self.has_tool_calls = tool_calls(cursor, kind, place)?,
            b"refusal" => {
                self.has_refusal = kind == Kind::String;
                text(cursor, kind, || place.path("refusal"), true)?;
            }
            b"tool_call_id" => {
                self.has_tool_call_id = kind == Kind::String;
                id(cursor, kind, || place.path("tool_call_id"))?;
            }
            b"name" => id(cursor, kind, || place.path("name"))?,
            b"audio" | b"function_call" if kind != Kind::Null => {
                return Err(ReadError::UnsupportedParameter {
                    param: Param(place.path(&key.decoded())),
                    hint: "is not served here: use text and 'tool_calls'.",
                }
                .into());
            }
            // `reasoning_content` and other fields that a template may use.
            _ => cursor.skip()?,
        }
        Ok(())
    }

    fn check(&self, place: MessageIndex) -> Result<(), ReadError> {
        let missing = |name| {
            let param = Param(place.path(name));
            Err(ReadError::Missing { param })
        };
        let Some(role) = self.role else {
            return missing("role");
        };
        if role == Role::Tool && !self.has_tool_call_id {
            return missing("tool_call_id");
        }
        let silent = role == Role::Assistant && (self.has_tool_calls || self.has_refusal);
        match self.content {
            Some(Kind::String | Kind::Array) => Ok(()),
            _ if silent => Ok(()),
            None => missing("content"),
            Some(got) => Err(ReadError::wrong_type(
                place.path("content"),
                "a string or an array of text parts",
                got,
            )),
        }
    }
}

fn role(cursor: &mut Cursor, kind: Kind, place: MessageIndex) -> Result<Role, Stop> {
    if kind != Kind::String {
        return Err(ReadError::wrong_type(place.path("role"), "a string", kind).into());
    }
    let role = cursor.string()?;
    let known: [(&str, Role); 5] = [
        ("user", Role::Prompting),
        ("assistant", Role::Assistant),
        ("system", Role::Prompting),
        ("tool", Role::Tool),
        ("developer", Role::Prompting),
    ];
    if let Some((_, known)) = known.iter().find(|(name, _)| role.is(name)) {
        return Ok(*known);
    }
    if role.is("function") {
        return Err(ReadError::UnsupportedValue {
            param: Param(place.path("role")),
            hint: "'function' is deprecated: use the role 'tool' with 'tool_call_id'.".to_owned(),
        }
        .into());
    }
    let values = ["system", "assistant", "user", "tool", "developer"];
    Err(ReadError::not_one_of(place.path("role"), &role.decoded(), &values).into())
}

/// Reads a string or parts; null is checked with the whole message.
fn content(cursor: &mut Cursor, kind: Kind, place: MessageIndex) -> Result<(), Stop> {
    match kind {
        Kind::String => {
            cursor.string()?;
        }
        Kind::Array => {
            // An array without parts is an empty text, as in OpenAI's API.
            cursor.array::<Stop>(|cursor, index| {
                part(cursor, || place.path(&format!("content[{index}]")))
            })?;
        }
        Kind::Null => cursor.skip()?,
        Kind::Bool | Kind::Number | Kind::Object => {
            let expected = "a string or an array of text parts";
            return Err(ReadError::wrong_type(place.path("content"), expected, kind).into());
        }
    }
    Ok(())
}

/// Checks one part of a content: `{"type": "text", "text": …}` or a refusal.
fn part(cursor: &mut Cursor, path: impl Fn() -> String) -> Result<(), Stop> {
    let kind = cursor.kind()?;
    if kind != Kind::Object {
        return Err(ReadError::wrong_type(path(), "an object", kind).into());
    }
    let inner = |name: &str| format!("{}.{name}", path());
    let mut named = None;
    let (mut has_text, mut has_refusal) = (false, false);
    cursor.object::<Stop>(|cursor, key| {
        let kind = cursor.kind()?;
        match &*key.name() {
            b"type" if kind == Kind::String => named = Some(cursor.string()?),
            b"type" => return Err(ReadError::wrong_type(inner("type"), "a string", kind).into()),
            b"text" => {
                has_text = true;
                text(cursor, kind, || inner("text"), false)?;
            }
            b"refusal" => {
                has_refusal = true;
                text(cursor, kind, || inner("refusal"), false)?;
            }
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    let missing = |name| {
        let param = Param(inner(name));
        Err(ReadError::Missing { param }.into())
    };
    match named {
        None => missing("type"),
        Some(named) if named.is("text") && has_text => Ok(()),
        Some(named) if named.is("text") => missing("text"),
        Some(named) if named.is("refusal") && has_refusal => Ok(()),
        Some(named) if named.is("refusal") => missing("refusal"),
        Some(named) => Err(ReadError::UnsupportedValue {
            param: Param(inner("type")),
            hint: format!(
                "'{}' is not served here: the models read text only. Use parts of type 'text'.",
                shortened(&named.decoded())
            ),
        }
        .into()),
    }
}

/// Returns whether there is at least one call.
fn tool_calls(cursor: &mut Cursor, kind: Kind, place: MessageIndex) -> Result<bool, Stop> {
    match kind {
        Kind::Null => {
            cursor.skip()?;
            return Ok(false);
        }
        Kind::Array => {}
        Kind::Bool | Kind::Number | Kind::String | Kind::Object => {
            let expected = "an array of objects";
            return Err(ReadError::wrong_type(place.path("tool_calls"), expected, kind).into());
        }
    }
    let mut any = false;
    cursor.array::<Stop>(|cursor, index| {
        any = true;
        tool_call(cursor, || place.path(&format!("tool_calls[{index}]")))
    })?;
    Ok(any)
}

/// `{"id": …, "type": "function", "function": {"name": …, "arguments": "…"}}`.
fn tool_call(cursor: &mut Cursor, path: impl Fn() -> String) -> Result<(), Stop> {
    let kind = cursor.kind()?;
    if kind != Kind::Object {
        return Err(ReadError::wrong_type(path(), "an object", kind).into());
    }
    let inner = |name: &str| format!("{}.{name}", path());
    let (mut has_id, mut has_function) = (false, false);
    cursor.object::<Stop>(|cursor, key| {
        let kind = cursor.kind()?;
        match &*key.name() {
            b"id" => {
                has_id = kind == Kind::String;
                id(cursor, kind, || inner("id"))?;
            }
            b"type" => {
                let named = text(cursor, kind, || inner("type"), false)?;
                if !named.is_some_and(|named| named.is("function")) {
                    return Err(ReadError::UnsupportedValue {
                        param: Param(inner("type")),
                        hint: "only calls of type 'function' are served here.".to_owned(),
                    }
                    .into());
                }
            }
            b"function" => {
                has_function = true;
                function(cursor, kind, &inner)?;
            }
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    match (has_id, has_function) {
        (true, true) => Ok(()),
        (false, _) => Err(ReadError::Missing {
            param: Param(inner("id")),
        }
        .into()),
        (true, false) => Err(ReadError::Missing {
            param: Param(inner("function")),
        }
        .into()),
    }
}

fn function(cursor: &mut Cursor, kind: Kind, path: &impl Fn(&str) -> String) -> Result<(), Stop> {
    if kind != Kind::Object {
        return Err(ReadError::wrong_type(path("function"), "an object", kind).into());
    }
    let (mut has_name, mut has_arguments) = (false, false);
    cursor.object::<Stop>(|cursor, key| {
        let kind = cursor.kind()?;
        match &*key.name() {
            b"name" => {
                has_name = true;
                text(cursor, kind, || path("function.name"), false)?;
            }
            b"arguments" => {
                has_arguments = true;
                text(cursor, kind, || path("function.arguments"), false)?;
            }
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    let name = match (has_name, has_arguments) {
        (true, true) => return Ok(()),
        (false, _) => "function.name",
        (true, false) => "function.arguments",
    };
    let param = Param(path(name));
    Err(ReadError::Missing { param }.into())
}

/// Reads a string, or null if `nullable`.
fn text<'a>(
    cursor: &mut Cursor<'a>,
    kind: Kind,
    path: impl Fn() -> String,
    nullable: bool,
) -> Result<Option<Raw<'a>>, Stop> {
    match kind {
        Kind::String => Ok(Some(cursor.string()?)),
        Kind::Null if nullable => {
            cursor.skip()?;
            Ok(None)
        }
        _ => Err(ReadError::wrong_type(path(), "a string", kind).into()),
    }
}

/// Reads an id within its maximum length, or null.
fn id(cursor: &mut Cursor, kind: Kind, path: impl Fn() -> String) -> Result<(), Stop> {
    let Some(id) = text(cursor, kind, &path, true)? else {
        return Ok(());
    };
    // A text has at most as many characters as bytes, so most ids need not be decoded.
    if id.bytes().len() > LONGEST_ID {
        check_length(&path(), &id.decoded(), LONGEST_ID)?;
    }
    Ok(())
}

// === impl MessageIndex ===

impl MessageIndex {
    fn path(self, name: &str) -> String {
        format!("messages[{}].{name}", self.0)
    }
}
