//! A shape that the answer must have becomes a grammar that the sampler obeys.
//!
//! JSON is written without free white space: a weak model would fill an answer with it.

use llguidance::{
    Matcher, ParserFactory,
    api::{GrammarWithLexer, ParserLimits, TopLevelGrammar},
};
use serde_json::{Value, json};
use toktrie::TokEnv;

use crate::prompt::{ReasoningFormat, ToolFormat};

mod dead_end;
mod frame;
mod schema;
mod tool;

pub(crate) use tool::Tool;

/// Why a shape is given up that compiles.
const TOO_LARGE: &str = "it has too many alternatives";

/// Compiles grammars for one model.
pub(crate) struct Grammars {
    factory: ParserFactory,
}

/// A shape that an answer must have.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// Any JSON object.
    JsonObject,
    /// A JSON value that the schema accepts.
    JsonSchema(Value),
    /// At least one call of one of the tools.
    ToolCalls {
        /// How the model writes calls.
        format: ToolFormat,
        /// The tools that may be called; not empty.
        tools: Vec<Tool>,
        /// More than one call may come.
        parallel: bool,
    },
}

/// Reasoning that comes before the shape.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Preamble {
    /// The answer begins with the shape.
    None,
    /// The model may reason first, in this format.
    Possible(ReasoningFormat),
    /// The prompt has already opened the reasoning.
    Open(ReasoningFormat),
}

/// A shape that cannot be enforced; the text is meant for the caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrammarError {
    /// The vocabulary cannot be used for grammars: no request's fault.
    #[error("the model's vocabulary cannot be used for grammars: {0}")]
    Prepare(String),
    /// The schema of the answer.
    #[error("The schema in 'response_format' cannot be enforced: {0}.")]
    Schema(String),
    /// The schema of a tool's arguments.
    #[error("The parameters of the tool '{name}' cannot be enforced: {reason}.")]
    Parameters {
        /// Name of the function.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The tools together.
    #[error("The tools cannot be enforced: {0}.")]
    Tools(String),
    /// The answer got to where the shape has too many alternatives.
    #[error("The format of the answer cannot be enforced: {}.", TOO_LARGE)]
    TooLarge(&'static str),
    /// A tool that must be called is not there.
    #[error("The tool '{0}' in 'tool_choice' is not one of the 'tools'.")]
    Choose(String),
}

// === impl Shape ===

impl Shape {
    /// The OpenAI field that asks for it.
    pub(crate) fn param(&self) -> &'static str {
        match self {
            Self::JsonObject | Self::JsonSchema(_) => "response_format",
            Self::ToolCalls { .. } => "tools",
        }
    }
}

// === impl GrammarError ===

impl GrammarError {
    /// The OpenAI field at fault; none: the server itself.
    pub(crate) fn param(&self) -> Option<&'static str> {
        match self {
            Self::Prepare(_) => None,
            Self::TooLarge(param) => Some(param),
            Self::Schema(_) => Some("response_format"),
            Self::Parameters { .. } | Self::Tools(_) => Some("tools"),
            Self::Choose(_) => Some("tool_choice"),
        }
    }
}

// === impl Grammars ===

impl Grammars {
    /// Prepares the vocabulary of a model, once.
    pub(crate) fn new(vocabulary: &TokEnv) -> Result<Self, GrammarError> {
        let mut factory = ParserFactory::new_simple(vocabulary)
            .map_err(|error| GrammarError::Prepare(error.to_string()))?;
        // Errors and logs must not quote what is being written.
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            max_grammar_size: 100_000,
            max_lexer_states: 50_000,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        Ok(Self { factory })
    }

    /// Compiles a shape; up to a good part of a second for a big schema.
    ///
    /// The answer can end only where the shape is complete, and can get there from everywhere. A
    /// schema whose limits only show while it is obeyed makes the matcher fail later: its errors are to be watched.
    pub(crate) fn compile(
        &self,
        shape: &Shape,
        preamble: Preamble,
    ) -> Result<Matcher, GrammarError> {
        match shape {
            Shape::JsonObject => {
                let object = schema::enforced(&json!({ "type": "object" }), true);
                self.schema(object, preamble)
            }
            Shape::JsonSchema(schema) => self.schema(schema::enforced(schema, true), preamble),
            Shape::ToolCalls {
                format,
                tools,
                parallel,
            } => self.tool_calls(*format, tools, *parallel, preamble),
        }
    }

