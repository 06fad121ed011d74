//! A shape that the answer must have becomes a grammar that the sampler obeys.
//!
//! JSON is written without free white space: a weak model would fill an answer with it.

use std::borrow::Cow;
use std::sync::Arc;

use llguidance::{
    Matcher, ParserFactory,
    api::{GrammarWithLexer, ParserLimits, TopLevelGrammar},
};
use serde_json::Value;
use toktrie::TokEnv;

use crate::prompt::{ReasoningFormat, ToolFormat};

mod checked;
mod dead_end;
mod frame;
mod guide;
mod keys;
mod reason;
mod sandbox;
mod schema;
mod tool;

pub use checked::Checked;
pub use guide::{Guide, GuideError};
pub use sandbox::compile_schemas;
pub use sandbox::{Sandbox, SandboxError};
pub use schema::{Form, Schema};
pub use tool::Tool;

use frame::Beside;
use guide::Quotes;
use keys::{Keys, Start, Thought};
use reason::TOO_LARGE;
use schema::Unfit;

/// The name that the frame knows the schema of the answer by.
const ANSWER: &str = "answer";

/// Compiles grammars for one model.
pub struct Grammars {
    factory: ParserFactory,
    quotes: Arc<Quotes>,
}

/// A shape that an answer must have.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A JSON value that the schema accepts.
    Json(Schema),
    /// At least one call.
    Calls(Calls),
    /// At least one call, or a JSON value that the schema accepts.
    CallsOrJson(Calls, Schema),
    /// Any text, and calls in it.
    CallsInText(Calls),
}

/// The calls that an answer may have.
#[derive(Clone, Debug)]
pub struct Calls {
    /// How the model writes calls.
    pub format: ToolFormat,
    /// The tools that may be called; not empty.
    pub tools: Vec<Tool>,
    /// The request's other tools, which may not.
    pub forbidden: Vec<String>,
    /// More than one call may come.
    pub parallel: bool,
}

/// Reasoning that comes before the shape.
#[derive(Clone, Copy, Debug)]
pub enum Preamble {
    /// The answer begins with the shape.
    None,
    /// The model may reason first, in this format.
    Possible(ReasoningFormat),
    /// The prompt has already opened the reasoning.
    Open(ReasoningFormat),
}

/// A shape that cannot be enforced; the text is meant for the caller.
#[derive(Debug, thiserror::Error)]
pub enum GrammarError {
    /// The vocabulary cannot be used for grammars: no request's fault.
    #[error("the model's vocabulary cannot be used for grammars: {0}")]
    Prepare(String),
    /// A part of a schema.
    #[error("'{path}' cannot be enforced: {reason}.")]
    Schema {
        /// Where it stands in the request.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The tools together.
    #[error("The tools cannot be enforced: {0}.")]
    Tools(String),
    /// The answer got to where the shape has too many alternatives.
    #[error("The format of the answer cannot be enforced: {}.", TOO_LARGE)]
    TooLarge(&'static str),
    /// The answer got to where only keys that it already has can come.
    #[error(
        "The format of the answer cannot be completed: an object needs more different keys than its names allow."
    )]
    KeysUsedUp(&'static str),
    /// A tool that must be called is not there.
    #[error("The tool '{0}' in 'tool_choice' is not one of the 'tools'.")]
    Choose(String),
}

/// A schema under the name that the frame knows it by.
struct Part<'a> {
    name: String,
    schema: &'a Schema,
    enforced: Value,
}

// === impl Shape ===

impl Shape {
    /// The OpenAI field that asks for it.
    pub fn param(&self) -> &'static str {
        match self {
            Self::Json(_) | Self::CallsOrJson(..) => "response_format",
            Self::Calls(_) | Self::CallsInText(_) => "tools",
        }
    }

    /// Where there is JSON in the answer.
    fn start(&self) -> Start {
        match self {
            Self::Json(_) => Start::AtOnce,
            Self::Calls(calls) | Self::CallsOrJson(calls, _) => match calls.format {
                ToolFormat::Llama => Start::InARow,
                _ => Start::AtOnce,
            },
            Self::CallsInText(calls) => match calls.format {
                ToolFormat::Llama => Start::Never,
                _ => Start::Marked,
            },
        }
    }

    fn parts(&self) -> Result<Vec<Part<'_>>, Unfit> {
        let (calls, answer) = match self {
            Self::Json(schema) => (None, Some(schema)),
            Self::Calls(calls) | Self::CallsInText(calls) => (Some(calls), None),
            Self::CallsOrJson(calls, schema) => (Some(calls), Some(schema)),
        };
        let answer = answer.map(|schema| Part::new(ANSWER.to_owned(), schema, Form::Any));
        let tools = calls.into_iter().flat_map(|calls| &calls.tools).enumerate();
        let arguments =
            tools.map(|(at, tool)| Part::new(frame::arguments(at), &tool.parameters, Form::Object));
        answer.into_iter().chain(arguments).collect()
    }

    fn frame(&self, vocabulary: &toktrie::TokTrie, preamble: Preamble) -> String {
        match self {
            Self::Json(_) => frame::json(vocabulary, preamble),
            Self::Calls(calls) => frame::calls(vocabulary, calls, Beside::Nothing, preamble),
            Self::CallsOrJson(calls, _) => frame::calls(vocabulary, calls, Beside::Json, preamble),
            Self::CallsInText(calls) => frame::calls(vocabulary, calls, Beside::Text, preamble),
        }
    }
}

