//! What stands around the JSON of an answer, as a grammar in llguidance's dialect of Lark.

use std::fmt::Write;

use toktrie::TokTrie;

use super::{Calls, Preamble};
use crate::prompt::{ReasoningFormat, ToolFormat};

/// A model that calls and calls must come to an end.
const MOST_CALLS: usize = 8;

/// What an answer may be that is no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// Nothing.
    Nothing,
    /// A JSON value, by the grammar `answer`, instead of calls.
    Json,
    /// Any text, before, between and after calls.
    Text,
}

/// One JSON value, by the grammar `answer`.
pub(super) fn json(vocabulary: &TokTrie, preamble: Preamble) -> String {
    framed(vocabulary, preamble, "@answer", "")
}

/// The name of the grammar of a tool's arguments.
pub(super) fn arguments(tool: usize) -> String {
    format!("arguments_{tool}")
}

/// Calls of the tools, one or more, and what may be beside them.
pub(super) fn calls(
    vocabulary: &TokTrie,
    calls: &Calls,
    beside: Beside,
    preamble: Preamble,
) -> String {
    let frame = Frame {
        vocabulary,
        calls,
        most: if calls.parallel { MOST_CALLS } else { 1 },
    };
    let (body, mut rules) = match beside {
        Beside::Nothing => (frame.only_calls(), String::new()),
        Beside::Json => (format!("({}) | @answer", frame.only_calls()), String::new()),
        Beside::Text => frame.in_text(),
    };
    if body.contains("call") {
        writeln!(rules, "call: {}", frame.call(beside)).expect("a text should fit into memory");
    }
    framed(vocabulary, preamble, &format!("({body})"), &rules)
}

/// The frame of the calls of one request.
struct Frame<'a> {
    vocabulary: &'a TokTrie,
    calls: &'a Calls,
    most: usize,
}

// === impl Frame ===

