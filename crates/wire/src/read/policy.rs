//! Refuses fields that are not served, and checks fields that have no effect.

use super::cursor::Kind;
use super::fields::{Field, Fields};
use super::length::check_length;
use super::table::{FieldSpec, FieldType, METADATA, Policy};
use super::text::shortened;
use super::walk::members;
use super::{Length, Param, ReadError};

/// Refuses fields that are not served, and checks the type of fields that have no effect.
pub(super) fn check(fields: &Fields) -> Result<(), ReadError> {
    for (spec, field) in fields.present() {
        match spec.policy {
            Policy::Honoured => {}
            Policy::Accepted => check_accepted(fields, spec, field)?,
            Policy::Refused(hint) => {
                let param = Param::new(spec.name);
                return Err(ReadError::UnsupportedParameter { param, hint });
            }
        }
    }
    Ok(())
}

fn check_accepted(fields: &Fields, spec: &FieldSpec, field: &Field) -> Result<(), ReadError> {
    let name = spec.name;
    match spec.kind {
        FieldType::Boolean => fields.boolean(name).map(drop),
        FieldType::Integer(..) => fields.integer::<i64>(name).map(drop),
        FieldType::Decimal(..) => fields.decimal(name).map(drop),
        FieldType::Text(_) => fields.string(name).map(drop),
        FieldType::OneOf(_) => fields.one_of(name).map(drop),
        FieldType::Object if field.kind == Kind::Object => Ok(()),
        FieldType::Object => Err(ReadError::wrong_type(name, "an object", field.kind)),
        FieldType::Metadata => check_metadata(field.kind, fields.text(field)),
        FieldType::Store => check_store(fields, name),
        FieldType::Modalities => check_modalities(fields, name, field),
        FieldType::Structure(_) | FieldType::Any => Ok(()),
    }
}

fn check_store(fields: &Fields, name: &'static str) -> Result<(), ReadError> {
    if fields.boolean(name)? == Some(true) {
        return Err(ReadError::UnsupportedValue {
            param: Param::new(name),
            hint: "answers are never kept here. Leave it out or send false.".to_owned(),
        });
    }
    Ok(())
}

fn check_modalities(fields: &Fields, name: &'static str, field: &Field) -> Result<(), ReadError> {
    let mut parts = fields.text(field).windows(7);
    if parts.any(|part| part == b"\"audio\"") {
        return Err(ReadError::UnsupportedValue {
            param: Param::new(name),
            hint: "answers are text. Leave it out or send [\"text\"].".to_owned(),
        });
    }
    if field.kind != Kind::Array {
        let expected = "an array of strings";
        return Err(ReadError::wrong_type(name, expected, field.kind));
    }
    Ok(())
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
