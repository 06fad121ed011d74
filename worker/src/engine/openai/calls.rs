//! Tool calls in every form that servers send become one: dense indices, one start with id and name,
//! then arguments.
//!
//! # What comes
//!
//! Whole calls at once; fragments; no id, an empty one, or another one in each fragment; no index, or
//! 0 for every call; the name in the first fragment, in a later one, or in all of them; arguments as
//! text, or as the object itself.

use std::mem;

use super::ask::Reading;
use super::chunk::CallFragment;
use super::wide::{Joined, Wide};
use crate::event::ToolCallFragment;
use crate::output::random_id;

/// No server has longer ones.
const MAX_ID_BYTES: usize = 128;
/// Whoever calls more tools at once does so by mistake.
const MAX_CALLS: usize = 1024;

/// The tool calls of one choice.
#[derive(Default)]
pub(super) struct Calls {
    begun: Vec<Call>,
    // The call of the last fragment.
    last: usize,
    // How many of them were told.
    told: u32,
}

struct Call {
    index: Option<i64>,
    id: String,
    name: String,
    // Its index for the reader. None: its name has not come, or it may not be called.
    told: Option<u32>,
    // Of which nothing was said, because its name has not come.
    held: String,
    joined: Joined,
    arguments: Nesting,
}

/// How far a JSON text is.
#[derive(Default)]
struct Nesting {
    depth: u32,
    in_string: bool,
    escaped: bool,
    begun: bool,
}

// === impl Calls ===

impl Calls {
    /// A call came that may.
    pub(super) fn any(&self) -> bool {
        self.told > 0
    }

    /// Reads a fragment and appends what is new of it. A call that the request does not allow is left out.
    pub(super) fn push(
        &mut self,
        fragment: CallFragment<'_>,
        reading: &Reading,
        said: &mut Vec<ToolCallFragment>,
    ) {
        let arguments = fragment.function.arguments();
        let name = fragment.function.name.map(Wide::whole);
        let name = name.as_deref().unwrap_or_default();
        let id = fragment.id.as_deref().unwrap_or_default();
        let at = match self.find(fragment.index, id, name, &arguments) {
            Some(at) => at,
            None if self.begun.len() >= MAX_CALLS => return,
            None => self.begin(fragment.index, id),
        };
        self.last = at;
        let call = &mut self.begun[at];
        let arguments = call.joined.push(arguments);
        call.arguments.read(&arguments);
        if call.name.is_empty() && name.is_empty() {
            call.held.push_str(&arguments);
            return;
        }
        if call.name.is_empty() {
            name.clone_into(&mut call.name);
            if !reading.may_call(name) || (self.told > 0 && !reading.parallel_tool_calls) {
                return;
            }
            call.told = Some(self.told);
            said.push(ToolCallFragment {
                index: self.told,
                id: call.id.clone(),
                name: call.name.clone(),
                arguments: mem::take(&mut call.held) + &arguments,
            });
            self.told += 1;
        } else if let Some(index) = call.told.filter(|_| !arguments.is_empty()) {
            said.push(ToolCallFragment {
                index,
                id: String::new(),
                name: String::new(),
                arguments,
            });
        }
    }

    /// Ends the calls. A call without arguments gets `{}`, so that clients can parse them.
    pub(super) fn finish(&mut self, said: &mut Vec<ToolCallFragment>) {
        for call in &mut self.begun {
            let Some(index) = call.told else { continue };
            let half = call.joined.finish().map(String::from);
            let none = (!call.arguments.begun).then(|| "{}".to_owned());
            call.arguments.begun = true;
            if let Some(arguments) = half.or(none) {
                said.push(ToolCallFragment {
                    index,
                    id: String::new(),
                    name: String::new(),
                    arguments,
                });
            }
        }
    }

    /// The call that a fragment goes on with. None: it begins another one.
    fn find(&self, index: Option<i64>, id: &str, name: &str, arguments: &Wide) -> Option<usize> {
        let known = match index {
            Some(_) => self.begun.iter().rposition(|call| call.index == index)?,
            None if id.is_empty() => self.begun.len().checked_sub(1).map(|_| self.last)?,
            None => return self.begun.iter().position(|call| call.id == id),
        };
        let call = &self.begun[known];
        // A fragment that names its call is either its first one, or of a server that says the name
        // each time; then nothing but the name is the same in another call.
        let another = !name.is_empty()
            && !call.name.is_empty()
            && (name != call.name
                || (!id.is_empty() && id != call.id)
                || (call.arguments.is_whole() && !arguments.is_empty()));
        (!another).then_some(known)
    }