impl Frame<'_> {
    fn marker(&self, mark: &str) -> String {
        marker(self.vocabulary, mark)
    }

    /// Behind what opens it: one block of calls.
    fn block(&self) -> String {
        match self.calls.format {
            ToolFormat::Hermes => format!(r#""\n"? call "\n"? {}"#, self.marker("</tool_call>")),
            ToolFormat::Llama => repeated("call", r#""; ""#, self.most),
            ToolFormat::Mistral => {
                format!(r#"" "? "[" {} "]""#, repeated("call", r#"", ""#, self.most))
            }
            ToolFormat::MistralNamed => "call".to_owned(),
        }
    }

    fn only_calls(&self) -> String {
        let block = self.block();
        match self.calls.format {
            ToolFormat::Hermes => {
                let each = format!("{} {block}", self.marker("<tool_call>"));
                repeated(&each, r#""\n"?"#, self.most)
            }
            ToolFormat::Llama => block,
            ToolFormat::Mistral => format!("{} {block}", self.marker("[TOOL_CALLS]")),
            ToolFormat::MistralNamed => {
                let each = format!("{} {block}", self.marker("[TOOL_CALLS]"));
                repeated(&each, "", self.most)
            }
        }
    }

    /// Text and calls. Text never has in it what opens a call.
    fn in_text(&self) -> (String, String) {
        let open = match self.calls.format {
            ToolFormat::Hermes => "<tool_call>",
            ToolFormat::Mistral | ToolFormat::MistralNamed => "[TOOL_CALLS]",
            ToolFormat::Llama => return self.in_plain_text(),
        };
        let block = self.block();
        let most = self.most;
        let text = format!("TEXT: /(?s:.+)/ & ~/(?s:.*){}(?s:.*)/\n", regex(open));
        if self.vocabulary.get_special_token(open).is_some() {
            let each = format!("{} {block}", self.marker(open));
            return match most {
                1 => (format!("TEXT? ({each})?"), text),
                _ => (format!("TEXT? ({each} TEXT?){{0,{most}}}"), text),
            };
        }
        let lead = format!("lead[suffix={}]: /(?s:.*)/\n", self::text(open));
        let body = match most {
            1 => format!("TEXT? | lead {block}"),
            _ => format!("(lead {block}){{0,{most}}} TEXT?"),
        };
        (body, format!("{lead}{text}"))
    }

    /// Llama opens a call with a brace, as JSON of any kind begins: only the calls that are forbidden
    /// are told apart from text.
    fn in_plain_text(&self) -> (String, String) {
        let names = self.calls.forbidden.iter().map(|name| regex(name));
        let names = names.collect::<Vec<_>>().join("|");
        if names.is_empty() {
            return ("TEXT?".to_owned(), "TEXT: /(?s:.+)/\n".to_owned());
        }
        let space = r"[ \t\r\n]*";
        let rules = format!(
            "TEXT: /(?s:.+)/ & ~/({space}(<\\|python_tag\\|>)?|(?s:.*);){space}\\{{{space}\"name\"{space}:{space}\"({names})\"(?s:.*)/\n"
        );
        ("TEXT?".to_owned(), rules)
    }

    /// One call of one of the tools.
    fn call(&self, beside: Beside) -> String {
        let tools = self.calls.tools.iter().enumerate();
        let each = tools.map(|(at, tool)| self.call_of(&tool.name, &arguments(at), beside));
        each.collect::<Vec<_>>().join("\n    | ")
    }

    fn call_of(&self, name: &str, arguments: &str, beside: Beside) -> String {
        let key = match self.calls.format {
            ToolFormat::Llama => "parameters",
            ToolFormat::Hermes | ToolFormat::Mistral => "arguments",
            ToolFormat::MistralNamed => {
                return format!("{} {} @{arguments}", text(name), self.marker("[ARGS]"));
            }
        };
        let name = text(name);
        if self.calls.format == ToolFormat::Llama && beside == Beside::Json {
            // A JSON answer begins with the same brace: both are cut into the same pieces.
            let pieces = ["{", "\"name\"", ": ", &name, ", ", &text(key), ": "].map(text);
            return format!(r#"{} @{arguments} "}}""#, pieces.join(" "));
        }
        let head = format!(r#"{{"name": {name}, "{key}": "#);
        format!(r#"{} @{arguments} "}}""#, text(&head))
    }
}

/// `each`, at least once, and at most `most` times with the separator between.
fn repeated(each: &str, separator: &str, most: usize) -> String {
    match most {
        1 => each.to_owned(),
        _ => format!("{each} ({separator} {each}){{0,{}}}", most - 1),
    }
}

fn framed(vocabulary: &TokTrie, preamble: Preamble, body: &str, rules: &str) -> String {
    match preamble {
        Preamble::None => format!("start: {body}\n{rules}"),
        Preamble::Possible(format) => {
            let open = marker(vocabulary, format.frame().0);
            let thought = thought(vocabulary, format);
            format!("start: ({open} thought)? {body}\n{rules}{thought}")
        }
        Preamble::Open(format) => {
            let thought = thought(vocabulary, format);
            format!("start: thought {body}\n{rules}{thought}")
        }
    }
}

/// Anything up to the closing mark, and the line feeds that models write after it.
fn thought(vocabulary: &TokTrie, format: ReasoningFormat) -> String {
    let (_, close) = format.frame();
    match vocabulary.get_special_token(close) {
        Some(token) => format!("thought: /(?s:.*)/ <[{token}]> \"\\n\"? \"\\n\"?\n"),
        None => format!(
            "thought: inner \"\\n\"? \"\\n\"?\ninner[suffix={}]: /(?s:.*)/\n",
            text(close)
        ),
    }
}

/// A mark is a token of its own in some vocabularies, and text in others.
fn marker(vocabulary: &TokTrie, marker: &str) -> String {
    match vocabulary.get_special_token(marker) {
        Some(token) => format!("<[{token}]>"),
        None => text(marker),
    }
}

/// A text in quotes: Lark reads what JSON writes.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text in a regular expression between slashes.
fn regex(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if "\\.+*?()|[]{}^$#&-~/".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
