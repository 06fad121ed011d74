//! How a model writes tool calls and reasoning, read off its chat template.

/// How a model writes tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolFormat {
    /// Hermes, Qwen: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, once for each call.
    Hermes,
    /// Llama 3.x: the whole answer is `{"name": …, "parameters": {…}}`; several are separated by `;`.
    Llama,
    /// Mistral: `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`.
    Mistral,
    /// Newer Mistral: `[TOOL_CALLS]name[ARGS]{…}`, once for each call.
    MistralNamed,
}

/// How a model writes what it thinks before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningFormat {
    /// `<think>…</think>` at the start of the answer.
    Think,
}

// === impl ToolFormat ===

impl ToolFormat {
    /// The format that a template teaches its model. A template without tools, or with a format
    /// that is not known here (`<function=…>`), has none.
    pub(super) fn of_template(source: &str) -> Option<Self> {
        if source.contains("<function=") {
            None
        } else if source.contains("<tool_call>") {
            Some(Self::Hermes)
        } else if source.contains("[TOOL_CALLS]") {
            let named = source.contains("[ARGS]");
            Some(if named {
                Self::MistralNamed
            } else {
                Self::Mistral
            })
        } else if source.contains("<|start_header_id|>") && source.contains("\"parameters\"") {
            Some(Self::Llama)
        } else {
            None
        }
    }

    /// What frames a call, and can be a token of its own that is not text.
    #[must_use]
    pub fn markers(self) -> &'static [&'static str] {
        match self {
            Self::Hermes => &["<tool_call>", "</tool_call>"],
            Self::Llama => &["<|python_tag|>"],
            Self::Mistral | Self::MistralNamed => &["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"],
        }
    }
}

// === impl ReasoningFormat ===

impl ReasoningFormat {
    /// The format that a template knows.
    pub(super) fn of_template(source: &str) -> Option<Self> {
        source.contains("</think>").then_some(Self::Think)
    }

    /// What opens and what closes the reasoning.
    #[must_use]
    pub fn frame(self) -> (&'static str, &'static str) {
        match self {
            Self::Think => ("<think>", "</think>"),
        }
    }

    /// What frames the reasoning, and can be a token of its own that is not text.
    #[must_use]
    pub fn markers(self) -> &'static [&'static str] {
        match self {
            Self::Think => &["<think>", "</think>"],
        }
    }
}