    fn schema(
        &self,
        schema: Result<Value, String>,
        preamble: Preamble,
    ) -> Result<Matcher, GrammarError> {
        let schema = schema.map_err(GrammarError::Schema)?;
        let frame = frame::json(self.trie(), preamble);
        self.matcher(frame, vec![named("answer", schema)])
            .map_err(GrammarError::Schema)
    }

    fn tool_calls(
        &self,
        format: ToolFormat,
        tools: &[Tool],
        parallel: bool,
        preamble: Preamble,
    ) -> Result<Matcher, GrammarError> {
        let schemas = tools.iter().enumerate().map(|(at, tool)| {
            let schema = schema::enforced(&tool.parameters, tool.strict)
                .and_then(schema::of_object)
                .map_err(|reason| GrammarError::Parameters {
                    name: tool.name.clone(),
                    reason,
                })?;
            Ok(named(&frame::arguments(at), schema))
        });
        let schemas = schemas.collect::<Result<Vec<_>, _>>()?;
        let names: Vec<_> = tools.iter().map(|tool| tool.name.as_str()).collect();
        let frame = frame::calls(self.trie(), format, &names, parallel, preamble);
        self.matcher(frame, schemas.clone()).map_err(|reason| {
            // With several tools: which of them is it?
            let at_fault = tools.iter().zip(schemas).find_map(|(tool, mut schema)| {
                schema.name = Some("answer".to_owned());
                let alone = frame::json(self.trie(), Preamble::None);
                self.matcher(alone, vec![schema])
                    .err()
                    .map(|reason| (tool.name.clone(), reason))
            });
            match at_fault {
                Some((name, reason)) => GrammarError::Parameters { name, reason },
                None => GrammarError::Tools(reason),
            }
        })
    }

    fn matcher(&self, frame: String, parts: Vec<GrammarWithLexer>) -> Result<Matcher, String> {
        let mut grammars = vec![GrammarWithLexer::from_lark(frame)];
        grammars.extend(parts);
        let grammar = TopLevelGrammar {
            grammars,
            max_tokens: None,
        };
        let parser = self
            .factory
            .create_parser(grammar)
            .map_err(|error| sentence(&error.to_string()))?;
        dead_end::check(parser.parser.grammar()).map_err(|error| error.to_string())?;
        let mut matcher = Matcher::new(Ok(parser));
        if let Some(error) = matcher.get_error() {
            return Err(sentence(&error));
        }
        // What the first token may be: a shape that is too large for that is refused here, and the
        // engine, which all requests wait for, finds this work done.
        match matcher.compute_mask_or_eos() {
            Ok(_) => Ok(matcher),
            Err(_) => Err(TOO_LARGE.to_owned()),
        }
    }

    fn trie(&self) -> &toktrie::TokTrie {
        self.factory.tok_env().tok_trie()
    }
}

fn named(name: &str, schema: Value) -> GrammarWithLexer {
    GrammarWithLexer {
        name: Some(name.to_owned()),
        json_schema: Some(schema),
        ..GrammarWithLexer::default()
    }
}

/// The first line of an error, without the words that only the library's user needs.
fn sentence(error: &str) -> String {
    let mut lines = error.lines();
    let line = lines.next().unwrap_or_default().trim();
    let line = line.strip_prefix("Error:").map_or(line, str::trim);
    let line = line.trim_end_matches(['.', ':']);
    // An error in a regex shows the regex first, indented, and says last what is wrong with it.
    let reason = lines.find_map(|line| line.strip_prefix("error: "));
    let whole = match reason {
        Some(reason) => format!("{line}: {}", reason.trim_end_matches('.')),
        None => line.to_owned(),
    };
    whole.chars().take(300).collect()
}

#[cfg(test)]
mod tests;
