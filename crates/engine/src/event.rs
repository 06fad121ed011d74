//! The events that an engine produces for a request, from its admission to its end.

use std::borrow::Cow;

/// One event of an answer.
#[derive(Debug)]
pub enum Event {
    /// The request runs.
    Admitted {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// How many of them the KV cache already held.
        cached_tokens: u32,
    },
    /// A choice produced tokens.
    Delta(Delta),
    /// One choice is complete.
    ChoiceFinished {
        /// The index of the choice.
        choice: u32,
        /// Why it is complete.
        reason: FinishReason,
    },
    /// All choices are complete; the last event.
    Finished(Usage),
    /// The request ended without being complete; the last event.
    Failed(Failure),
}

/// What a choice produced since its last delta.
#[derive(Debug, Default)]
pub struct Delta {
    /// The index of the choice.
    pub choice: u32,
    /// Text of the answer.
    pub content: String,
    /// Text of the reasoning.
    pub reasoning: String,
    /// Fragments of tool calls.
    pub tool_calls: Vec<ToolCallFragment>,
    /// Log probabilities of the tokens whose text this is, if the request asks for them.
    pub logprobs: Vec<TokenLogprob>,
    /// Every token produced since the last delta, including those whose text is held back.
    pub token_ids: Vec<u32>,
    /// How many more tokens were produced, by an engine that does not tell their ids.
    pub tokens_without_ids: u32,
}

/// A piece of an answer, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text of the answer.
    Content(String),
    /// Text of the model's reasoning.
    Reasoning(String),
    /// A tool call begins.
    ToolCallStart {
        /// The index of the call in the answer, from 0.
        index: u32,
        /// `call_` and 24 alphanumeric characters.
        id: String,
        /// Name of the function.
        name: String,
    },
    /// The next text of a call's arguments.
    ToolCallArguments {
        /// The index of the call in the answer, from 0.
        index: u32,
        /// A part of a JSON text.
        text: String,
    },
}

/// A fragment of one tool call.
#[derive(Debug)]
pub struct ToolCallFragment {
    /// The index of the call in its choice.
    pub index: u32,
    /// In the first fragment only.
    pub id: String,
    /// In the first fragment only.
    pub name: String,
    /// The next piece of the arguments.
    pub arguments: String,
}

/// How likely a produced token was.
#[derive(Debug)]
pub struct TokenLogprob {
    /// The token.
    pub token: TokenProbability,
    /// The likeliest at its position, best first.
    pub top: Vec<TokenProbability>,
}

/// A token and how likely it was.
#[derive(Debug)]
pub struct TokenProbability {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its turn, or a stop text came.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// The answer is one or more tool calls.
    ToolCalls,
    /// The engine withheld the rest.
    ContentFilter,
}

/// Token counts of a request over all its choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// How many of them the KV cache already held.
    pub cached_tokens: u32,
    /// Tokens produced, end tokens included: a model that ends its turn has computed that token too.
    pub completion_tokens: u32,
    /// How many of them were reasoning.
    pub reasoning_tokens: u32,
}

/// Why a request ends without being complete.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// A sentence; for the caller where the request is at fault, for the log otherwise.
    pub message: String,
    /// The OpenAI field at fault.
    pub param: Option<Cow<'static, str>>,
    /// What was produced before.
    pub usage: Usage,
    /// Tokens of a prompt that is too long or too expensive, or a lower bound of them; otherwise 0.
    pub prompt_tokens: u32,
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No worker of this model can serve it.
    InvalidRequest,
    /// The prompt does not fit into the context.
    ContextLengthExceeded,
    /// The queue is full.
    Overloaded,
    /// The model is being loaded.
    Loading,
    /// The worker is shutting down.
    Draining,
    /// The deadline has passed.
    DeadlineExceeded,
    /// The client read too slowly.
    SlowReader,
    /// The engine broke.
    Internal,
    /// Another model is served here.
    UnknownModel,
    /// The caller cancelled it.
    Cancelled,
    /// The prompt has more tokens than the request allows.
    PromptTooExpensive,
    /// The engine broke off while it had no other request: this one may be the cause.
    EngineCrashed,
}

// === impl Delta ===

impl Delta {
    /// Whether the delta has nothing that a client sees.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.content.is_empty() && self.reasoning.is_empty() && self.tool_calls.is_empty()
    }

    /// Appends a piece of the answer.
    pub fn add(&mut self, piece: Piece) {
        match piece {
            Piece::Content(text) => append(&mut self.content, text),
            Piece::Reasoning(text) => append(&mut self.reasoning, text),
            Piece::ToolCallStart { index, id, name } => {
                let arguments = String::new();
                self.tool_calls.push(ToolCallFragment {
                    index,
                    id,
                    name,
                    arguments,
                });
            }
            Piece::ToolCallArguments { index, text } => match self.tool_calls.last_mut() {
                Some(last) if last.index == index => append(&mut last.arguments, text),
                _ => self.tool_calls.push(ToolCallFragment {
                    index,
                    id: String::new(),
                    name: String::new(),
                    arguments: text,
                }),
            },
        }
    }
}

