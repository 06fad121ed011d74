//! Why a body is refused, in OpenAI's words where OpenAI has the same error.

use std::fmt;

use super::cursor::Kind;
use super::text::shortened;

/// Why a body is refused. The texts are for the caller; `param` is the path of the field.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The body is not JSON.
    #[error(
        "We could not parse the JSON body of your request. (HINT: {what} at line {line} column \
         {column}. This likely means that the request was put together by hand: let a JSON library \
         write it.)"
    )]
    NotJson {
        /// What was found or expected.
        what: &'static str,
        /// Line, starting at 1.
        line: usize,
        /// Column in bytes, starting at 1.
        column: usize,
    },
    /// The body is JSON, but not an object.
    #[error("The body must be a JSON object, but is {got}.")]
    NotAnObject {
        /// The type of the value.
        got: &'static str,
    },
    /// A key occurs twice in one object.
    #[error("The key '{param}' stands twice in the body. Send it once.")]
    Twice {
        /// The key.
        param: Param,
    },
    /// The plan contains no model with this name.
    #[error(
        "The model `{model}` does not exist or you do not have access to it. GET /v1/models lists \
         the models that your key may use."
    )]
    UnknownModel {
        /// The name in the request.
        model: String,
    },
    /// A required field is absent.
    #[error("Missing required parameter: '{param}'.")]
    Missing {
        /// The field.
        param: Param,
    },
    /// A field has a value of the wrong type.
    #[error("Invalid type for '{param}': expected {expected}, but got {got} instead.")]
    Type {
        /// The field.
        param: Param,
        /// The required type.
        expected: &'static str,
        /// The type of the value.
        got: &'static str,
    },
    /// A number is outside its bounds.
    #[error(
        "Invalid '{param}': {number} {} value. Expected a value {} {bound}, but got {got} instead.",
        if *.below { "below minimum" } else { "above maximum" },
        if *.below { ">=" } else { "<=" },
    )]
    OutOfRange {
        /// The field.
        param: Param,
        /// The required kind of number.
        number: NumberKind,
        /// Whether the number is below the minimum instead of above the maximum.
        below: bool,
        /// The violated bound.
        bound: String,
        /// The number in the request.
        got: String,
    },
    /// A string, an array or an object is too short or too long.
    #[error("Invalid '{param}': {problem}")]
    Length {
        /// The field.
        param: Param,
        /// What is too short or too long.
        of: Length,
        /// A sentence with the bound.
        problem: String,
    },
    /// A value has the right type but is not allowed.
    #[error("Invalid value for '{param}': {problem}")]
    Value {
        /// The field.
        param: Param,
        /// A sentence with the allowed values.
        problem: String,
    },
    /// A field of OpenAI's API that is not served.
    #[error("Unsupported parameter: '{param}' {hint}")]
    UnsupportedParameter {
        /// The field.
        param: Param,
        /// What to do instead.
        hint: &'static str,
    },
    /// The field is served, but not with this value.
    #[error("Unsupported value for '{param}': {hint}")]
    UnsupportedValue {
        /// The field.
        param: Param,
        /// What to send instead.
        hint: String,
    },
    /// Two fields contradict each other.
    #[error("{problem}")]
    Conflict {
        /// The field that must be omitted.
        param: Param,
        /// A sentence for the caller.
        problem: &'static str,
    },
}

/// The path of a field, for example `messages[2].content`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param(pub(super) String);

/// The kind of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberKind {
    /// A whole number.
    Integer,
    /// A number with or without a fraction.
    Decimal,
}

/// What is too short or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// An array without elements.
    EmptyArray,
    /// An array with too many elements.
    LongArray,
    /// A string without characters.
    EmptyString,
    /// A string that is too long.
    LongString,
    /// An object with too many keys.
    ManyProperties,
}

// === impl ReadError ===

impl ReadError {
    /// OpenAI's `code` of this error, if it has one.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotJson { .. } | Self::Twice { .. } | Self::Conflict { .. } => return None,
            Self::NotAnObject { .. } | Self::Type { .. } => "invalid_type",
            Self::UnknownModel { .. } => "model_not_found",
            Self::Missing { .. } => "missing_required_parameter",
            Self::OutOfRange { number, below, .. } => match (number, below) {
                (NumberKind::Integer, true) => "integer_below_min_value",
                (NumberKind::Integer, false) => "integer_above_max_value",
                (NumberKind::Decimal, true) => "decimal_below_min_value",
                (NumberKind::Decimal, false) => "decimal_above_max_value",
            },
            Self::Length { of, .. } => match of {
                Length::EmptyArray => "empty_array",
                Length::LongArray => "array_above_max_length",
                Length::EmptyString => "empty_string",
                Length::LongString => "string_above_max_length",
                Length::ManyProperties => "object_above_max_properties",
            },
            Self::Value { .. } => "invalid_value",
            Self::UnsupportedParameter { .. } => "unsupported_parameter",
            Self::UnsupportedValue { .. } => "unsupported_value",
        })
    }

    /// The path of the field at fault, if there is one.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::NotJson { .. } | Self::NotAnObject { .. } => None,
            Self::UnknownModel { .. } => Some("model"),
            Self::Twice { param }
            | Self::Missing { param }
            | Self::Type { param, .. }
            | Self::OutOfRange { param, .. }
            | Self::Length { param, .. }
            | Self::Value { param, .. }
            | Self::UnsupportedParameter { param, .. }
            | Self::UnsupportedValue { param, .. }
            | Self::Conflict { param, .. } => Some(&param.0),
        }
    }

    /// An error for `got` where `expected` is required.
    pub(super) fn wrong_type(param: impl Into<String>, expected: &'static str, got: Kind) -> Self {
        Self::Type {
            param: Param::new(param),
            expected,
            got: got.described(),
        }
    }

    /// An error for a string that is not one of `values`.
    pub(super) fn not_one_of(param: impl Into<String>, got: &str, values: &[&str]) -> Self {
        let quoted: Vec<_> = values.iter().map(|value| format!("'{value}'")).collect();
        Self::Value {
            param: Param::new(param),
            problem: format!(
                "'{}'. Supported values are: {}.",
                shortened(got),
                quoted.join(", ")
            ),
        }
    }

    /// An error for a missing field.
    pub(super) fn missing(path: impl Into<String>) -> Self {
        let param = Param::new(path);
        Self::Missing { param }
    }

    /// An error for an array without elements.
    pub(super) fn empty_array(path: impl Into<String>) -> Self {
        Self::Length {
            param: Param::new(path),
            of: Length::EmptyArray,
            problem:
                "empty array. Expected an array with minimum length 1, but got an empty array \
                      instead."
                    .to_owned(),
        }
    }

    /// An error for an array with more than `most` elements.
    pub(super) fn long_array(path: impl Into<String>, most: usize) -> Self {
        Self::Length {
            param: Param::new(path),
            of: Length::LongArray,
            problem: format!(
                "array too long. Expected an array with maximum length {most}, but got a longer \
                 array instead."
            ),
        }
    }
}

// === impl Param ===

impl Param {
    pub(super) fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }
}

impl fmt::Display for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl NumberKind ===

impl fmt::Display for NumberKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "integer",
            Self::Decimal => "decimal",
        })
    }
}
