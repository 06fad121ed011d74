//! Jinja as chat templates know it: what the `transformers` library gives them.

use std::{io, time::SystemTime};

use minijinja::{
    Environment, Error, ErrorKind, Output, State, Value, escape_formatter,
    value::{Kwargs, ValueKind},
};
use minijinja_contrib::pycompat;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::{clock, exact};

/// Steps that one rendering may take, a second or two; a message takes about a hundred.
const FUEL: u64 = 4_000_000;
/// The deepest indentation of JSON that a template may ask for.
const WIDEST_INDENT: usize = 16;

/// A template refused to render, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

/// An environment without a template.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(pycompat::unknown_method_callback);
    environment.set_formatter(print);
    environment.add_filter("tojson", to_json);
    environment.add_test("number", exact::is_number);
    environment.add_test("integer", exact::is_integer);
    environment.add_test("float", exact::is_float);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", |format: &str| {
        clock::format(SystemTime::now(), format)
    });
    environment
}

/// The template without `{% generation %}` blocks, which mark for training what the model wrote.
pub(super) fn without_generation_marks(source: &str) -> String {
    let mut parts = source.split("{%");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str("{%");
        let statement = part
            .split_once("%}")
            .map_or(part, |(statement, _)| statement);
        let instead = match statement.trim_matches(|c: char| c.is_whitespace() || "-+".contains(c))
        {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => {
                plain.push_str(part);
                continue;
            }
        };
        let name = statement.trim_matches(|c: char| c.is_whitespace() || "-+".contains(c));
        plain.push_str(&statement.replacen(name, instead, 1));
        plain.push_str(&part[statement.len()..]);
    }
    plain
}

/// Prints as Python does.
fn print(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let text = match value.kind() {
        ValueKind::None => "None",
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        _ => return escape_formatter(out, state, value),
    };
    out.write_str(text).map_err(|error| {
        Error::new(ErrorKind::WriteFailure, "the prompt should be writable").with_source(error)
    })
}

/// In Python a text is iterable, and templates have come to rely on it.
fn is_iterable(value: &Value) -> bool {
    value.kind() == ValueKind::String || value.try_iter().is_ok()
}

/// In Python whatever has a length and items.
fn is_sequence(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::String | ValueKind::Seq | ValueKind::Map
    )
}

fn raise_exception(sentence: &str) -> Result<Value, Error> {
    let refused = Refused(sentence.to_owned());
    Err(Error::new(ErrorKind::InvalidOperation, "refused by the template").with_source(refused))
}

/// `json.dumps(value, ensure_ascii=False, …)` of Python.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a filter is given its arguments"
)]
fn to_json(value: &Value, indent: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let named_indent: Option<Value> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    // Keys stay in order and no character is escaped needlessly, whatever is asked.
    let _: Option<Value> = kwargs.get("ensure_ascii")?;
    let _: Option<Value> = kwargs.get("sort_keys")?;
    kwargs.assert_all_used()?;
    let indent = indent.or(named_indent).filter(|indent| !indent.is_none());
    let json = match indent {
        Some(indent) => {
            let width = usize::try_from(indent)?.min(WIDEST_INDENT);
            serialize(
                value,
                PrettyFormatter::with_indent(" ".repeat(width).as_bytes()),
            )
        }
        None => serialize(value, PythonFormatter::new(separators.as_deref())),
    };
    let json = json.map_err(|error| {
        Error::new(ErrorKind::BadSerialization, "the value has no JSON").with_source(error)
    })?;
    Ok(Value::from_safe_string(json))
}

fn serialize(value: &Value, formatter: impl Formatter) -> Result<String, serde_json::Error> {
    let mut json = Vec::new();
    exact::Json(value).serialize(&mut Serializer::with_formatter(&mut json, formatter))?;
    Ok(String::from_utf8(json).expect("JSON should be UTF-8"))
}

/// One line with a space behind each comma and colon.
struct PythonFormatter<'a> {
    item_separator: &'a str,
    key_separator: &'a str,
}

// === impl PythonFormatter ===

impl<'a> PythonFormatter<'a> {
    fn new(separators: Option<&'a [String]>) -> Self {
        match separators {
            Some([item_separator, key_separator]) => Self {
                item_separator,
                key_separator,
            },
            _ => Self {
                item_separator: ", ",
                key_separator: ": ",
            },
        }
    }

    fn separate<W: io::Write + ?Sized>(&self, writer: &mut W, first: bool) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(self.item_separator.as_bytes())
        }
    }
}

impl Formatter for PythonFormatter<'_> {
    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.separate(writer, first)
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.separate(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key_separator.as_bytes())
    }
}
