//! The keywords of JSON Schema, by what their values are.

/// What stands behind a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    /// A schema.
    Schema,
    /// A schema, or a list of them.
    Items,
    /// A list of schemas.
    Schemas,
    /// A list of schemas that all hold.
    AllOf,
    /// Schemas by the names of the members that they describe.
    Members,
    /// Schemas by name, which a `$ref` can point to.
    Named,
    /// Schemas by the pattern of a name.
    Patterns,
    /// A JSON value that the answer must have.
    Value,
    /// A list of such values.
    Values,
    /// A number.
    Number,
    /// A number that the answer must be a multiple of.
    Divisor,
    /// A number, or (in old drafts) whether the bound beside it is itself allowed.
    Bound,
    /// How many of something.
    Count,
    /// The name of a type, or a list of them.
    Type,
    /// Names of properties.
    Names,
    /// A regular expression.
    Pattern,
    /// The name of a format of texts.
    Format,
    /// Where another schema stands.
    Reference,
    /// A limit that no grammar can keep.
    Unenforced,
    /// It limits nothing.
    Annotation,
}

/// Formats that are enforced.
const FORMATS: [&str; 10] = [
    "date-time",
    "date",
    "time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
];

pub(super) fn is_known_format(name: &str) -> bool {
    FORMATS.contains(&name)
}

pub(super) fn is_type(name: &str) -> bool {
    matches!(
        name,
        "null" | "boolean" | "number" | "integer" | "string" | "array" | "object"
    )
}

// === impl Keyword ===

impl Keyword {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "additionalProperties" | "additionalItems" => Self::Schema,
            "items" => Self::Items,
            "anyOf" | "oneOf" | "prefixItems" => Self::Schemas,
            "allOf" => Self::AllOf,
            "properties" => Self::Members,
            "$defs" | "definitions" => Self::Named,
            "patternProperties" => Self::Patterns,
            "const" => Self::Value,
            "enum" => Self::Values,
            "minimum" | "maximum" => Self::Number,
            "multipleOf" => Self::Divisor,
            "exclusiveMinimum" | "exclusiveMaximum" => Self::Bound,
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties"
            | "maxProperties" => Self::Count,
            "type" => Self::Type,
            "required" => Self::Names,
            "pattern" => Self::Pattern,
            "format" => Self::Format,
            "$ref" => Self::Reference,
            "not"
            | "uniqueItems"
            | "propertyNames"
            | "if"
            | "then"
            | "else"
            | "contains"
            | "minContains"
            | "maxContains"
            | "dependencies"
            | "dependentRequired"
            | "dependentSchemas"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "contentEncoding"
            | "contentMediaType"
            | "contentSchema"
            | "nullable"
            | "$dynamicRef"
            | "$recursiveRef" => Self::Unenforced,
            _ => Self::Annotation,
        }
    }
}
