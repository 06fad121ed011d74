//! Weights into a folder: from a Hugging Face hub or a plain address, resumed after a cut, and verified.
//!
//! One module per step, in the order of the flow:
//!
//! ```text
//!  source    the command line or the resource → a checked source
//!  bind      the gRPC port on which progress is reported
//!  folder    lock; the record of an earlier fetch                     ─► waits for another fetch
//!  list      the hub's files at one commit, listed once, recorded     ─► 401 · 403 · 404: what to do
//!  plan      which files; which are complete; is there room           ─► nothing matches · disk full
//!  download  four at a time: request → receive → verify → rename      ─► wrong content, twice
//!  done      the record lists the files; files of an earlier source are removed
//! ```
//!
//! Transient failures (a refused or broken connection, 5xx, 429) are retried without limit and reported to watchers.
//! A permanent failure ends the fetch with a message that says what to do.

mod source;
mod name;
mod checksum;
mod bind;
mod folder;
mod list;
mod plan;
mod download;
mod flow;
mod http;
mod retry;
mod progress;
mod rpc;
#[cfg(test)]
mod tests;

pub use bind::Fetch;
pub use checksum::{ChecksumError, Sha256};
pub use download::DownloadError;
pub use flow::{Config, Done, FetchError};
pub use folder::FolderError;
pub use http::Http;
pub use list::ListError;
pub use plan::PlanError;
pub use retry::BackoffPolicy;
pub use source::{Address, Glob, HuggingFace, Plain, Repo, Revision, Source, SourceError, Token};
