//! Step 7 without streaming: collects the events of a worker into one JSON body; pure.

use bytes::{BufMut as _, Bytes, BytesMut};
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::{Delta, Finished, ToolCallDelta, Usage};

use crate::json::{self, ContractError, Head, LegacyLogprobs, escape, quote};
use crate::read::{Api, Shape};

/// Collects the events of one answer.
#[derive(Debug)]
pub struct Answer {
    head: Head,
    shape: Shape,
    choices: Vec<Choice>,
}

/// One choice. Texts are escaped as they arrive.
#[derive(Debug, Default)]
struct Choice {
    content: BytesMut,
    reasoning: BytesMut,
    calls: Vec<Call>,
    logprobs: BytesMut,
    legacy: LegacyLogprobs,
    offset: usize,
    finish_reason: Option<&'static str>,
}

#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    arguments: BytesMut,
}

// === impl Answer ===

impl Answer {
    /// An empty answer.
    #[must_use]
    pub fn new(head: Head, shape: Shape) -> Self {
        let choices = (0..shape.choices).map(|_| Choice::default()).collect();
        Self {
            head,
            shape,
            choices,
        }
    }

    /// Adds an event; returns the body after the last one. Errors if events violate the order of the contract.
    /// `Failed` is ignored: the caller has turned it into an error before.
    pub fn push(&mut self, event: Event) -> Result<Option<Bytes>, ContractError> {
        match event {
            Event::Admitted(_) | Event::Failed(_) => Ok(None),
            Event::Delta(delta) => {
                let api = self.shape.api;
                self.running(delta.choice)?.add(api, &delta).map(|()| None)
            }
            Event::ChoiceFinished(finished) => {
                let reason = json::finish_reason(finished.reason)?;
                self.running(finished.choice)?.finish_reason = Some(reason);
                Ok(None)
            }
            Event::Finished(Finished { usage }) => {
                let usage = usage.as_ref().ok_or(ContractError("no usage"))?;
                self.body(usage).map(Some)
            }
        }
    }

    fn running(&mut self, choice: u32) -> Result<&mut Choice, ContractError> {
        match self.choices.get_mut(choice as usize) {
            Some(choice) if choice.finish_reason.is_none() => Ok(choice),
            Some(_) => Err(ContractError("a choice went on after its end")),
            None => Err(ContractError("a choice that was not requested")),
        }
    }

    fn body(&self, usage: &Usage) -> Result<Bytes, ContractError> {
        let size: usize = self.choices.iter().map(Choice::size).sum();
        let mut out = BytesMut::with_capacity(size + 1_024);
        self.head.open(
            match self.shape.api {
                Api::Chat => "chat.completion",
                Api::Completions => "text_completion",
            },
            &mut out,
        );
        self.head.model(&mut out);
        out.put_slice(b",\"choices\":[");
        for (index, choice) in (0..).zip(&self.choices) {
            let reason = choice.finish_reason;
            let reason = reason.ok_or(ContractError("the answer ended before its choices"))?;
            out.put_slice(if index == 0 { b"{" } else { b",{" });
            match self.shape.api {
                Api::Chat => choice.chat(index, self.shape.logprobs, &mut out),
                Api::Completions => choice.text(index, self.shape.logprobs, &mut out),
            }
            json::put(&mut out, format_args!(",\"finish_reason\":\"{reason}\"}}"));
        }
        out.put_slice(b"],\"usage\":");
        json::usage(usage, &mut out);
        if self.shape.api == Api::Chat {
            out.put_slice(b",\"service_tier\":\"default\",\"system_fingerprint\":null");
        }
        out.put_u8(b'}');
        Ok(out.freeze())
    }
}

// === impl Choice ===

impl Choice {
    fn add(&mut self, api: Api, delta: &Delta) -> Result<(), ContractError> {
        match api {
            Api::Chat => {
                escape(&delta.reasoning, &mut self.reasoning);
                if !delta.logprobs.is_empty() && !self.logprobs.is_empty() {
                    self.logprobs.put_u8(b',');
                }
                json::chat_logprobs(&delta.logprobs, &mut self.logprobs);
            }
            Api::Completions => {
                // The completions endpoint has no field for reasoning, so it becomes part of the text.
                escape(&delta.reasoning, &mut self.content);
                self.legacy.add(&delta.logprobs, &mut self.offset);
            }
        }
        escape(&delta.content, &mut self.content);
        delta.tool_calls.iter().try_for_each(|call| self.call(call))
    }

    fn call(&mut self, fragment: &ToolCallDelta) -> Result<(), ContractError> {
        let index = fragment.index as usize;
        if index == self.calls.len() && !fragment.id.is_empty() {
            self.calls.push(Call {
                id: fragment.id.clone(),
                name: fragment.name.clone(),
                arguments: BytesMut::new(),
            });
        }
        let call = self.calls.get_mut(index);
        let call = call.ok_or(ContractError("a tool call without a beginning"))?;
        escape(&fragment.arguments, &mut call.arguments);
        Ok(())
    }

    fn size(&self) -> usize {
        let calls: usize = self
            .calls
            .iter()
            .map(|call| call.arguments.len() + 128)
            .sum();
        256 + self.content.len() + self.reasoning.len() + calls + self.logprobs.len()
    }

    fn chat(&self, index: u32, logprobs: Option<u32>, out: &mut BytesMut) {
        out.put_slice(b"\"index\":");
        json::integer(index, out);
        out.put_slice(b",\"message\":{\"role\":\"assistant\",\"content\":");
        if self.content.is_empty() && !self.calls.is_empty() {
            out.put_slice(b"null");
        } else {
            inside(&self.content, out);
        }
        if !self.reasoning.is_empty() {
            out.put_slice(b",\"reasoning_content\":");
            inside(&self.reasoning, out);
        }
        for (index, call) in self.calls.iter().enumerate() {
            out.put_slice(if index == 0 {
                b",\"tool_calls\":[{\"id\":"
            } else {
                b",{\"id\":"
            });
            quote(&call.id, out);
            out.put_slice(b",\"type\":\"function\",\"function\":{\"name\":");
            quote(&call.name, out);
            out.put_slice(b",\"arguments\":");
            inside(&call.arguments, out);
            out.put_slice(b"}}");
        }
        if !self.calls.is_empty() {
            out.put_u8(b']');
        }
        out.put_slice(b",\"refusal\":null,\"annotations\":[]},\"logprobs\":");
        if logprobs.is_some() {
            out.put_slice(b"{\"content\":[");
            out.put_slice(&self.logprobs);
            out.put_slice(b"],\"refusal\":null}");
        } else {
            out.put_slice(b"null");
        }
    }

    fn text(&self, index: u32, logprobs: Option<u32>, out: &mut BytesMut) {
        out.put_slice(b"\"text\":");
        inside(&self.content, out);
        out.put_slice(b",\"index\":");
        json::integer(index, out);
        out.put_slice(b",\"logprobs\":");
        match logprobs {
            Some(top) => self.legacy.write(top, out),
            None => out.put_slice(b"null"),
        }
    }
}

/// Appends a JSON string, given its escaped content.
fn inside(escaped: &[u8], out: &mut BytesMut) {
    out.put_u8(b'"');
    out.put_slice(escaped);
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests;
