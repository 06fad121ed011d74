//! The tools of a request, as far as a grammar needs them.

use serde::Deserialize;
use serde_json::{Value, json};

use super::GrammarError;

/// A tool that may be called.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    /// Name of the function.
    pub(crate) name: String,
    /// JSON Schema of the arguments.
    pub(crate) parameters: Value,
    /// Every keyword of the schema must be enforced; otherwise unknown ones are ignored.
    pub(crate) strict: bool,
}

#[derive(Deserialize)]
struct Entry {
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    parameters: Option<Value>,
    strict: Option<bool>,
}

// === impl Tool ===

impl Tool {
    /// Those of the request's tools that may be called: all, or the named ones.
    pub(crate) fn parse_allowed(
        tools_json: &[u8],
        names: &[String],
    ) -> Result<Vec<Self>, GrammarError> {
        let entries: Vec<Entry> = serde_json::from_slice(tools_json).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            GrammarError::Tools(format!(
                "they are no functions at line {line}, column {column}"
            ))
        })?;
        let known = |name: &String| entries.iter().any(|entry| entry.function.name == *name);
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            return Err(GrammarError::Choose(unknown.clone()));
        }
        if entries.is_empty() {
            return Err(GrammarError::Tools("there is none".to_owned()));
        }
        let allowed = entries.into_iter().map(|entry| entry.function);
        let allowed = allowed.filter(|it| names.is_empty() || names.contains(&it.name));
        Ok(allowed.map(Self::from).collect())
    }
}

impl From<Function> for Tool {
    fn from(function: Function) -> Self {
        Self {
            name: function.name,
            // A function without parameters has an empty object as its arguments.
            parameters: function.parameters.unwrap_or_else(
                || json!({ "type": "object", "properties": {}, "additionalProperties": false }),
            ),
            strict: function.strict.unwrap_or(false),
        }
    }
}
