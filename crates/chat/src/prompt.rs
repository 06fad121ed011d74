//! A conversation becomes the model's own prompt text.

use std::ops::Range;

use minijinja::{Environment, Value};

mod cause;
mod clock;
mod conversation;
mod error;
mod exact;
mod format;
mod capabilities;
mod jinja;
mod limited;
mod spelling;

use capabilities::TemplateCapabilities;
use cause::Cause;
pub use error::TemplateError;
pub use format::{ReasoningFormat, ToolFormat};
use limited::Limited;
use spelling::{Controls, Marked};

/// Name of the one template in the environment.
const CHAT: &str = "chat";
/// What every template is given. `rpc::read` refuses these names, and others, as variables of the caller.
const GIVEN: [&str; 5] = [
    "messages",
    "tools",
    "bos_token",
    "eos_token",
    "add_generation_prompt",
];
/// The caller's further variables, as OpenAI-compatible servers name them.
const KWARGS: &str = "chat_template_kwargs";

/// A model's chat template, compiled once.
pub struct ChatTemplate {
    compiled: Compiled,
    capabilities: TemplateCapabilities,
    tool_format: Option<ToolFormat>,
    reasoning_format: Option<ReasoningFormat>,
    controls: Controls,
}

struct Compiled {
    environment: Environment<'static>,
    special: SpecialTokens,
}

/// The texts of the tokens that templates name.
pub struct SpecialTokens {
    /// Text of the token that begins a prompt; empty where the model has none.
    pub bos: String,
    /// Text of the token that ends a turn; empty where the model has none.
    pub eos: String,
    /// Texts of all tokens that are not text.
    pub control: Vec<String>,
}

/// What a template is rendered with: the client's own JSON.
pub struct Conversation<'a> {
    /// A JSON array of OpenAI messages.
    pub messages_json: &'a [u8],
    /// A JSON array of OpenAI tools, or empty.
    pub tools_json: &'a [u8],
    /// A JSON object of further template variables, or empty.
    pub template_kwargs_json: &'a [u8],
}

/// What the client gives a template.
struct Given {
    messages: Value,
    tools: Value,
    kwargs: Vec<(String, Value)>,
}

/// A prompt, ready for the tokenizer (which must add no beginning token of its own).
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Its parts in which no text is a control token, in order: the client spells one there.
    pub plain: Vec<Range<usize>>,
    /// The prompt ends inside the model's reasoning.
    pub reasoning_open: bool,
}

/// Whether a text is a Jinja template; why not, if it is none.
pub fn check(source: &str) -> Result<(), String> {
    let source = jinja::without_generation_marks(source);
    let compiled = jinja::environment().template_from_str(&source).map(drop);
    compiled.map_err(|error| {
        let (line, kind) = (error.line().unwrap_or(1), error.kind());
        let said = error
            .detail()
            .map_or_else(|| kind.to_string(), str::to_owned);
        format!("this is no chat template, in line {line}: {said}")
    })
}

// === impl ChatTemplate ===

impl ChatTemplate {
    /// Compiles the template of a model and finds out what it is used to.
    pub fn new(source: &str, special: SpecialTokens) -> Result<Self, TemplateError> {
        let mut environment = jinja::environment();
        // A worker serves one model for its whole life; the environment wants to borrow its source.
        let lasting: &'static str = jinja::without_generation_marks(source).leak();
        environment
            .add_template(CHAT, lasting)
            .map_err(TemplateError::Compile)?;
        let tool_format = ToolFormat::of_template(source);
        let reasoning_format = ReasoningFormat::of_template(source);
        let controls = Controls::new(special.control.iter().map(String::as_str), source);
        let compiled = Compiled {
            environment,
            special,
        };
        let capabilities = TemplateCapabilities::find(source, |messages| {
            compiled
                .text(
                    &Given {
                        messages,
                        tools: Value::from(()),
                        kwargs: Vec::new(),
                    },
                    Limited::new(usize::MAX, &|| true),
                )
                .ok()
        });
        Ok(Self {
            compiled,
            capabilities,
            tool_format,
            reasoning_format,
            controls,
        })
    }

    /// How the model writes tool calls; none: it knows no tools.
    pub fn tool_format(&self) -> Option<ToolFormat> {
        self.tool_format
    }

    /// How the model writes its reasoning; none: it does not.
    pub fn reasoning_format(&self) -> Option<ReasoningFormat> {
        self.reasoning_format
    }