    fn begin(&mut self, index: Option<i64>, id: &str) -> usize {
        let taken = self.begun.iter().any(|call| call.id == id);
        let usable = (1..=MAX_ID_BYTES).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic())
            && !taken;
        self.begun.push(Call {
            index,
            id: if usable { id.to_owned() } else { random_id() },
            name: String::new(),
            told: None,
            held: String::new(),
            joined: Joined::default(),
            arguments: Nesting::default(),
        });
        self.begun.len() - 1
    }
}

// === impl Nesting ===

impl Nesting {
    fn read(&mut self, text: &str) {
        self.begun |= !text.is_empty();
        for byte in text.bytes() {
            match byte {
                _ if mem::take(&mut self.escaped) => {}
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// A whole object was read.
    fn is_whole(&self) -> bool {
        self.begun && self.depth == 0 && !self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Index, name and arguments of the calls that the fragments make.
    fn calls(fragments: &[&str]) -> Vec<(String, String)> {
        read(fragments, true)
            .into_iter()
            .map(|(_, name, arguments)| (name, arguments))
            .collect()
    }

    fn read(fragments: &[&str], parallel: bool) -> Vec<(String, String, String)> {
        let reading = Reading {
            parallel_tool_calls: parallel,
            ..Reading::default()
        };
        read_as(fragments, &reading)
    }

    fn read_as(fragments: &[&str], reading: &Reading) -> Vec<(String, String, String)> {
        let mut calls = Calls::default();
        let mut said = Vec::new();
        for fragment in fragments {
            calls.push(serde_json::from_str(fragment).unwrap(), reading, &mut said);
        }
        calls.finish(&mut said);
        let mut whole: Vec<(String, String, String)> = Vec::new();
        for fragment in said {
            let at = fragment.index as usize;
            if at == whole.len() {
                assert!(!fragment.id.is_empty() && !fragment.name.is_empty());
                whole.push((fragment.id, fragment.name, fragment.arguments));
            } else {
                assert_eq!((fragment.id.as_str(), fragment.name.as_str()), ("", ""));
                whole[at].2.push_str(&fragment.arguments);
            }
        }
        whole
    }

    fn expect(fragments: &[&str], expected: &[(&str, &str)]) {
        let found = calls(fragments);
        let found: Vec<_> = found
            .iter()
            .map(|(n, a)| (n.as_str(), a.as_str()))
            .collect();
        assert_eq!(found, expected, "{fragments:?}");
    }

    #[test]
    fn fragments_and_whole_calls() {
        expect(
            &[
                r#"{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}"#,
                r#"{"index":0,"function":{"arguments":"{\"a\":"}}"#,
                r#"{"index":0,"function":{"arguments":"1}"}}"#,
                r#"{"index":1,"id":"call_2","type":"function","function":{"name":"g","arguments":"{}"}}"#,
            ],
            &[("f", r#"{"a":1}"#), ("g", "{}")],
        );
    }

    #[test]
    fn one_index_for_every_call() {
        // By their ids, by their names, and by nothing but a whole object.
        expect(
            &[
                r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"a\":1}"}}"#,
                r#"{"index":0,"id":"b","function":{"name":"f","arguments":"{\"a\":2}"}}"#,
            ],
            &[("f", r#"{"a":1}"#), ("f", r#"{"a":2}"#)],
        );
        expect(
            &[
                r#"{"index":0,"function":{"name":"f","arguments":"{}"}}"#,
                r#"{"index":0,"function":{"name":"g","arguments":"{}"}}"#,
                r#"{"index":0,"function":{"name":"g","arguments":"{\"b\":1}"}}"#,
            ],
            &[("f", "{}"), ("g", "{}"), ("g", r#"{"b":1}"#)],
        );
    }

    #[test]
    fn an_id_that_changes_is_the_same_call() {
        expect(
            &[
                r#"{"index":0,"id":"functions.read:0","function":{"name":"read","arguments":""}}"#,
                r#"{"index":0,"id":"x","function":{"name":null,"arguments":"{\"p\":"}}"#,
                r#"{"index":0,"id":"y","function":{"name":null,"arguments":"1}"}}"#,
            ],
            &[("read", r#"{"p":1}"#)],
        );
    }

    #[test]
    fn a_name_in_every_fragment() {
        expect(
            &[
                r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"a\""}}"#,
                r#"{"index":0,"id":"a","function":{"name":"f","arguments":":\"}\\\"\""}}"#,
                r#"{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}"#,
            ],
            &[("f", r#"{"a":"}\""}"#)],
        );
    }

    #[test]
    fn a_name_that_comes_late() {
        expect(
            &[
                r#"{"index":0,"id":"a","function":{"arguments":"{"}}"#,
                r#"{"index":0,"function":{"name":"f"}}"#,
                r#"{"index":0,"function":{"arguments":"}"}}"#,
            ],
            &[("f", "{}")],
        );
    }

    #[test]
    fn no_index_and_no_id() {
        expect(
            &[
                r#"{"id":"a","function":{"name":"f","arguments":"{"}}"#,
                r#"{"function":{"arguments":"}"}}"#,
                r#"{"id":"b","function":{"name":"f","arguments":"{}"}}"#,
                r#"{"function":{"name":"g","arguments":{"x": [1]}}}"#,
            ],
            &[("f", "{}"), ("f", "{}"), ("g", r#"{"x": [1]}"#)],
        );
    }

    #[test]
    fn no_arguments_are_an_empty_object() {
        expect(
            &[r#"{"index":3,"function":{"name":"f","arguments":null}}"#],
            &[("f", "{}")],
        );
        expect(&[r#"{"index":0,"id":null,"function":null}"#], &[]);
    }

    #[test]
    fn a_character_may_be_cut_in_half() {
        expect(
            &[
                r#"{"index":0,"function":{"name":"f","arguments":"{\"x\":\"\ud83d"}}"#,
                r#"{"index":0,"function":{"arguments":"\ude00\"}"}}"#,
                r#"{"index":1,"function":{"name":"g","arguments":"\"\ud83d\""}}"#,
                r#"{"index":2,"function":{"name":"h","arguments":"\ud83d"}}"#,
            ],
            &[
                ("f", r#"{"x":"😀"}"#),
                ("g", "\"\u{fffd}\""),
                ("h", "\u{fffd}"),
            ],
        );
    }

    #[test]
    fn ids_are_kept_where_they_can_be() {
        let found = read(
            &[
                r#"{"index":0,"id":"chatcmpl-tool-1","function":{"name":"f","arguments":"{}"}}"#,
                r#"{"index":1,"id":"","function":{"name":"f","arguments":"{}"}}"#,
                r#"{"index":2,"id":"with space","function":{"name":"f","arguments":"{}"}}"#,
            ],
            true,
        );
        assert_eq!(found[0].0, "chatcmpl-tool-1");
        for made in &found[1..] {
            assert!(
                made.0.starts_with("call_") && made.0.len() == 29,
                "{}",
                made.0
            );
        }
    }

    #[test]
    fn calls_that_are_not_allowed_are_left_out() {
        let fragments = [
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}"#,
            r#"{"index":0,"function":{"arguments":"}"}}"#,
            r#"{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}"#,
            r#"{"index":2,"id":"c","function":{"arguments":"{"}}"#,
            r#"{"index":2,"function":{"name":"f","arguments":"}"}}"#,
        ];
        for parallel_tool_calls in [true, false] {
            let reading = Reading {
                parallel_tool_calls,
                allowed: Some(["g".to_owned()].into()),
                ..Reading::default()
            };
            let call = |id: &str, name: &str| (id.to_owned(), name.to_owned(), "{}".to_owned());
            assert_eq!(read_as(&fragments, &reading), [call("b", "g")]);
        }
    }

    #[test]
    fn only_one_call_where_only_one_is_allowed() {
        let found = read(
            &[
                r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#,
                r#"{"index":1,"id":"b","function":{"name":"g","arguments":""}}"#,
                r#"{"index":1,"function":{"arguments":"{}"}}"#,
            ],
            false,
        );
        assert_eq!(found.len(), 1);
    }
}
