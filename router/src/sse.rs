//! Step 7: events of a worker become the frames of OpenAI's event stream; pure.

use bytes::{BufMut as _, Bytes, BytesMut};
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::{
    ChoiceFinished, Delta, Finished, TokenLogprob, ToolCallDelta, Usage,
};

use crate::error::Error;
use crate::read::{Api, Shape, StreamOptions};
use crate::wire::{self, ContractError, Head, LegacyLogprobs, escape, quote};

const DONE: &[u8] = b"data: [DONE]\n\n";

/// The encoder of one stream.
#[derive(Debug)]
pub(crate) struct Frames {
    head: Head,
    shape: Shape,
    include_usage: bool,
    /// A chunk up to and with `"choices":[`.
    start: Bytes,
    /// A chunk from the end of its choice.
    end: Bytes,
    choices: Vec<Choice>,
    ended: bool,
}

/// How far a choice has come.
#[derive(Debug, Clone, Copy, Default)]
struct Choice {
    started: bool,
    finished: bool,
    /// Characters so far, for the legacy log probabilities.
    offset: usize,
}

// === impl Frames ===

impl Frames {
    /// An encoder for one answer. What is the same in all chunks is built here, once.
    pub(crate) fn new(head: &Head, shape: Shape, options: StreamOptions) -> Self {
        let (mut start, mut end) = (BytesMut::from("data: "), BytesMut::from("}]"));
        match shape.api {
            Api::Chat => {
                head.open("chat.completion.chunk", &mut start);
                head.model(&mut start);
                start.put_slice(b",\"service_tier\":\"default\",\"system_fingerprint\":null");
            }
            // Here OpenAI puts the model after the choices.
            Api::Completions => {
                head.open("text_completion", &mut start);
                head.model(&mut end);
            }
        }
        start.put_slice(b",\"choices\":[");
        if options.include_usage {
            end.put_slice(b",\"usage\":null");
        }
        end.put_slice(b"}\n\n");
        Self {
            head: head.clone(),
            shape,
            include_usage: options.include_usage,
            start: start.freeze(),
            end: end.freeze(),
            choices: (0..shape.choices).map(|_| Choice::default()).collect(),
            ended: false,
        }
    }

    /// Appends the frames of one event; after the end nothing. `Failed` is not for this encoder:
    /// the step before it turns it into an error for [`Frames::fail`], as it does with the error
    /// that this gives.
    pub(crate) fn push(&mut self, event: &Event, out: &mut BytesMut) -> Result<(), ContractError> {
        if self.ended {
            return Ok(());
        }
        match event {
            Event::Admitted(_) | Event::Failed(_) => Ok(()),
            Event::Delta(delta) => self.delta(delta, out),
            Event::ChoiceFinished(finished) => self.choice_finished(*finished, out),
            Event::Finished(finished) => self.finished(finished, out),
        }
    }