fn append(to: &mut String, text: String) {
    if to.is_empty() {
        *to = text;
    } else {
        to.push_str(&text);
    }
}

// === impl Piece ===

impl Piece {
    /// Appends this piece to `pieces`, joined with the last one if both are of one kind.
    pub fn append_to(self, pieces: &mut Vec<Self>) {
        match (pieces.last_mut(), self) {
            (Some(Self::Content(last)), Self::Content(text))
            | (Some(Self::Reasoning(last)), Self::Reasoning(text)) => last.push_str(&text),
            (
                Some(Self::ToolCallArguments { index, text: last }),
                Self::ToolCallArguments { index: of, text },
            ) if *index == of => last.push_str(&text),
            (_, piece) => pieces.push(piece),
        }
    }

    /// Appends to the content at the end of `pieces`, or begins it.
    pub fn content(text: &str, pieces: &mut Vec<Self>) {
        match pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Self::Content(content)) => content.push_str(text),
            _ => pieces.push(Self::Content(text.to_owned())),
        }
    }

    /// Appends to the reasoning at the end of `pieces`, or begins it.
    pub fn reasoning(text: &str, pieces: &mut Vec<Self>) {
        match pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Self::Reasoning(reasoning)) => reasoning.push_str(text),
            _ => pieces.push(Self::Reasoning(text.to_owned())),
        }
    }

    /// Appends to the arguments of call `index` at the end of `pieces`, or begins them.
    pub fn arguments(of: u32, text: &str, pieces: &mut Vec<Self>) {
        match pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Self::ToolCallArguments {
                index,
                text: arguments,
            }) if *index == of => {
                arguments.push_str(text);
            }
            _ => pieces.push(Self::ToolCallArguments {
                index: of,
                text: text.to_owned(),
            }),
        }
    }
}

// === impl Failure ===

impl Failure {
    /// A failure before anything was produced.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            usage: Usage::default(),
            prompt_tokens: 0,
        }
    }

    /// A prompt of so many tokens, for which the context has no room.
    #[must_use]
    pub fn too_long(param: &'static str, tokens: usize, most: usize) -> Self {
        Self::out_of_context(param, tokens, "", most)
    }

    /// A prompt that was not counted to its end: it has at least this many tokens.
    #[must_use]
    pub fn too_long_at_least(param: &'static str, tokens: usize, most: usize) -> Self {
        Self::out_of_context(param, tokens, "at least ", most)
    }

    fn out_of_context(param: &'static str, tokens: usize, bound: &str, most: usize) -> Self {
        let message = format!(
            "This model's maximum context length is {most} tokens. However, your {param} resulted \
             in {bound}{tokens} tokens. Please reduce the length of the {param}."
        );
        Self {
            param: Some(param.into()),
            prompt_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            ..Self::new(FailureKind::ContextLengthExceeded, message)
        }
    }

    /// A prompt has `tokens` tokens, and the request allows at most `most`.
    #[must_use]
    pub fn too_expensive(tokens: u32, most: u32) -> Self {
        let message = format!("the prompt has {tokens} tokens; the request allows {most}");
        Self {
            prompt_tokens: tokens,
            ..Self::new(FailureKind::PromptTooExpensive, message)
        }
    }

    /// More choices than can run together.
    #[must_use]
    pub fn too_many_choices(most: usize) -> Self {
        let message = format!("This model produces at most {most} choices for one request.");
        Self::invalid("n", message)
    }

    /// A request that is wrong in this field.
    pub fn invalid(param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(FailureKind::InvalidRequest, message)
        }
    }
}

// === impl FailureKind ===

impl FailureKind {
    /// Its name in metrics and spans.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::Overloaded => "overloaded",
            Self::Loading => "loading",
            Self::Draining => "draining",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::SlowReader => "slow_reader",
            Self::Internal => "internal",
            Self::UnknownModel => "unknown_model",
            Self::Cancelled => "cancelled",
            Self::PromptTooExpensive => "prompt_too_expensive",
            Self::EngineCrashed => "engine_crashed",
        }
    }

    /// Whether the engine is at fault, not the request, the client or the load.
    #[must_use]
    pub fn is_of_the_engine(self) -> bool {
        match self {
            Self::Internal | Self::EngineCrashed => true,
            Self::InvalidRequest
            | Self::ContextLengthExceeded
            | Self::Overloaded
            | Self::Loading
            | Self::Draining
            | Self::DeadlineExceeded
            | Self::SlowReader
            | Self::UnknownModel
            | Self::PromptTooExpensive
            | Self::Cancelled => false,
        }
    }
}
