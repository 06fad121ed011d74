//! Tool calls are told apart from content, while they are being written.
//!
//! A call begins for the reader when its name is known and its arguments have begun; what looked
//! like a call until then and is none comes out as content. A call that breaks off later stays as it
//! is, and what follows is content. White space before, between and after calls is dropped.

use std::mem;
use std::sync::Arc;

mod call;
mod id;
mod step;

pub use id::random as random_id;

use call::{Call, Nesting};
use step::Step;

use super::{OutputFormat, Piece, Progress, search::Search};
use crate::prompt::ToolFormat;

/// Reads the answer of a model that knows tools.
pub(super) struct ToolCalls {
    format: ToolFormat,
    parallel: bool,
    // None: whatever is called.
    allowed: Option<Arc<[String]>>,
    // What begins as content has no call in it.
    calls_or_content: bool,
    state: State,
    // Finds what opens calls, where something does.
    marker: Search,
    // What is not yet known to be a call, from its marker on.
    raw: String,
    // White space at the start or behind a call, content only if more content follows.
    white_space: String,
    at_edge: bool,
    calls: u32,
    progress: Progress,
}

enum State {
    /// Content, up to a marker.
    Outside,
    /// Content, to the end (Llama).
    Plain,
    /// Where a call without a marker can begin (Llama).
    Edge,
    /// Behind a marker.
    Opened,
    /// In a list of calls, before one.
    Element,
    /// In a call that is a JSON object.
    Object(Call),
    /// In the name of a call that is not an object.
    Name,
    /// In the arguments of such a call.
    Arguments(Nesting),
    /// Behind a call that is a JSON object.
    After,
}

impl ToolCalls {
    /// At the start of an answer.
    pub(super) fn new(format: ToolFormat, how: &OutputFormat) -> Self {
        let (state, marker) = match format {
            ToolFormat::Hermes => (State::Outside, "<tool_call>"),
            ToolFormat::Mistral | ToolFormat::MistralNamed => (State::Outside, "[TOOL_CALLS]"),
            ToolFormat::Llama => (State::Edge, ""),
        };
        Self {
            format,
            parallel: how.parallel_tool_calls,
            allowed: how.allowed_tools.clone(),
            calls_or_content: how.calls_or_content,
            state,
            marker: Search::new([marker]),
            raw: String::new(),
            white_space: String::new(),
            at_edge: true,
            calls: 0,
            progress: Progress::Continue,
        }
    }

    /// Goes on with the next text of the answer.
    pub(super) fn push(&mut self, mut text: &str, pieces: &mut Vec<Piece>) -> Progress {
        while !text.is_empty() && self.progress == Progress::Continue {
            text = match self.state {
                State::Outside => self.outside(text, pieces),
                State::Plain => {
                    self.content(text, pieces);
                    ""
                }
                _ => self.inside(text, pieces),
            };
        }
        self.progress
    }

    /// The end: what was held back.
    pub(super) fn finish(&mut self, pieces: &mut Vec<Piece>) {
        let raw = mem::take(&mut self.raw);
        match mem::replace(&mut self.state, State::Plain) {
            State::Outside => {
                let held = self.marker.finish();
                self.content(&held, pieces);
            }
            State::Object(call) if call.begun() => {}
            State::Object(call) => match call.cut_off() {
                Some((name, arguments)) if self.may_call(&name) => {
                    self.begin(name, &arguments, pieces);
                }
                _ => self.content(&raw, pieces),
            },
            // What stands between calls is no content.
            State::Edge | State::Element if self.calls > 0 && is_separator(&raw) => {}
            State::Edge | State::Element | State::Opened | State::Name => {
                self.content(&raw, pieces);
            }
            State::Plain | State::Arguments(_) | State::After => {}
        }
        if self.calls == 0 {
            Piece::content(&mem::take(&mut self.white_space), pieces);
        }
    }

    fn content(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        let mut text = text;
        if self.at_edge {
            let content = text.trim_start();
            self.white_space
                .push_str(&text[..text.len() - content.len()]);
            if content.is_empty() {
                return;
            }
            Piece::content(&mem::take(&mut self.white_space), pieces);
            self.at_edge = false;
            text = content;
        }
        Piece::content(text, pieces);
    }

    /// What follows the marker, where there is one.
    fn outside<'t>(&mut self, text: &'t str, pieces: &mut Vec<Piece>) -> &'t str {
        let scanned = self.marker.push(text);
        self.content(&scanned.clear, pieces);
        if self.is_all_content() {
            let marker = match scanned.rest {
                Some(_) => self.format.markers()[0].to_owned(),
                None => self.marker.finish(),
            };
            self.content(&marker, pieces);
            self.state = State::Plain;
        } else if scanned.rest.is_some() {
            self.raw.push_str(self.format.markers()[0]);
            self.state = State::Opened;
        }
        scanned.rest.unwrap_or_default()
    }

    /// What follows the call, or the text that turned out to be none.
    fn inside<'t>(&mut self, text: &'t str, pieces: &mut Vec<Piece>) -> &'t str {
        for (at, character) in text.char_indices() {
            match self.step(character, pieces) {
                Step::Taken if matches!(self.state, State::Outside) => {
                    return &text[at + character.len_utf8()..];
                }
                Step::Taken if self.progress == Progress::Stopped => return "",
                Step::Taken => {}
                Step::NotACall => {
                    self.not_a_call(pieces);
                    return &text[at..];
                }
            }
        }
        ""
    }

    fn may_call(&self, name: &str) -> bool {
        let allowed = self.allowed.as_deref();
        allowed.is_none_or(|allowed| allowed.iter().any(|tool| tool == name))
    }

    /// The answer has begun as content, and has no calls then.
    fn is_all_content(&self) -> bool {
        self.calls_or_content && self.calls == 0 && !self.at_edge
    }

    fn begin(&mut self, name: String, arguments: &str, pieces: &mut Vec<Piece>) {
        self.raw.clear();
        self.white_space.clear();
        pieces.push(Piece::ToolCallStart {
            index: self.calls,
            id: id::random(),
            name,
        });
        Piece::arguments(self.calls, arguments, pieces);
        self.calls += 1;
    }

    fn complete(&mut self) {
        self.raw.clear();
        self.at_edge = true;
        self.state = match (self.format, &self.state) {
            (ToolFormat::Llama, _) => State::Edge,
            (_, State::Arguments(_)) => State::Outside,
            _ => State::After,
        };
        if !self.parallel {
            self.progress = Progress::Stopped;
        }
    }

    fn not_a_call(&mut self, pieces: &mut Vec<Piece>) {
        let raw = mem::take(&mut self.raw);
        // The end of a frame may be the beginning of the next call's marker.
        let marker = match &self.state {
            State::After | State::Name => raw.rfind(['<', '[']).unwrap_or(raw.len()),
            _ => raw.len(),
        };
        let broken = match &self.state {
            State::Object(call) => call.begun(),
            State::Arguments(_) => true,
            _ => false,
        };
        self.state = if self.format == ToolFormat::Llama {
            State::Plain
        } else {
            State::Outside
        };
        if broken && !self.parallel {
            self.progress = Progress::Stopped;
            return;
        }
        if self.calls_or_content && self.calls == 0 {
            self.content(&raw, pieces);
            self.state = State::Plain;
            return;
        }
        self.content(&raw[..marker], pieces);
        let held = self.marker.push(&raw[marker..]);
        let clear = held.clear.into_owned();
        self.content(&clear, pieces);
    }
}

fn is_separator(raw: &str) -> bool {
    raw.chars()
        .all(|c| c.is_ascii_whitespace() || matches!(c, ';' | ','))
}
