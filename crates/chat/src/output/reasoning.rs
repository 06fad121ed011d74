//! What the model thinks is told apart from what it answers.

use std::borrow::Cow;

use super::{Piece, search::Search};
use crate::prompt::ReasoningFormat;

/// Reads reasoning at the start of an answer; later marks are text.
pub(super) struct Reasoning {
    open: &'static str,
    close: Search,
    state: State,
}

enum State {
    Start(Start),
    // White space after a mark is not part of what follows.
    Thinking { fresh: bool },
    Closed,
    Answer,
}

// So far only white space and a part of the opening mark.
struct Start {
    opened_by_prompt: bool,
    white_space: String,
    // How much of the mark has come.
    mark: usize,
}

impl Reasoning {
    /// At the start of an answer; `opened_by_prompt`: the model thinks already.
    pub(super) fn new(format: ReasoningFormat, opened_by_prompt: bool) -> Self {
        let (open, close) = format.frame();
        Self {
            open,
            close: Search::new([close]),
            state: State::Start(Start {
                opened_by_prompt,
                white_space: String::new(),
                mark: 0,
            }),
        }
    }

    /// Appends reasoning to `pieces` and returns what belongs to the answer.
    pub(super) fn push<'t>(&mut self, mut text: &'t str, pieces: &mut Vec<Piece>) -> Cow<'t, str> {
        loop {
            match &mut self.state {
                State::Start(start) => {
                    let Some((whole, after)) = start.push(self.open, text) else {
                        return Cow::Borrowed("");
                    };
                    let held = start.held(self.open);
                    text = after;
                    if whole {
                        self.state = State::Thinking { fresh: true };
                    } else if start.opened_by_prompt {
                        self.state = State::Thinking { fresh: true };
                        self.think(held.trim_start(), pieces);
                    } else {
                        self.state = State::Answer;
                        return Cow::Owned(held + after);
                    }
                }
                State::Thinking { .. } => match self.think(text, pieces) {
                    Some(after) => text = after,
                    None => return Cow::Borrowed(""),
                },
                State::Closed => {
                    text = text.trim_start();
                    if text.is_empty() {
                        return Cow::Borrowed("");
                    }
                    self.state = State::Answer;
                }
                State::Answer => return Cow::Borrowed(text),
            }
        }
    }

    /// The end: what was held back, as reasoning in `pieces` or as a part of the answer.
    pub(super) fn finish(&mut self, pieces: &mut Vec<Piece>) -> String {
        match &self.state {
            State::Start(start) if start.opened_by_prompt => {
                Piece::reasoning(start.held(self.open).trim_start(), pieces);
                String::new()
            }
            State::Start(start) => start.held(self.open),
            State::Thinking { .. } => {
                Piece::reasoning(&self.close.finish(), pieces);
                String::new()
            }
            State::Closed | State::Answer => String::new(),
        }
    }

    /// The model thinks.
    pub(super) fn is_open(&self) -> bool {
        matches!(
            self.state,
            State::Thinking { .. }
                | State::Start(Start {
                    opened_by_prompt: true,
                    ..
                })
        )
    }

    // What follows the closing mark, where it came.
    fn think<'t>(&mut self, text: &'t str, pieces: &mut Vec<Piece>) -> Option<&'t str> {
        let scanned = self.close.push(text);
        let closed = scanned.rest.is_some();
        let State::Thinking { fresh } = &mut self.state else {
            return Some(text);
        };
        let thought = if *fresh {
            scanned.clear.trim_start()
        } else {
            &scanned.clear
        };
        *fresh &= thought.is_empty();
        Piece::reasoning(thought, pieces);
        if closed {
            self.state = State::Closed;
        }
        scanned.rest
    }
}

// === impl Start ===

impl Start {
    /// Whether the opening mark stands here, and the text after what was looked at. None: not yet
    /// known.
    fn push<'t>(&mut self, open: &str, text: &'t str) -> Option<(bool, &'t str)> {
        for (at, character) in text.char_indices() {
            if self.mark == 0 && character.is_whitespace() {
                self.white_space.push(character);
            } else if open[self.mark..].starts_with(character) {
                self.mark += character.len_utf8();
                if self.mark == open.len() {
                    return Some((true, &text[at + character.len_utf8()..]));
                }
            } else {
                return Some((false, &text[at..]));
            }
        }
        None
    }

    fn held(&self, open: &str) -> String {
        [self.white_space.as_str(), &open[..self.mark]].concat()
    }
}
