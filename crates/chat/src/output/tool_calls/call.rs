//! One call as a JSON object, read character by character: its name, then its arguments as they come.

use std::mem;

/// The members of a call that are read over: their values must be texts.
const READ_OVER: [&str; 2] = ["id", "type"];
/// Deeper arguments are not a call.
const DEPTH: usize = 256;
/// A longer key or name is not a call.
const LONGEST_NAME: usize = 256;

/// Reads `{"name": …, "arguments": {…}}` (or `parameters`, in either order) from behind its first
/// brace.
pub(super) struct Call {
    at: At,
    name: Option<String>,
    arguments: Arguments,
    needs_arguments: bool,
}

/// What one character has shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing that can be told.
    Frame,
    /// The name is known and the arguments have begun: with this text.
    Begun { name: String, arguments: String },
    /// A further character of the arguments.
    Argument(char),
    /// The object is complete. A call that has not begun has no arguments.
    Complete { unbegun: Option<String> },
    /// This is not a call, or no longer one.
    NotACall,
}

enum At {
    // A key, or the end of an empty object.
    First,
    Key,
    Text(Text, String),
    Escaped(Text, String),
    Colon(Member),
    Value(Member),
    Object(Nesting),
    Next,
}

/// Whose text is being read.
#[derive(Clone, Copy)]
enum Text {
    Key,
    Value(Member),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Name,
    Arguments,
    ReadOver,
}

enum Arguments {
    Missing,
    // They come before the name.
    Kept(String),
    Given,
}

/// Where an object that is only passed on ends.
#[derive(Default)]
pub(super) struct Nesting {
    closers: Vec<char>,
    text: Option<Escape>,
}

#[derive(PartialEq, Eq)]
enum Escape {
    No,
    Yes,
}

// === impl Call ===

impl Call {
    /// Behind the first brace of a call. `needs_arguments`: without arguments it is not a call.
    pub(super) fn new(needs_arguments: bool) -> Self {
        Self {
            at: At::First,
            name: None,
            arguments: Arguments::Missing,
            needs_arguments,
        }
    }

    /// The arguments have begun to be given.
    pub(super) fn begun(&self) -> bool {
        matches!(self.arguments, Arguments::Given)
    }

    /// The answer ends here: the name and the arguments so far of a call that has not begun.
    pub(super) fn cut_off(self) -> Option<(String, String)> {
        match (self.name, self.arguments) {
            (Some(name), Arguments::Missing) if !self.needs_arguments => {
                Some((name, String::new()))
            }
            (Some(name), Arguments::Kept(arguments)) => Some((name, arguments)),
            _ => None,
        }
    }

    /// Takes the next character.
    pub(super) fn push(&mut self, character: char) -> Seen {
        match mem::replace(&mut self.at, At::Next) {
            At::Text(whose, text) => self.text(whose, text, character),
            At::Escaped(whose, text) => self.extend(whose, text, character),
            At::Object(nesting) => self.argument(nesting, character),
            at if character.is_ascii_whitespace() => self.go(at),
            At::First if character == '}' => self.complete(),
            At::First | At::Key if character == '"' => {
                self.go(At::Text(Text::Key, "\"".to_owned()))
            }
            At::Colon(member) if character == ':' => self.go(At::Value(member)),
            At::Value(member) if character == '"' => {
                self.go(At::Text(Text::Value(member), "\"".to_owned()))
            }
            At::Value(Member::Arguments) if character == '{' => {
                self.argument(Nesting::default(), '{')
            }
            At::Next if character == ',' => self.go(At::Key),
            At::Next if character == '}' => self.complete(),
            _ => Seen::NotACall,
        }
    }

    fn go(&mut self, at: At) -> Seen {
        self.at = at;
        Seen::Frame
    }

