//! The fields of each endpoint's body: name, type, bounds and policy.
//!
//! Reading uses these types and bounds, and a test writes the table in `docs/openai-compatibility.md` from
//! them.

use std::fmt;

use super::Api;

mod chat;
mod completions;

/// A field at the top level of a body.
#[derive(Debug)]
pub(super) struct FieldSpec {
    /// Its name.
    pub(super) name: &'static str,
    /// The allowed values.
    pub(super) kind: FieldType,
    /// How the field is treated.
    pub(super) policy: Policy,
    /// The note in the documentation, in Markdown; may be empty.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the documentation is written by a test")
    )]
    pub(super) note: &'static str,
}

/// How a field is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// The field changes the answer.
    Honoured,
    /// The field has no effect; a value of the right type is accepted.
    Accepted,
    /// The field is not served; the hint completes "Unsupported parameter: 'x' …".
    Refused(&'static str),
}

/// The values that a field allows. Bounds are inclusive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum FieldType {
    /// `true` or `false`.
    Boolean,
    /// An integer within these bounds.
    Integer(i128, i128),
    /// A number within these bounds.
    Decimal(f32, f32),
    /// A string of at most this many characters.
    Text(usize),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// An object with arbitrary keys.
    Object,
    /// An object of strings, with OpenAI's bounds.
    Metadata,
    /// Only `false`: answers are not stored.
    Store,
    /// An array of strings without `audio`: answers are text only.
    Modalities,
    /// A structure that a module of its own parses; the text is for the documentation.
    Structure(&'static str),
    /// The type of refused fields, which is not checked.
    Any,
}

use FieldType::{Decimal, Integer, OneOf, Text};

/// The tiers of OpenAI and its clients.
const TIERS: FieldType = OneOf(&["auto", "default", "flex", "scale", "priority", "fast"]);
/// OpenAI's bounds of `n`.
const CHOICES: FieldType = Integer(1, 128);
/// OpenAI's bounds of a penalty.
const PENALTY: FieldType = Decimal(-2.0, 2.0);
/// A probability.
const SHARE: FieldType = Decimal(0.0, 1.0);
/// The name of a model, with its maximum length in characters.
const MODEL: FieldType = Text(256);
/// A number of tokens with this minimum.
const fn tokens(least: i128) -> FieldType {
    Integer(least, u32::MAX as i128)
}

const fn honoured(name: &'static str, kind: FieldType, note: &'static str) -> FieldSpec {
    FieldSpec {
        name,
        kind,
        policy: Policy::Honoured,
        note,
    }
}

const fn accepted(name: &'static str, kind: FieldType, note: &'static str) -> FieldSpec {
    FieldSpec {
        name,
        kind,
        policy: Policy::Accepted,
        note,
    }
}

const fn refused(name: &'static str, hint: &'static str, note: &'static str) -> FieldSpec {
    FieldSpec {
        name,
        kind: FieldType::Any,
        policy: Policy::Refused(hint),
        note,
    }
}

/// The fields of an endpoint, sorted by name.
pub(super) fn of(api: Api) -> &'static [FieldSpec] {
    match api {
        Api::Chat => chat::FIELDS,
        Api::Completions => completions::FIELDS,
    }
}

// === impl FieldType ===

impl fmt::Display for FieldType {
    /// The type in the documentation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any_upper = [u32::MAX.into(), i32::MAX.into(), i64::MAX.into()];
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Integer(least, most) if *least == i64::MIN.into() && any_upper.contains(most) => {
                f.write_str("integer")
            }
            Self::Integer(least, most) if any_upper.contains(most) => {
                write!(f, "integer, at least {least}")
            }
            Self::Integer(least, most) => write!(f, "integer, {least} to {most}"),
            Self::Decimal(least, most) => write!(f, "number, {least} to {most}"),
            Self::Text(longest) => write!(f, "string of up to {longest} characters"),
            Self::OneOf(values) => {
                let quoted: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
                f.write_str(&quoted.join(", "))
            }
            Self::Object => f.write_str("object"),
            Self::Metadata => {
                let (most, key, value) = METADATA;
                write!(
                    f,
                    "object of up to {most} strings, keys of up to {key} and values of up to {value} characters"
                )
            }
            Self::Store => f.write_str("`false`"),
            Self::Modalities => f.write_str("`[\"text\"]`"),
            Self::Structure(what) => f.write_str(what),
            Self::Any => f.write_str("–"),
        }
    }
}

/// Maximum number of pairs of `metadata`, and maximum lengths of keys and values in characters.
pub(super) const METADATA: (usize, usize, usize) = (16, 64, 512);

#[cfg(test)]
mod tests;
