//! What stands around the JSON of an answer, as a grammar in llguidance's dialect of Lark.

use toktrie::TokTrie;

use super::Preamble;
use crate::prompt::{ReasoningFormat, ToolFormat};

/// A model that calls and calls must come to an end.
const MOST_CALLS: usize = 8;

/// One JSON value, by the grammar `answer`.
pub(super) fn json(vocabulary: &TokTrie, preamble: Preamble) -> String {
    framed(vocabulary, preamble, "@answer", "")
}

/// The name of the grammar of a tool's arguments.
pub(super) fn arguments(tool: usize) -> String {
    format!("arguments_{tool}")
}

/// One or more calls of the named functions.
pub(super) fn calls(
    vocabulary: &TokTrie,
    format: ToolFormat,
    names: &[&str],
    parallel: bool,
    preamble: Preamble,
) -> String {
    let marker = |mark: &str| marker(vocabulary, mark);
    let most = if parallel { MOST_CALLS } else { 1 };
    let (body, key) = match format {
        ToolFormat::Hermes => {
            let (open, close) = (marker("<tool_call>"), marker("</tool_call>"));
            let each = format!(r#"{open} "\n"? call "\n"? {close}"#);
            (repeated(&each, r#""\n"?"#, most), "arguments")
        }
        ToolFormat::Llama => (repeated("call", r#""; ""#, most), "parameters"),
        ToolFormat::Mistral => {
            let open = marker("[TOOL_CALLS]");
            let list = repeated("call", r#"", ""#, most);
            (format!(r#"{open} " "? "[" {list} "]""#), "arguments")
        }
        ToolFormat::MistralNamed => {
            let open = marker("[TOOL_CALLS]");
            (repeated(&format!("{open} call"), "", most), "")
        }
    };
    let each = names.iter().enumerate().map(|(tool, name)| {
        let arguments = arguments(tool);
        if format == ToolFormat::MistralNamed {
            return format!("{} {} @{arguments}", text(name), marker("[ARGS]"));
        }
        let head = format!(r#"{{"name": {}, "{key}": "#, text(name));
        format!(r#"{} @{arguments} "}}""#, text(&head))
    });
    let calls = format!("call: {}\n", each.collect::<Vec<_>>().join("\n    | "));
    framed(vocabulary, preamble, &body, &calls)
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