    fn complete(&mut self) -> Seen {
        match (self.name.take(), &self.arguments) {
            (_, Arguments::Given) => Seen::Complete { unbegun: None },
            (Some(name), Arguments::Missing) if !self.needs_arguments => Seen::Complete {
                unbegun: Some(name),
            },
            _ => Seen::NotACall,
        }
    }

    fn text(&mut self, whose: Text, mut text: String, character: char) -> Seen {
        match character {
            '\\' => {
                text.push(character);
                self.go(At::Escaped(whose, text))
            }
            '"' => {
                text.push(character);
                match serde_json::from_str::<String>(&text) {
                    Ok(text) => self.read(whose, text),
                    Err(_) => Seen::NotACall,
                }
            }
            _ => self.extend(whose, text, character),
        }
    }

    fn extend(&mut self, whose: Text, mut text: String, character: char) -> Seen {
        text.push(character);
        if text.len() > LONGEST_NAME && !matches!(whose, Text::Value(Member::Arguments)) {
            return Seen::NotACall;
        }
        self.go(At::Text(whose, text))
    }

    /// A key or a text value is complete.
    fn read(&mut self, whose: Text, text: String) -> Seen {
        match whose {
            Text::Key => match text.as_str() {
                "name" if self.name.is_none() => self.go(At::Colon(Member::Name)),
                "arguments" | "parameters" if matches!(self.arguments, Arguments::Missing) => {
                    self.go(At::Colon(Member::Arguments))
                }
                key if READ_OVER.contains(&key) => self.go(At::Colon(Member::ReadOver)),
                _ => Seen::NotACall,
            },
            Text::Value(Member::Name) if text.is_empty() => Seen::NotACall,
            Text::Value(Member::Name) => {
                self.name = Some(text.clone());
                match mem::replace(&mut self.arguments, Arguments::Missing) {
                    Arguments::Kept(arguments) => {
                        self.arguments = Arguments::Given;
                        Seen::Begun {
                            name: text,
                            arguments,
                        }
                    }
                    before => {
                        self.arguments = before;
                        Seen::Frame
                    }
                }
            }
            // Some models write the arguments as a text that holds the JSON.
            Text::Value(Member::Arguments) if text.trim_start().starts_with('{') => self.give(text),
            Text::Value(Member::Arguments) => Seen::NotACall,
            Text::Value(Member::ReadOver) => Seen::Frame,
        }
    }

    /// One character of an arguments object.
    fn argument(&mut self, mut nesting: Nesting, character: char) -> Seen {
        let Some(complete) = nesting.push(character) else {
            return Seen::NotACall;
        };
        self.at = if complete {
            At::Next
        } else {
            At::Object(nesting)
        };
        match &mut self.arguments {
            Arguments::Given => Seen::Argument(character),
            Arguments::Kept(arguments) => {
                arguments.push(character);
                Seen::Frame
            }
            Arguments::Missing => self.give(character.to_string()),
        }
    }

    fn give(&mut self, arguments: String) -> Seen {
        if let Some(name) = self.name.clone() {
            self.arguments = Arguments::Given;
            Seen::Begun { name, arguments }
        } else {
            self.arguments = Arguments::Kept(arguments);
            Seen::Frame
        }
    }
}

// === impl Nesting ===

impl Nesting {
    /// Takes the next character: whether the object is complete; none if it is not JSON.
    pub(super) fn push(&mut self, character: char) -> Option<bool> {
        if let Some(escape) = &self.text {
            self.text = match (escape, character) {
                (Escape::No, '\\') => Some(Escape::Yes),
                (Escape::No, '"') => None,
                _ => Some(Escape::No),
            };
            return Some(false);
        }
        match character {
            '"' => self.text = Some(Escape::No),
            '{' => self.closers.push('}'),
            '[' => self.closers.push(']'),
            '}' | ']' if self.closers.pop() != Some(character) => return None,
            _ => {}
        }
        (self.closers.len() <= DEPTH).then_some(self.closers.is_empty())
    }
}