    /// Ends the stream with an error frame: without one, clients take what they have for the whole.
    pub(crate) fn fail(&mut self, error: &Error, out: &mut BytesMut) {
        if self.ended {
            return;
        }
        self.ended = true;
        out.put_slice(b"data: ");
        error.object(&self.head.request_id, out);
        out.put_slice(b"\n\n");
        out.put_slice(DONE);
    }

    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) -> Result<(), ContractError> {
        self.running(delta.choice)?;
        match self.shape.api {
            Api::Chat => self.chat_delta(delta, out),
            Api::Completions => self.text_delta(delta, out),
        }
        Ok(())
    }

    fn chat_delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        let mut parts = parts(delta).peekable();
        let Some(first) = parts.peek() else {
            return;
        };
        // A choice that begins with a tool call names its role in the same chunk.
        let begins = self.start_choice(delta.choice);
        let mut merged = begins && matches!(first, Part::Call(_));
        if begins && !merged {
            self.role(delta.choice, out);
        }
        while let Some(part) = parts.next() {
            self.open(delta.choice, out);
            if merged {
                out.put_slice(b"\"role\":\"assistant\",\"content\":null,");
            }
            part.write(out);
            if std::mem::take(&mut merged) {
                out.put_slice(b",\"refusal\":null");
            }
            let is_last = parts.peek().is_none();
            self.close(if is_last { &delta.logprobs } else { &[] }, out);
        }
    }

    /// Whether the choice starts with this.
    fn start_choice(&mut self, choice: u32) -> bool {
        let progress = &mut self.choices[choice as usize];
        !std::mem::replace(&mut progress.started, true)
    }

    /// The first chunk of a choice.
    fn role(&self, choice: u32, out: &mut BytesMut) {
        self.open(choice, out);
        out.put_slice(b"\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
        self.close(&[], out);
    }

    /// A chunk of a chat, up to the inside of its delta.
    fn open(&self, choice: u32, out: &mut BytesMut) {
        out.put_slice(&self.start);
        out.put_slice(b"{\"index\":");
        wire::integer(choice, out);
        out.put_slice(b",\"delta\":{");
    }

    /// The rest of a chunk, from the end of its delta.
    fn close(&self, logprobs: &[TokenLogprob], out: &mut BytesMut) {
        if self.shape.logprobs.is_some() {
            out.put_slice(b"},\"logprobs\":{\"content\":[");
            wire::chat_logprobs(logprobs, out);
            out.put_slice(b"],\"refusal\":null},\"finish_reason\":null");
        } else {
            out.put_slice(b"},\"finish_reason\":null");
        }
        out.put_slice(&self.end);
    }

    fn text_delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        if delta.content.is_empty() && delta.reasoning.is_empty() && delta.logprobs.is_empty() {
            return;
        }
        out.put_slice(&self.start);
        out.put_slice(b"{\"text\":\"");
        // This endpoint has no place for reasoning of its own: it is text like all other.
        escape(&delta.reasoning, out);
        escape(&delta.content, out);
        out.put_slice(b"\",\"index\":");
        wire::integer(delta.choice, out);
        out.put_slice(b",\"logprobs\":");
        match self.shape.logprobs {
            Some(top) if !delta.logprobs.is_empty() => {
                let mut lists = LegacyLogprobs::default();
                lists.add(
                    &delta.logprobs,
                    &mut self.choices[delta.choice as usize].offset,
                );
                lists.write(top, out);
            }
            Some(_) | None => out.put_slice(b"null"),
        }
        out.put_slice(b",\"finish_reason\":null");
        out.put_slice(&self.end);
    }

    fn choice_finished(
        &mut self,
        finished: ChoiceFinished,
        out: &mut BytesMut,
    ) -> Result<(), ContractError> {
        let reason = wire::finish_reason(finished.reason)?;
        self.running(finished.choice)?.finished = true;
        match self.shape.api {
            Api::Chat => {
                if self.start_choice(finished.choice) {
                    self.role(finished.choice, out);
                }
                self.open(finished.choice, out);
                out.put_slice(b"},");
                if self.shape.logprobs.is_some() {
                    out.put_slice(b"\"logprobs\":null,");
                }
            }
            Api::Completions => {
                out.put_slice(&self.start);
                out.put_slice(b"{\"text\":\"\",\"index\":");
                wire::integer(finished.choice, out);
                out.put_slice(b",\"logprobs\":null,");
            }
        }
        out.put_slice(b"\"finish_reason\":\"");
        out.put_slice(reason.as_bytes());
        out.put_u8(b'"');
        out.put_slice(&self.end);
        Ok(())
    }

    fn finished(&mut self, finished: &Finished, out: &mut BytesMut) -> Result<(), ContractError> {
        if self.choices.iter().any(|choice| !choice.finished) {
            return Err(ContractError("the answer ended before its choices"));
        }
        let usage = finished.usage.as_ref().ok_or(ContractError("no usage"))?;
        if self.include_usage {
            self.usage(usage, out);
        }
        out.put_slice(DONE);
        self.ended = true;
        Ok(())
    }

    fn usage(&self, usage: &Usage, out: &mut BytesMut) {
        match self.shape.api {
            Api::Chat => {
                out.put_slice(&self.start);
                out.put_slice(b"],\"usage\":");
                wire::usage(usage, out);
            }
            // Here OpenAI puts the model before the choices.
            Api::Completions => {
                out.put_slice(b"data: ");
                self.head.open("text_completion", out);
                self.head.model(out);
                out.put_slice(b",\"usage\":");
                wire::usage(usage, out);
                out.put_slice(b",\"choices\":[]");
            }
        }
        out.put_slice(b"}\n\n");
    }

    fn running(&mut self, choice: u32) -> Result<&mut Choice, ContractError> {
        match self.choices.get_mut(choice as usize) {
            Some(choice) if !choice.finished => Ok(choice),
            Some(_) => Err(ContractError("a choice went on after its end")),
            None => Err(ContractError("a choice that was not requested")),
        }
    }
}

/// What has a chunk of its own.
enum Part<'a> {
    Reasoning(&'a str),
    Content(&'a str),
    /// The begin of a call; OpenAI sends it without arguments, and some clients count on that.
    Call(&'a ToolCallDelta),
    Arguments(&'a ToolCallDelta),
}

/// The parts of a delta, in order. Log probabilities without any part come with empty content.
fn parts(delta: &Delta) -> impl Iterator<Item = Part<'_>> {
    let is_bare = delta.reasoning.is_empty() && delta.tool_calls.is_empty();
    let reasoning = Some(delta.reasoning.as_str()).filter(|text| !text.is_empty());
    let content = Some(delta.content.as_str())
        .filter(|text| !text.is_empty() || (is_bare && !delta.logprobs.is_empty()));
    let texts = reasoning.map(Part::Reasoning).into_iter();
    let texts = texts.chain(content.map(Part::Content));
    texts.chain(delta.tool_calls.iter().flat_map(|call| {
        let begin = Some(Part::Call(call)).filter(|_| !call.id.is_empty());
        let arguments = begin.is_none() || !call.arguments.is_empty();
        let arguments = Some(Part::Arguments(call)).filter(|_| arguments);
        begin.into_iter().chain(arguments)
    }))
}

// === impl Part ===

impl Part<'_> {
    /// Appends the key and the value within the chunk's delta.
    fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Reasoning(text) => {
                out.put_slice(b"\"reasoning_content\":");
                quote(text, out);
            }
            Self::Content(text) => {
                out.put_slice(b"\"content\":");
                quote(text, out);
            }
            Self::Call(call) => {
                fragment(call, out);
                out.put_slice(b",\"id\":");
                quote(&call.id, out);
                out.put_slice(b",\"type\":\"function\",\"function\":{\"name\":");
                quote(&call.name, out);
                out.put_slice(b",\"arguments\":\"\"}}]");
            }
            Self::Arguments(call) => {
                fragment(call, out);
                out.put_slice(b",\"function\":{\"arguments\":");
                quote(&call.arguments, out);
                out.put_slice(b"}}]");
            }
        }
    }
}

/// `"tool_calls":[…]` with one fragment, up to the inside of it.
fn fragment(call: &ToolCallDelta, out: &mut BytesMut) {
    out.put_slice(b"\"tool_calls\":[{\"index\":");
    wire::integer(call.index, out);
}

#[cfg(test)]
mod tests;
