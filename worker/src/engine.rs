//! What turns requests into tokens; today one engine, a model in this process.

pub(crate) mod embedded;
mod reply;

pub(crate) use reply::{Cancel, Events};
#[cfg(test)]
pub(crate) use reply::{Reader, Reply};
