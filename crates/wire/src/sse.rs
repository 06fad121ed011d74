//! Step 7: encodes the events of a worker as frames of OpenAI's event stream; pure.

use bytes::{BufMut as _, Bytes, BytesMut};
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::{
    ChoiceFinished, Delta, Finished, TokenLogprob, ToolCallDelta, Usage,
};

use crate::error::ErrorObject;
use crate::json::{self, ContractError, Head, LegacyLogprobs, escape, quote};
use crate::read::{Api, Shape, StreamOptions};

const DONE: &[u8] = b"data: [DONE]\n\n";

/// The encoder of one stream.
#[derive(Debug)]
pub struct Frames {
    head: Head,
    shape: Shape,
    include_usage: bool,
    /// Start of every chunk, up to and including `"choices":[`.
    start: Bytes,
    /// End of every chunk, after its choice.
    end: Bytes,
    choices: Vec<Choice>,
    ended: bool,
}

/// The progress of a choice.
#[derive(Debug, Clone, Copy, Default)]
struct Choice {
    started: bool,
    finished: bool,
    /// Characters so far, for legacy log probabilities.
    offset: usize,
}

// === impl Frames ===

impl Frames {
    /// The parts that all chunks share are built here, once.
    #[must_use]
    pub fn new(head: &Head, shape: Shape, options: StreamOptions) -> Self {
        let (mut start, mut end) = (BytesMut::from("data: "), BytesMut::from("}]"));
        match shape.api {
            Api::Chat => {
                head.open("chat.completion.chunk", &mut start);
                head.model(&mut start);
                start.put_slice(b",\"service_tier\":\"default\",\"system_fingerprint\":null");
            }
            // In this endpoint OpenAI puts the model after the choices.
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

    /// Appends the frames of one event; nothing after the end. Errors if events violate the order of the
    /// contract. `Failed` is ignored: the caller turns it, and the errors of this function, into an object for
    /// [`Frames::fail`].
    pub fn push(&mut self, event: &Event, out: &mut BytesMut) -> Result<(), ContractError> {
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

    /// Ends the stream with an error frame. Without one, clients would take the partial answer for complete.
    pub fn fail(&mut self, error: &ErrorObject<'_>, out: &mut BytesMut) {
        if self.ended {
            return;
        }
        self.ended = true;
        out.put_slice(b"data: ");
        error.write(&self.head.request_id, out);
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
        // A choice that begins with a tool call has its role in the same chunk.
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

    /// Marks the choice as started; returns whether it was not before.
    fn start_choice(&mut self, choice: u32) -> bool {
        let progress = &mut self.choices[choice as usize];
        !std::mem::replace(&mut progress.started, true)
    }

    /// Appends the first chunk of a choice.
    fn role(&self, choice: u32, out: &mut BytesMut) {
        self.open(choice, out);
        out.put_slice(b"\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
        self.close(&[], out);
    }

    /// Appends a chunk of a chat up to the content of its delta.
    fn open(&self, choice: u32, out: &mut BytesMut) {
        out.put_slice(&self.start);
        out.put_slice(b"{\"index\":");
        json::integer(choice, out);
        out.put_slice(b",\"delta\":{");
    }

    /// Appends the rest of a chunk after the content of its delta.
    fn close(&self, logprobs: &[TokenLogprob], out: &mut BytesMut) {
        if self.shape.logprobs.is_some() {
            out.put_slice(b"},\"logprobs\":{\"content\":[");
            json::chat_logprobs(logprobs, out);
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
        // The completions endpoint has no field for reasoning, so it becomes part of the text.
        escape(&delta.reasoning, out);
        escape(&delta.content, out);
        out.put_slice(b"\",\"index\":");
        json::integer(delta.choice, out);
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
        let reason = json::finish_reason(finished.reason)?;
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
                json::integer(finished.choice, out);
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
                json::usage(usage, out);
            }
            // In this chunk OpenAI puts the model before the choices.
            Api::Completions => {
                out.put_slice(b"data: ");
                self.head.open("text_completion", out);
                self.head.model(out);
                out.put_slice(b",\"usage\":");
                json::usage(usage, out);
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

/// A part of a delta that gets a chunk of its own.
enum Part<'a> {
    Reasoning(&'a str),
    Content(&'a str),
    /// The start of a call; OpenAI sends it without arguments, and some clients rely on that.
    Call(&'a ToolCallDelta),
    Arguments(&'a ToolCallDelta),
}

/// The parts of a delta, in order. Log probabilities without a part get an empty content.
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
    /// Appends the key and the value of the part.
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

/// Appends `"tool_calls":[…]` with one fragment, up to the content of the fragment.
fn fragment(call: &ToolCallDelta, out: &mut BytesMut) {
    out.put_slice(b"\"tool_calls\":[{\"index\":");
    json::integer(call.index, out);
}

#[cfg(test)]
mod tests;
