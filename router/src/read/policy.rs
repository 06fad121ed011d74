//! Refuses the fields that are not served, and checks those that change nothing.

use super::cursor::Kind;
use super::fields::{Field, Fields};
use super::length::check_length;
use super::table::{Accepted, Policy};
use super::text::shortened;
use super::walk::members;
use super::{Length, Param, ReadError};

use Accepted::{Metadata, Modalities, Object, OneOf, Store, Text};
use Policy::{Accepted as Accept, Honoured, Refused};

/// The most pairs of `metadata`, and the longest key and value in characters.
const METADATA: (usize, usize, usize) = (16, 64, 512);

/// Refuses what is not served, and checks what changes nothing.
pub(super) fn check(fields: &Fields) -> Result<(), ReadError> {
    for (name, policy, field) in fields.policies() {
        match policy {
            Honoured => {}
            Accept(accepted) => check_accepted(fields, name, accepted, field)?,
            Refused(hint) => {
                let param = Param::new(name);
                return Err(ReadError::UnsupportedParameter { param, hint });
            }
        }
    }
    Ok(())
}

fn check_accepted(
    fields: &Fields,
    name: &'static str,
    accepted: Accepted,
    field: &Field,
) -> Result<(), ReadError> {
    match accepted {
        Text(longest) => fields.string(name, longest).map(drop),
        OneOf(values) => fields.one_of(name, values).map(drop),
        Object if field.kind == Kind::Object => Ok(()),
        Object => Err(ReadError::wrong_type(name, "an object", field.kind)),
        Metadata => check_metadata(field.kind, fields.text(field)),
        Store if fields.boolean(name)? == Some(true) => Err(ReadError::UnsupportedValue {
            param: Param::new(name),
            hint: "answers are never kept here. Leave it out or send false.".to_owned(),
        }),
        Store => Ok(()),
        Modalities
            if fields
                .text(field)
                .windows(7)
                .any(|part| part == b"\"audio\"") =>
        {
            Err(ReadError::UnsupportedValue {
                param: Param::new(name),
                hint: "answers are text. Leave it out or send [\"text\"].".to_owned(),
            })
        }
        Modalities if field.kind == Kind::Array => Ok(()),
        Modalities => Err(ReadError::wrong_type(
            name,
            "an array of strings",
            field.kind,
        )),
    }
}

fn check_metadata(kind: Kind, text: &[u8]) -> Result<(), ReadError> {
    if kind != Kind::Object {
        return Err(ReadError::wrong_type(
            "metadata",
            "an object of strings",
            kind,
        ));
    }
    let (most, longest_key, longest_value) = METADATA;
    let mut count = 0;
    members(text, |cursor, key| {
        count += 1;
        let path = || format!("metadata.{}", shortened(&key.decoded()));
        check_length(&path(), &key.decoded(), longest_key)?;
        let kind = cursor.kind()?;
        if kind != Kind::String {
            return Err(ReadError::wrong_type(path(), "a string", kind).into());
        }
        Ok(check_length(
            &path(),
            &cursor.string()?.decoded(),
            longest_value,
        )?)
    })?;
    if count > most {
        return Err(ReadError::Length {
            param: Param::new("metadata"),
            of: Length::ManyProperties,
            problem: format!(
                "too many properties. Expected an object with at most {most} properties, but got \
                 an object with {count} properties instead."
            ),
        });
    }
    Ok(())
}
