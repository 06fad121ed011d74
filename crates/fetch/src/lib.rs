//! Weights into a folder: from a Hugging Face hub or a plain address, resumed after a cut, and verified.
//!
//! One module per step, in the order of the flow:
//!
//! ```text
//!  source    what is wanted, parsed at the edge
//!  bind      the port on which progress is told
//!  folder    one fetch at a time; what an earlier one wrote down      ─► it waits for the other one
//!  list      the hub's files at one commit, asked once, written down  ─► 401 · 403 · 404: what to do
//!  plan      which of them, which are here already, is there room     ─► nothing matches · disk full
//!  download  four at a time: ask → take → verify → keep               ─► wrong content, twice
//!  done      the record says what is here; what is left over goes
//! ```
//!
//! What passes (a refused connection, a cut, 5xx, 429) is tried again for as long as it takes, and said
//! to whoever watches; what does not pass by itself ends it with a sentence that says what to do.

mod source;
mod name;
mod checksum;
mod bind;
mod folder;
mod list;
mod plan;
mod download;
mod flow;
mod ask;
mod retry;
mod progress;
mod rpc;
#[cfg(test)]
mod tests;

pub use ask::Http;
pub use bind::Fetch;
pub use checksum::{ChecksumError, Sha256};
pub use download::DownloadError;
pub use flow::{Config, Done, FetchError};
pub use folder::FolderError;
pub use list::ListError;
pub use plan::PlanError;
pub use retry::Pace;
pub use source::{Address, Glob, HuggingFace, Plain, Repo, Revision, Source, SourceError, Token};