    /// The prompt of a conversation, up to where the model's turn begins.
    ///
    /// # Errors
    ///
    /// The conversation is not valid, its prompt has more than `most_bytes` bytes, or `go_on`, asked
    /// now and then, says no.
    pub fn render(
        &self,
        chat: &Conversation<'_>,
        most_bytes: usize,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Rendered, TemplateError> {
        let (text, plain) = self
            .text(chat, most_bytes, go_on)
            .map_err(|error| self.blame(error, chat, most_bytes, go_on))?;
        let reasoning_open = self
            .reasoning_format
            .is_some_and(|reasoning| text.trim_end().ends_with(reasoning.frame().0));
        Ok(Rendered {
            text,
            plain,
            reasoning_open,
        })
    }

    /// The prompt, and what of it the client spells.
    fn text(
        &self,
        chat: &Conversation<'_>,
        most_bytes: usize,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(String, Vec<Range<usize>>), TemplateError> {
        let given = Given {
            messages: conversation::messages(chat.messages_json, &self.capabilities)?,
            tools: conversation::tools(chat.tools_json)?,
            kwargs: conversation::object(chat.template_kwargs_json, KWARGS)?,
        };
        let text = Limited::new(most_bytes, go_on);
        let text = self.compiled.text(&given, text)?;
        self.plain_parts(text, &given, most_bytes, go_on)
    }

    /// A template does not say what it fails on, so it is tried without the parts that can be left out.
    fn blame(
        &self,
        error: TemplateError,
        chat: &Conversation<'_>,
        most_bytes: usize,
        go_on: &dyn Fn() -> bool,
    ) -> TemplateError {
        if !matches!(
            error,
            TemplateError::Refuse { .. } | TemplateError::Render { .. }
        ) {
            return error;
        }
        let without = |part: &[u8], rest: Conversation<'_>| {
            !part.is_empty() && self.text(&rest, most_bytes, go_on).is_ok()
        };
        let no_tools = Conversation {
            tools_json: b"",
            ..*chat
        };
        let no_variables = Conversation {
            template_kwargs_json: b"",
            ..*chat
        };
        if without(chat.tools_json, no_tools) {
            error.because_of(Cause::Tools)
        } else if without(chat.template_kwargs_json, no_variables) {
            error.because_of(Cause::Variables)
        } else {
            error
        }
    }

    /// Finds in a prompt what the client spells, by rendering it again with marks.
    fn plain_parts(
        &self,
        text: String,
        given: &Given,
        most_bytes: usize,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(String, Vec<Range<usize>>), TemplateError> {
        let mark = self.controls.mark_for(&given.values());
        let Some(mark) = mark.map_err(|()| TemplateError::no_mark())? else {
            return Ok((text, Vec::new()));
        };
        // Templates look for the marks of reasoning in what the model has written before.
        let written = self.reasoning_format.map_or(&[][..], |it| it.markers());
        let marked = given.marked(&self.controls, mark, written);
        // A mark has four bytes, and no two are in one character.
        let limit = Limited::new(most_bytes.saturating_mul(5), go_on);
        let marked = Marked::new(&self.compiled.text(&marked, limit)?, mark);
        if marked.text == text {
            let plain = self.controls.plain_parts(&marked);
            return Ok((text, plain));
        }
        // The template compares or measures texts, so the marks have changed more than what is tokenized.
        if self.controls.are_own(&text, &marked) {
            return Ok((text, Vec::new()));
        }
        let plain = self.controls.plain_parts(&marked);
        Ok((marked.text, plain))
    }
}

// === impl Given ===

impl Given {
    fn values(&self) -> Vec<&Value> {
        let kwargs = self.kwargs.iter().map(|(_, value)| value);
        [&self.messages, &self.tools]
            .into_iter()
            .chain(kwargs)
            .collect()
    }

    /// The same with marks; `written`: control tokens that a model's own messages may have.
    fn marked(&self, controls: &Controls, mark: char, written: &[&str]) -> Self {
        let message = |message: Value| {
            let role = message.get_attr("role").unwrap_or_default();
            let kept = match role.as_str() {
                Some("assistant") => written,
                _ => &[],
            };
            controls.marked(&message, mark, kept)
        };
        let messages = self.messages.try_iter().into_iter().flatten();
        let kwargs = self.kwargs.iter();
        Self {
            messages: messages.map(message).collect(),
            tools: controls.marked(&self.tools, mark, &[]),
            kwargs: kwargs
                .map(|(name, value)| (name.clone(), controls.marked(value, mark, &[])))
                .collect(),
        }
    }
}

// === impl Compiled ===

impl Compiled {
    fn text(&self, given: &Given, mut text: Limited<'_>) -> Result<String, TemplateError> {
        let own = [
            given.messages.clone(),
            given.tools.clone(),
            Value::from(self.special.bos.as_str()),
            Value::from(self.special.eos.as_str()),
            Value::from(true),
        ];
        let own = GIVEN.into_iter().map(ToOwned::to_owned).zip(own);
        let variables: Value = given.kwargs.iter().cloned().chain(own).collect();
        let template = self.environment.get_template(CHAT);
        let rendered = template
            .and_then(|template| template.render_captured_to(variables, &mut text).map(drop));
        text.finish(rendered)
    }
}

#[cfg(test)]
mod tests;
