//! The bytes of tokens become content, reasoning and tool calls.
//!
//! # Stages
//!
//! ```text
//!  utf8        bytes → whole characters
//!  reasoning   text → reasoning · the answer
//!  tool_calls  the answer → tool calls · content
//!  stops       pieces → pieces up to a stop text in the content
//! ```
//!
//! # Guarantees
//!
//! However the bytes are cut into tokens, the pieces say the same. Every byte is looked at once.
//! Text that only looked like a tool call comes out as content. A stop text never cuts reasoning or a
//! tool call.

use std::borrow::Cow;
use std::sync::Arc;

use inferyard_engine::event::Piece;

use crate::prompt::{ReasoningFormat, ToolFormat};

mod utf8;
mod reasoning;
mod tool_calls;
mod stops;
mod search;

use reasoning::Reasoning;
use stops::Stops;
use tool_calls::ToolCalls;
pub use tool_calls::random_id;
use utf8::Utf8;

/// Reads the answer of one choice, token by token.
pub struct Output {
    characters: Utf8,
    reasoning: Option<Reasoning>,
    tool_calls: Option<ToolCalls>,
    // None: no text stops the answer.
    stops: Option<Stops>,
    // What the stages before `stops` have read of the newest token; empty between two calls.
    read: Vec<Piece>,
    called_tools: bool,
    progress: Progress,
}

/// What an answer is read for.
#[derive(Clone, Debug, Default)]
pub struct OutputFormat {
    /// Texts that end the answer where its content has them, and are not part of it. The one that is
    /// complete first counts; of several that end together, the longest.
    pub stop: Vec<String>,
    /// How tool calls look. None: tool calls are not looked for (no tools, or tool_choice none).
    pub tools: Option<ToolFormat>,
    /// More than one call may come.
    pub parallel_tool_calls: bool,
    /// The tools that may be called; a call of another one is content. None: whatever is called.
    pub allowed_tools: Option<Arc<[String]>>,
    /// An answer is calls or content: what begins as content has no call in it.
    pub calls_or_content: bool,
    /// How reasoning looks. None: it is not looked for.
    pub reasoning: Option<ReasoningFormat>,
    /// The prompt has already opened the reasoning.
    pub reasoning_open: bool,
}

/// Whether the answer goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Produce the next token.
    #[default]
    Continue,
    /// A stop text came, or the only allowed tool call is complete: call `finish`, push no more.
    Stopped,
}

/// Texts of those control tokens whose bytes must be pushed; the others are not part of an answer.
pub fn markers(
    tools: Option<ToolFormat>,
    reasoning: Option<ReasoningFormat>,
) -> impl Iterator<Item = &'static str> {
    let tools = tools.map_or(&[] as &[_], ToolFormat::markers);
    let reasoning = reasoning.map_or(&[] as &[_], ReasoningFormat::markers);
    tools.iter().chain(reasoning).copied()
}

// === impl Output ===

impl Output {
    /// An answer about to begin.
    #[must_use]
    pub fn new(format: &OutputFormat) -> Self {
        Self {
            characters: Utf8::default(),
            reasoning: format
                .reasoning
                .map(|reasoning| Reasoning::new(reasoning, format.reasoning_open)),
            tool_calls: format.tools.map(|tools| ToolCalls::new(tools, format)),
            stops: (!format.stop.is_empty()).then(|| Stops::new(&format.stop)),
            read: Vec::new(),
            called_tools: false,
            progress: Progress::Continue,
        }
    }

    /// Takes the bytes of one produced token and appends the pieces that are now certain.
    pub fn push(&mut self, token: &[u8], pieces: &mut Vec<Piece>) -> Progress {
        let text = self.characters.push(token);
        self.read(&text);
        self.pass_on(pieces);
        self.progress
    }

    /// Ends the answer: appends what was held back. Half a character becomes U+FFFD, a tool call that was cut off stays
    /// as it is, half a stop text turns out to be text.
    pub fn finish(&mut self, pieces: &mut Vec<Piece>) {
        if self.stops.as_ref().is_some_and(Stops::found) {
            return;
        }
        let text = self.characters.finish();
        self.read(text);
        if let Some(reasoning) = &mut self.reasoning {
            let answer = reasoning.finish(&mut self.read);
            read_answer(&answer, self.tool_calls.as_mut(), &mut self.read);
        }
        if let Some(tool_calls) = &mut self.tool_calls {
            tool_calls.finish(&mut self.read);
        }
        self.pass_on(pieces);
        if let Some(stops) = &mut self.stops {
            stops.finish(pieces);
        }
    }

    /// Whether a tool call was produced.
    #[must_use]
    pub fn called_tools(&self) -> bool {
        self.called_tools
    }

    /// Whether the last token was part of the reasoning.
    #[must_use]
    pub fn in_reasoning(&self) -> bool {
        self.reasoning.as_ref().is_some_and(Reasoning::is_open)
    }

    /// The second and the third stage: text becomes pieces in `read`.
    fn read(&mut self, text: &str) {
        if text.is_empty() || self.progress == Progress::Stopped {
            return;
        }
        let answer = match &mut self.reasoning {
            Some(reasoning) => reasoning.push(text, &mut self.read),
            None => Cow::Borrowed(text),
        };
        self.progress = read_answer(&answer, self.tool_calls.as_mut(), &mut self.read);
    }

    /// The last stage: what was read is appended to `pieces`, up to a stop text.
    fn pass_on(&mut self, pieces: &mut Vec<Piece>) {
        let before = pieces.len();
        let read = self.read.drain(..);
        match &mut self.stops {
            None => read.for_each(|piece| piece.append_to(pieces)),
            Some(stops) => stops.search(read, pieces),
        }
        if self.stops.as_ref().is_some_and(Stops::found) {
            self.progress = Progress::Stopped;
        }
        let is_call = |piece: &Piece| matches!(piece, Piece::ToolCallStart { .. });
        self.called_tools |= pieces[before..].iter().any(is_call);
    }
}

/// What is not reasoning becomes tool calls and content.
fn read_answer(
    text: &str,
    tool_calls: Option<&mut ToolCalls>,
    pieces: &mut Vec<Piece>,
) -> Progress {
    if let Some(tool_calls) = tool_calls {
        return tool_calls.push(text, pieces);
    }
    Piece::content(text, pieces);
    Progress::Continue
}

#[cfg(test)]
mod tests;
