//! Checks the types in a JSON Schema, so that chat templates and grammars can rely on them.
//!
//! OpenAI also refuses `"properties": null` or `[]`. Only types are checked here; the worker checks the rest
//! when it compiles the schema.

use super::ReadError;
use super::cursor::{Cursor, Kind};
use super::text::shortened;
use super::walk::Stop;

/// Builds the path of a value from its path within the schema, for errors.
type Path<'a> = &'a dyn Fn(&str) -> String;

/// Walks a schema that is an object, and checks it and all its nested schemas.
pub(super) fn walk(cursor: &mut Cursor, path: Path) -> Result<(), Stop> {
    cursor.object::<Stop>(|cursor, key| {
        let inner = |rest: &str| path(&format!(".{}{rest}", shortened(&key.decoded())));
        match &*key.name() {
            b"properties" | b"patternProperties" | b"$defs" | b"definitions"
            | b"dependentSchemas" => named(cursor, &inner),
            b"items" if cursor.kind()? != Kind::Array => schema(cursor, &inner),
            b"additionalItems"
            | b"additionalProperties"
            | b"contains"
            | b"else"
            | b"if"
            | b"not"
            | b"propertyNames"
            | b"then"
            | b"unevaluatedItems"
            | b"unevaluatedProperties" => schema(cursor, &inner),
            b"items" | b"allOf" | b"anyOf" | b"oneOf" | b"prefixItems" => {
                list(cursor, "an array of objects", &inner, schema)
            }
            b"required" => list(cursor, "an array of strings", &inner, text),
            b"type" if cursor.kind()? == Kind::Array => {
                list(cursor, "an array of strings", &inner, text)
            }
            b"type" | b"description" | b"format" | b"pattern" | b"title" | b"$ref" => {
                text(cursor, &inner)
            }
            b"enum" => list(cursor, "an array", &inner, |cursor, _| Ok(cursor.skip()?)),
            // `const`, `default` and `examples` are any JSON; templates do not use numbers.
            _ => Ok(cursor.skip()?),
        }
    })
}

/// Checks a schema: an object, or a boolean.
fn schema(cursor: &mut Cursor, path: Path) -> Result<(), Stop> {
    match cursor.kind()? {
        Kind::Object => walk(cursor, path),
        Kind::Bool => Ok(cursor.skip()?),
        got => Err(ReadError::wrong_type(path(""), "an object or a boolean", got).into()),
    }
}

/// Checks an object of named schemas.
fn named(cursor: &mut Cursor, path: Path) -> Result<(), Stop> {
    require(cursor, Kind::Object, "an object", path)?;
    cursor.object::<Stop>(|cursor, name| {
        schema(cursor, &|rest| {
            path(&format!(".{}{rest}", shortened(&name.decoded())))
        })
    })
}

fn list(
    cursor: &mut Cursor,
    expected: &'static str,
    path: Path,
    element: impl Fn(&mut Cursor, Path) -> Result<(), Stop>,
) -> Result<(), Stop> {
    require(cursor, Kind::Array, expected, path)?;
    cursor.array::<Stop>(|cursor, index| element(cursor, &|rest| path(&format!("[{index}]{rest}"))))
}

fn text(cursor: &mut Cursor, path: Path) -> Result<(), Stop> {
    require(cursor, Kind::String, "a string", path)?;
    Ok(cursor.skip()?)
}

fn require(
    cursor: &mut Cursor,
    kind: Kind,
    expected: &'static str,
    path: Path,
) -> Result<(), Stop> {
    match cursor.kind()? {
        got if got == kind => Ok(()),
        got => Err(ReadError::wrong_type(path(""), expected, got).into()),
    }
}
