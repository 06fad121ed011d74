//! The tools of a request, as far as a grammar needs them.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::schema::Schema;
use super::{GrammarError, schema};

/// A function without parameters has an empty object as its arguments.
const NO_PARAMETERS: &[u8] = br#"{"type":"object","properties":{},"additionalProperties":false}"#;

/// A tool that may be called.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Name of the function.
    pub name: String,
    /// JSON Schema of the arguments.
    pub parameters: Schema,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    name: String,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    strict: Option<bool>,
}

// === impl Tool ===

impl Tool {
    /// The tools of a request.
    pub fn parse(tools_json: &[u8]) -> Result<Vec<Self>, GrammarError> {
        let entries: Vec<Entry> = serde_json::from_slice(tools_json).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            GrammarError::Tools(format!(
                "they are no functions at line {line}, column {column}"
            ))
        })?;
        if entries.is_empty() {
            return Err(GrammarError::Tools("there is none".to_owned()));
        }
        let tools = entries.into_iter().enumerate();
        Ok(tools
            .map(|(at, entry)| Self::new(at, entry.function))
            .collect())
    }

    fn new(at: usize, function: Function) -> Self {
        let parameters = function.parameters.map_or_else(
            || Bytes::from_static(NO_PARAMETERS),
            |parameters| Bytes::copy_from_slice(parameters.get().as_bytes()),
        );
        Self {
            name: function.name,
            parameters: Schema {
                text: parameters,
                path: format!("tools[{at}].function.parameters"),
                strict: function.strict.unwrap_or(false),
            },
        }
    }

    /// Those that may be called: all, or the named ones.
    pub fn allowed(tools: &[Self], names: &[String]) -> Result<Vec<Self>, GrammarError> {
        let known = |name: &String| tools.iter().any(|tool| tool.name == *name);
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            return Err(GrammarError::Choose(unknown.clone()));
        }
        let allowed = tools.iter();
        let allowed = allowed.filter(|tool| names.is_empty() || names.contains(&tool.name));
        Ok(allowed.cloned().collect())
    }

    /// Looks for keywords that cannot be, without compiling anything.
    pub fn check(&self) -> Result<(), GrammarError> {
        let checked = self.parameters.enforced(schema::Form::Object);
        checked.map(|_| ()).map_err(GrammarError::from)
    }
}
