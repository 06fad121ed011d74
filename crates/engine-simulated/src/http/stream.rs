//! Events become OpenAI's event stream: all that is ready leaves in one piece.

use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Bytes;
use inferyard_engine::event::{Delta, Event, Failure, FailureKind, FinishReason};
use inferyard_engine::reply::Events;
use tokio_stream::Stream as _;

use super::ask::{Endpoint, Shape};
use super::wire::{self, Head};

/// More is not put into one piece.
const PIECE: usize = 64 << 10;

/// The body of one answer.
pub(super) struct Stream {
    events: Events,
    frames: Frames,
}

/// What the chunks of one answer look like.
struct Frames {
    shape: Shape,
    // A chunk up to and with `"choices":[`.
    start: String,
    // A chunk from the end of its choice.
    end: &'static str,
    // By index.
    begun: Vec<bool>,
    ended: bool,
}

// === impl Stream ===

impl Stream {
    /// Nothing is sent yet.
    pub(super) fn new(events: Events, head: &Head, shape: Shape) -> Self {
        let frames = Frames::new(head, shape);
        Self { events, frames }
    }

    /// All of it was given.
    pub(super) fn has_ended(&self) -> bool {
        self.frames.ended
    }

    /// The next piece.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut out = String::new();
        while !self.frames.ended && out.len() < PIECE {
            match Pin::new(&mut self.events).poll_next(cx) {
                Poll::Ready(Some(event)) => self.frames.push(&event, &mut out),
                Poll::Ready(None) => {
                    // Only an engine that broke ends without a last event.
                    let broke = Failure::new(FailureKind::Internal, "the engine broke");
                    self.frames.fail(&broke, &mut out);
                }
                // It wakes whoever asks for the next piece.
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready((!out.is_empty()).then(|| out.into()))
    }
}

// === impl Frames ===

impl Frames {
    fn new(head: &Head, shape: Shape) -> Self {
        let mut start = format!("data: {}", head.open(shape.endpoint, true));
        if shape.endpoint == Endpoint::Chat {
            start += ",\"service_tier\":\"default\",\"system_fingerprint\":null";
        }
        start += ",\"choices\":[";
        Self {
            shape,
            start,
            end: if shape.include_usage {
                "}],\"usage\":null}\n\n"
            } else {
                "}]}\n\n"
            },
            begun: vec![false; shape.choices],
            ended: false,
        }
    }

    fn push(&mut self, event: &Event, out: &mut String) {
        match event {
            Event::Admitted { .. } => {}
            Event::Delta(delta) => self.delta(delta, out),
            Event::ChoiceFinished { choice, reason } => self.finished(*choice, *reason, out),
            Event::Finished(usage) => {
                if self.shape.include_usage {
                    out.push_str(&self.start);
                    out.push_str("],\"usage\":");
                    wire::usage(*usage, out);
                    out.push_str("}\n\n");
                }
                self.done(out);
            }
            Event::Failed(failure) => self.fail(failure, out),
        }
    }

    fn delta(&mut self, delta: &Delta, out: &mut String) {
        if delta.content.is_empty() {
            return;
        }
        if self.shape.endpoint == Endpoint::Chat {
            self.begin(delta.choice, out);
        }
        self.open(delta.choice, out);
        match self.shape.endpoint {
            Endpoint::Chat => out.push_str("\"delta\":{\"content\":"),
            Endpoint::Completions => out.push_str("\"text\":"),
        }
        quote(&delta.content, out);
        match self.shape.endpoint {
            Endpoint::Chat => out.push_str("},\"finish_reason\":null"),
            Endpoint::Completions => out.push_str(",\"logprobs\":null,\"finish_reason\":null"),
        }
        out.push_str(self.end);
    }

    fn finished(&mut self, choice: u32, reason: FinishReason, out: &mut String) {
        if self.shape.endpoint == Endpoint::Chat {
            self.begin(choice, out);
        }
        self.open(choice, out);
        out.push_str(match self.shape.endpoint {
            Endpoint::Chat => "\"delta\":{},\"finish_reason\":\"",
            Endpoint::Completions => "\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"",
        });
        out.push_str(wire::reason(reason));
        out.push('"');
        out.push_str(self.end);
    }

    /// The first chunk of a choice names its role.
    fn begin(&mut self, choice: u32, out: &mut String) {
        if std::mem::replace(&mut self.begun[choice as usize], true) {
            return;
        }
        self.open(choice, out);
        out.push_str("\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}");
        out.push_str(",\"finish_reason\":null");
        out.push_str(self.end);
    }

    fn open(&self, choice: u32, out: &mut String) {
        out.push_str(&self.start);
        let written = write!(out, "{{\"index\":{choice},");
        written.expect("a text should take what is written into it");
    }

    fn fail(&mut self, failure: &Failure, out: &mut String) {
        out.push_str("data: ");
        out.push_str(&wire::error(failure));
        out.push_str("\n\n");
        self.done(out);
    }

    fn done(&mut self, out: &mut String) {
        out.push_str("data: [DONE]\n\n");
        self.ended = true;
    }
}

/// Appends a JSON string.
fn quote(text: &str, out: &mut String) {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests;