impl<'a> Part<'a> {
    fn new(name: String, schema: &'a Schema, form: Form) -> Result<Self, Unfit> {
        let enforced = schema.enforced(form)?;
        Ok(Self {
            name,
            schema,
            enforced,
        })
    }

    fn grammar(&self, name: &str) -> GrammarWithLexer {
        GrammarWithLexer {
            name: Some(name.to_owned()),
            json_schema: Some(self.enforced.clone()),
            ..GrammarWithLexer::default()
        }
    }

    /// What the compiler said about this schema, in our words, and by the path of what it means.
    fn unfit(&self, error: &str) -> GrammarError {
        let root = &self.schema.path;
        let at_fault = if reason::is_one_of(error) {
            schema::first_one_of(&self.enforced, root).zip(Some(
                "two of its schemas might accept the same value; use 'anyOf'",
            ))
        } else if reason::is_bound_of_members(error) {
            schema::first_bound_of_members(&self.enforced, root).zip(Some(
                "members can be counted only where all of 'properties' are 'required'",
            ))
        } else {
            None
        };
        match at_fault {
            Some((path, reason)) => GrammarError::Schema {
                path,
                reason: reason.to_owned(),
            },
            None => GrammarError::Schema {
                path: root.clone(),
                reason: reason::of_schema(error),
            },
        }
    }
}

// === impl Preamble ===

impl Preamble {
    fn thought(self) -> Thought {
        match self {
            Self::None => Thought::Over,
            Self::Possible(format) => {
                let (open, close) = format.frame();
                Thought::Possible(open, close)
            }
            Self::Open(format) => Thought::Open(format.frame().1),
        }
    }
}

// === impl GrammarError ===

impl GrammarError {
    /// The field at fault; none: the server itself.
    #[must_use]
    pub fn param(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Prepare(_) => None,
            Self::TooLarge(param) | Self::KeysUsedUp(param) => Some((*param).into()),
            Self::Schema { path, .. } => Some(path.clone().into()),
            Self::Tools(_) => Some("tools".into()),
            Self::Choose(_) => Some("tool_choice".into()),
        }
    }
}

impl From<Unfit> for GrammarError {
    fn from(Unfit { path, reason }: Unfit) -> Self {
        Self::Schema { path, reason }
    }
}

// === impl Grammars ===

impl Grammars {
    /// Prepares the vocabulary of a model, once.
    pub fn new(vocabulary: &TokEnv) -> Result<Self, GrammarError> {
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
        let quotes = Arc::new(Quotes::new(vocabulary));
        Ok(Self { factory, quotes })
    }

    /// Compiles a shape; up to a good part of a second for a big schema.
    ///
    /// The answer can end only where the shape is complete, and can get there from everywhere. A
    /// schema whose limits only show while it is obeyed makes the matcher fail later: its errors are to be watched.
    pub fn compile(&self, shape: &Shape, preamble: Preamble) -> Result<Guide, GrammarError> {
        let parts = shape.parts()?;
        let frame = shape.frame(self.trie(), preamble);
        let grammars = parts.iter().map(|part| part.grammar(&part.name));
        let matcher = self.matcher(frame, grammars.collect());
        let matcher = matcher.map_err(|reason| {
            // With several schemas: which of them is it?
            let at_fault = parts.iter().find_map(|part| {
                let error = self.matcher_alone(part).err()?;
                Some(part.unfit(&error))
            });
            match (at_fault, parts.as_slice()) {
                (Some(at_fault), _) => at_fault,
                (None, [part]) => part.unfit(&reason),
                (None, _) => GrammarError::Tools(reason::of_schema(&reason)),
            }
        })?;
        let keys = Keys::new(shape.start(), preamble.thought());
        Ok(Guide::new(matcher, keys, Arc::clone(&self.quotes)))
    }

    /// Compiles one schema, and forgets it.
    fn compile_alone(&self, schema: &Schema, form: Form) -> Result<(), GrammarError> {
        let part = Part::new(ANSWER.to_owned(), schema, form)?;
        match self.matcher_alone(&part) {
            Ok(_) => Ok(()),
            Err(error) => Err(part.unfit(&error)),
        }
    }

    fn matcher_alone(&self, part: &Part<'_>) -> Result<Matcher, String> {
        let alone = frame::json(self.trie(), Preamble::None);
        self.matcher(alone, vec![part.grammar(ANSWER)])
    }

    fn matcher(&self, frame: String, parts: Vec<GrammarWithLexer>) -> Result<Matcher, String> {
        let mut grammars = vec![GrammarWithLexer::from_lark(frame)];
        grammars.extend(parts);
        let grammar = TopLevelGrammar {
            grammars,
            max_tokens: None,
        };
        let parser = self.factory.create_parser(grammar);
        let parser = parser.map_err(|error| format!("{error:#}"))?;
        dead_end::check(parser.parser.grammar()).map_err(|error| error.to_string())?;
        let mut matcher = Matcher::new(Ok(parser));
        if let Some(error) = matcher.get_error() {
            return Err(error);
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

#[cfg(test)]
mod tests;
