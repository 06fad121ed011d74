//! The schema of the hashes of keys.

/// Schema of a hash.
pub(crate) fn sha256(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 64,
        "pattern": r"^[0-9a-f]{64}$",
        "title": "the SHA-256 of a key as 64 lower-case hexadecimal digits",
    })
}

/// Schema of the hashes of one key: the current one, the previous one, and that of a Secret.
pub(crate) fn some_sha256(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 3,
        "items": sha256(generator),
    })
}
