//! OpenAI's JSON over HTTP: parses and checks requests, and encodes the events of a worker as answers.
//!
//! ```text
//!  read     walks the body once and checks it against the table of fields → Parsed → (bind) → Generation
//!  sse      events → frames of a stream
//!  answer   events → one body
//!  json     the parts that both write: head, strings, log probabilities, usage
//!  error    the error object of a response or of a started stream
//! ```
//!
//! Everything in this crate is pure: no clock, no network, no task.

mod read;
mod json;
mod error;
mod sse;
mod answer;

pub use answer::Answer;
pub use error::ErrorObject;
pub use json::{ContractError, Head};
pub use read::{
    Api, Generation, Length, NumberKind, Param, Parsed, ReadError, ResponseSpec, Shape,
    StreamOptions, read,
};
pub use sse::Frames;
