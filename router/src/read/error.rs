//! Why a body is refused, in OpenAI's words where it has some.

use std::fmt;

use super::cursor::Kind;
use super::text::shortened;

/// Why a body is not a request that can be served. The texts are for the caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(
        "We could not parse the JSON body of your request. (HINT: {what} at line {line} column \
         {column}. This likely means that the request was put together by hand: let a JSON library \
         write it.)"
    )]
    NotJson {
        what: &'static str,
        line: usize,
        column: usize,
    },
    #[error("The body must be a JSON object, but is {got}.")]
    NotAnObject { got: &'static str },
    #[error("The key '{param}' stands twice in the body. Send it once.")]
    Twice { param: Param },
    #[error(
        "The model `{model}` does not exist or you do not have access to it. GET /v1/models lists \
         the models that your key may use."
    )]
    UnknownModel { model: String },
    #[error("Missing required parameter: '{param}'.")]
    Missing { param: Param },
    #[error("Invalid type for '{param}': expected {expected}, but got {got} instead.")]
    Type {
        param: Param,
        expected: &'static str,
        got: &'static str,
    },
    #[error(
        "Invalid '{param}': {number} {} value. Expected a value {} {bound}, but got {got} instead.",
        if *.below { "below minimum" } else { "above maximum" },
        if *.below { ">=" } else { "<=" },
    )]
    OutOfRange {
        param: Param,
        number: NumberKind,
        below: bool,
        bound: String,
        got: String,
    },
    #[error("Invalid '{param}': {problem}")]
    Length {
        param: Param,
        of: Length,
        problem: String,
    },
    #[error("Invalid value for '{param}': {problem}")]
    Value { param: Param, problem: String },
    #[error("Unsupported parameter: '{param}' {hint}")]
    UnsupportedParameter { param: Param, hint: &'static str },
    #[error("Unsupported value for '{param}': {hint}")]
    UnsupportedValue { param: Param, hint: String },
    /// Two fields that contradict each other.
    #[error("{problem}")]
    Conflict { param: Param, problem: &'static str },
}

/// The path of a field: `messages[2].content`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Param(pub(crate) String);

/// Which kind of number a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberKind {
    Integer,
    Decimal,
}

/// What is too short or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    EmptyArray,
    LongArray,
    EmptyString,
    LongString,
    ManyProperties,
}

// === impl ReadError ===

impl ReadError {
    /// `got` where `expected` should be.
    pub(super) fn wrong_type(param: impl Into<String>, expected: &'static str, got: Kind) -> Self {
        Self::Type {
            param: Param::new(param),
            expected,
            got: got.described(),
        }
    }

    /// A string that is none of a set.
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

    /// A field that must be there.
    pub(super) fn missing(path: impl Into<String>) -> Self {
        let param = Param::new(path);
        Self::Missing { param }
    }

    /// An array without elements.
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

    /// An array with too many elements.
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
