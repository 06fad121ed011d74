//! What one character means where tool calls are being read.

use super::{
    State, ToolCalls,
    call::{Call, Nesting, Seen},
};
use crate::{output::Piece, prompt::ToolFormat};

/// No frame has more white space, or a longer name, in it.
const LONGEST_FRAME: usize = 256;

/// What became of a character.
pub(super) enum Step {
    /// It belongs to the frame of a call, or to a call.
    Taken,
    /// With it, what was held is not a call; it is yet to be read.
    NotACall,
}

impl ToolCalls {
    /// Takes one character that is not outside of calls.
    pub(super) fn step(&mut self, character: char, pieces: &mut Vec<Piece>) -> Step {
        match &mut self.state {
            State::Outside | State::Plain => Step::NotACall,
            State::Edge => self.edge(character),
            State::Opened => self.opened(character),
            State::Element => match character {
                '{' => self.object(character),
                _ if character.is_ascii_whitespace() => self.held(character),
                _ => Step::NotACall,
            },
            State::Object(call) => {
                let seen = call.push(character);
                self.seen(seen, character, pieces)
            }
            State::Name => self.name(character, pieces),
            State::Arguments(nesting) => {
                let Some(complete) = nesting.push(character) else {
                    return Step::NotACall;
                };
                Piece::arguments(self.calls - 1, character.encode_utf8(&mut [0; 4]), pieces);
                if complete {
                    self.complete();
                }
                Step::Taken
            }
            State::After => self.after(character),
        }
    }

    fn held(&mut self, character: char) -> Step {
        if self.raw.len() > LONGEST_FRAME {
            return Step::NotACall;
        }
        self.raw.push(character);
        Step::Taken
    }

    fn object(&mut self, brace: char) -> Step {
        self.raw.push(brace);
        self.state = State::Object(Call::new(self.format == ToolFormat::Llama));
        Step::Taken
    }

    /// Llama: white space, `;` behind a call, the tag, white space, then the object.
    fn edge(&mut self, character: char) -> Step {
        let mut before = self.raw.trim_start();
        if self.calls > 0 {
            before = before.strip_prefix(';').unwrap_or(before).trim_start();
        }
        let [tag] = ToolFormat::Llama.markers() else {
            return Step::NotACall;
        };
        let whole = before.is_empty() || before.trim_end() == *tag;
        if character == '{' && whole {
            return self.object(character);
        }
        let separator = character == ';' && self.calls > 0 && self.raw.trim().is_empty();
        let white_space = character.is_ascii_whitespace() && whole;
        let in_tag = tag
            .strip_prefix(before)
            .is_some_and(|rest| rest.starts_with(character));
        if separator || white_space || in_tag {
            self.held(character)
        } else {
            Step::NotACall
        }
    }

    fn opened(&mut self, character: char) -> Step {
        match (self.format, character) {
            (_, ' ' | '\n' | '\r' | '\t') => self.held(character),
            (ToolFormat::Hermes, '{') => self.object(character),
            (ToolFormat::Mistral | ToolFormat::MistralNamed, '[') => {
                self.state = State::Element;
                self.held(character)
            }
            (ToolFormat::Mistral | ToolFormat::MistralNamed, _) if is_name(character) => {
                self.state = State::Name;
                self.held(character)
            }
            _ => Step::NotACall,
        }
    }

    fn seen(&mut self, seen: Seen, character: char, pieces: &mut Vec<Piece>) -> Step {
        match seen {
            Seen::Frame => self.raw.push(character),
            Seen::Begun { name, .. } if !self.may_call(&name) => return self.forbidden(),
            Seen::Begun { name, arguments } => self.begin(name, &arguments, pieces),
            Seen::Argument(character) => {
                Piece::arguments(self.calls - 1, character.encode_utf8(&mut [0; 4]), pieces);
            }
            Seen::Complete {
                unbegun: Some(name),
            } if !self.may_call(&name) => return self.forbidden(),
            Seen::Complete { unbegun } => {
                if let Some(name) = unbegun {
                    self.begin(name, "{}", pieces);
                }
                self.complete();
            }
            Seen::NotACall => return Step::NotACall,
        }
        Step::Taken
    }

    /// The tool may not be called: nothing of the call was said, and all of it is content.
    fn forbidden(&mut self) -> Step {
        self.state = State::Opened;
        Step::NotACall
    }

    /// `name[ARGS]{`, `name[CALL_ID]id[ARGS]{` or `name{`.
    fn name(&mut self, character: char, pieces: &mut Vec<Piece>) -> Step {
        let [marker, id_marker, arguments_marker] = ToolFormat::MistralNamed.markers() else {
            return Step::NotACall;
        };
        let head = self
            .raw
            .strip_prefix(marker)
            .unwrap_or(&self.raw)
            .trim_start();
        let (name, tail) = head.split_at(head.find(|c| !is_name(c)).unwrap_or(head.len()));
        let tail = tail
            .strip_prefix(id_marker)
            .map_or(tail, |tail| tail.trim_start_matches(is_name));
        if character == '{' && (tail.is_empty() || tail.trim_end() == *arguments_marker) {
            if !self.may_call(name) {
                return Step::NotACall;
            }
            let name = name.to_owned();
            let mut nesting = Nesting::default();
            if nesting.push(character).is_none() {
                return Step::NotACall;
            }
            self.begin(name, "{", pieces);
            self.state = State::Arguments(nesting);
            return Step::Taken;
        }
        let goes_on = is_name(character) && !tail.starts_with('[')
            || [id_marker, arguments_marker].iter().any(|marker| {
                marker
                    .strip_prefix(tail)
                    .is_some_and(|rest| rest.starts_with(character))
            })
            || tail == *arguments_marker && character.is_ascii_whitespace();
        if goes_on {
            self.held(character)
        } else {
            Step::NotACall
        }
    }

    fn after(&mut self, character: char) -> Step {
        if self.format != ToolFormat::Hermes {
            return match character {
                ']' => self.outside_again(),
                ',' => {
                    self.state = State::Element;
                    self.held(character)
                }
                _ if character.is_ascii_whitespace() => self.held(character),
                _ => Step::NotACall,
            };
        }
        let [_, close] = ToolFormat::Hermes.markers() else {
            return Step::NotACall;
        };
        let before = self.raw.trim_start();
        match close.strip_prefix(before) {
            Some(rest) if rest.starts_with(character) && rest.len() == 1 => self.outside_again(),
            Some(rest) if rest.starts_with(character) => self.held(character),
            Some(_) if before.is_empty() && character.is_ascii_whitespace() => self.held(character),
            _ => Step::NotACall,
        }
    }

    fn outside_again(&mut self) -> Step {
        self.raw.clear();
        self.state = State::Outside;
        Step::Taken
    }
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.')
}
