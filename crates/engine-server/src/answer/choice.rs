//! One choice of an answer: what its chunks bring, and what is not emitted yet.

use inferyard_chat::output::{Output, Progress};
use inferyard_engine::event::{Delta, FinishReason, TokenLogprob};

use crate::calls::Calls;
use crate::chunk::{CallFragment, ChunkDelta};
use crate::upstream_request::ReadOptions;
use crate::wide::{Joined, Wide};

/// One choice of an answer.
#[derive(Default)]
pub(super) struct Choice {
    calls: Calls,
    text: Joined,
    thoughts: Joined,
    // Where tool calls are looked for in the text.
    output: Option<Output>,
    // Tokens that were counted, and those of them that were emitted.
    pub(super) counted: u32,
    pub(super) emitted: u32,
    pub(super) logprobs: Vec<TokenLogprob>,
    // The only tool call that may come is complete; the engine goes on for nothing.
    pub(super) stopped: bool,
    // What has come of it.
    pub(super) came: Came,
    // How it ended, as the engine says. Text that comes after that belongs to it all the same.
    pub(super) reason: Option<FinishReason>,
}

/// What has come of a choice, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Came {
    /// No chunk.
    #[default]
    Nothing,
    /// A chunk with nothing of an answer.
    Chunk,
    /// Reasoning, or a call of a tool.
    Beginning,
    /// Text that is no reasoning.
    Content,
}

// === impl Choice ===

impl Choice {
    /// Nothing of it has come.
    pub(super) fn new(output: Option<Output>) -> Self {
        Self {
            output,
            ..Self::default()
        }
    }

    /// Adds what is new to the delta. Whether there was anything, and whether it was reasoning.
    pub(super) fn take(
        &mut self,
        new: ChunkDelta<'_>,
        text: Option<Wide>,
        options: &ReadOptions,
        delta: &mut Delta,
    ) -> Option<bool> {
        let parts = [new.content, new.refusal, text];
        let content = parts.into_iter().flatten().find(|text| !text.is_empty());
        let thoughts = [new.reasoning_content, new.reasoning];
        let reasoning = thoughts.into_iter().flatten().find(|text| !text.is_empty());
        let legacy = new.function_call.map(|function| CallFragment {
            index: Some(0),
            id: None,
            function,
        });
        let mut any = None;
        if let Some(reasoning) = reasoning {
            any = Some(true);
            delta.reasoning = self.thoughts.push(reasoning);
        }
        if let Some(content) = content {
            any = Some(false);
            self.came = Came::Content;
            let content = self.text.push(content);
            self.content(content, delta);
        }
        for fragment in new.tool_calls.into_iter().chain(legacy) {
            any = Some(false);
            self.calls.push(fragment, options, &mut delta.tool_calls);
        }
        if any.is_some() {
            self.came = self.came.max(Came::Beginning);
        }
        any
    }

    /// The engine did nothing but call tools that the request does not allow.
    pub(super) fn only_forbidden_calls(&self) -> bool {
        self.calls.only_forbidden() && self.came < Came::Content
    }

    fn content(&mut self, content: String, delta: &mut Delta) {
        let Some(output) = self.output.as_mut().filter(|_| !self.calls.any()) else {
            delta.content = content;
            return;
        };
        let mut pieces = Vec::new();
        self.stopped |= output.push(content.as_bytes(), &mut pieces) == Progress::Stopped;
        for piece in pieces {
            delta.add(piece);
        }
    }

    /// Adds what was held back. Whether tools were called.
    pub(super) fn finish(&mut self, delta: &mut Delta) -> bool {
        delta.reasoning.extend(self.thoughts.finish());
        if let Some(half) = self.text.finish() {
            self.content(half.into(), delta);
        }
        let mut called = self.calls.any();
        self.calls.finish(&mut delta.tool_calls);
        if let Some(output) = &mut self.output {
            let mut pieces = Vec::new();
            output.finish(&mut pieces);
            for piece in pieces {
                delta.add(piece);
            }
            called |= output.called_tools();
        }
        called
    }

    /// Adds the tokens and log probabilities that are not emitted yet.
    pub(super) fn flush(&mut self, delta: &mut Delta) {
        delta.tokens_without_ids = self.counted - self.emitted;
        self.emitted = self.counted;
        delta.logprobs.append(&mut self.logprobs);
    }
}
