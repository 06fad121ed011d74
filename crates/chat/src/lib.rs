//! What a chat model reads and writes, for every engine: prompts, grammars and answers.
//!
//! ```text
//!  prompt    a conversation → the model's prompt text, by its Jinja template
//!  grammar   JSON Schemas and tools → a grammar that constrains the answer
//!  output    bytes of tokens → characters → reasoning · tool calls · content, up to a stop text
//! ```
//!
//! It knows no model and no tokenizer: engines bring theirs.

pub mod prompt;
pub mod grammar;
pub mod output;
mod decimal;
