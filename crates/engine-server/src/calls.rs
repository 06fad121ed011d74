//! Tool calls in every form that servers send become one: dense indices, one start with id and name,
//! then arguments.
//!
//! # What comes
//!
//! Whole calls at once; fragments; no id, an empty one, or another one in each fragment; no index, or
//! 0 for every call; the name in the first fragment, in a later one, or in all of them; arguments as
//! text, or as the object itself.

use std::mem;

use inferyard_chat::output::random_id;
use inferyard_engine::event::ToolCallFragment;

use crate::chunk::CallFragment;
use crate::upstream_request::ReadOptions;
use crate::wide::{Joined, Wide};

/// No server has longer ones.
const MAX_ID_BYTES: usize = 128;
/// Whoever calls more tools at once does so by mistake.
const MAX_CALLS: usize = 1024;

/// The tool calls of one choice.
#[derive(Default)]
pub(crate) struct Calls {
    begun: Vec<Call>,
    // The call of the last fragment.
    last: usize,
    // How many of them were told.
    told: u32,
    // One that the request does not allow came.
    forbidden: bool,
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
    pub(crate) fn any(&self) -> bool {
        self.told > 0
    }

    /// Nothing but calls that may not came.
    pub(crate) fn only_forbidden(&self) -> bool {
        self.forbidden && self.told == 0
    }

    /// Reads a fragment and appends what is new of it. A call that the request does not allow is left out.
    pub(crate) fn push(
        &mut self,
        fragment: CallFragment<'_>,
        options: &ReadOptions,
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
            let may_call = options.may_call(name);
            self.forbidden |= !may_call;
            if !may_call || (self.told > 0 && !options.parallel_tool_calls) {
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
    pub(crate) fn finish(&mut self, said: &mut Vec<ToolCallFragment>) {
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
mod tests;
