//! One file: requested until all of it is here, verified, and renamed to its name.

mod part;
mod attempt;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::checksum::Checksum;
use crate::folder::{Folder, Here};
use crate::http::{Context, Refused, Stopped};
use crate::list::{self, Remote};
use crate::plan::NoRoom;
use crate::retry::Failures;
use crate::source::shown;

use attempt::{Attempt, AttemptError};
use part::Part;

/// Why a file cannot be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The server refused the request for good.
    #[error("{name}: {refused}")]
    Refused {
        /// The file.
        name: String,
        /// The refusal.
        refused: Box<Refused>,
    },
    /// The content does not match its checksum or size, twice.
    #[error(
        "{name}: what came is {got}, and must be {expected}; it was fetched twice and is removed: \
         the server has other bytes than it promises"
    )]
    Wrong {
        /// The file.
        name: String,
        /// The checksum or size that it must have.
        expected: String,
        /// The checksum or size that it has.
        got: String,
    },
    /// The disk is full.
    #[error("{name}: {room}")]
    Room {
        /// The file.
        name: String,
        /// How much is missing.
        room: NoRoom,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The fetch was cancelled; received bytes are kept.
    #[error("interrupted")]
    Interrupted,
}

/// The server has other content than it promised.
struct Wrong {
    expected: String,
    got: String,
}

/// Downloads one file, and returns it as it is on disk.
pub(crate) async fn file(
    context: &Arc<Context>,
    folder: &Arc<Folder>,
    remote: &Remote,
    commit: Option<&str>,
) -> Result<Here, DownloadError> {
    let url = list::url(&context.source, commit, &remote.name);
    let mut part = open(context, folder, remote, shown(&url)).await?;
    let mut attempt = Attempt::new(context, folder, remote, url);
    let mut again = false;
    loop {
        let wrong;
        (part, wrong) = match complete(&mut attempt, part).await? {
            (part, Ok(())) => match finish(part, remote).await? {
                Ok(here) => return Ok(here),
                Err((part, wrong)) => (part, wrong),
            },
            (part, Err(wrong)) => (part, wrong),
        };
        let Wrong { expected, got } = wrong;
        let name = remote.name.to_string();
        part = blocking(move || part.reset().map(|()| part)).await?;
        if again {
            blocking(move || part.remove()).await?;
            return Err(DownloadError::Wrong {
                name,
                expected,
                got,
            });
        }
        tracing::warn!(
            file = name,
            expected,
            got,
            "what came is wrong; it is fetched once more"
        );
        again = true;
    }
}

/// Opens the part that an earlier attempt has left.
async fn open(
    context: &Arc<Context>,
    folder: &Arc<Folder>,
    remote: &Remote,
    from: String,
) -> Result<Part, DownloadError> {
    let name = remote.name.as_str();
    let _note = context
        .progress
        .note(name, format!("reading what is here of {name}"));
    let (context, folder, remote) = (Arc::clone(context), Arc::clone(folder), remote.clone());
    blocking(move || Part::open(&folder, &remote, from, Arc::clone(&context.progress))).await
}

/// Repeats attempts until all bytes are here.
async fn complete(
    attempt: &mut Attempt<'_>,
    mut part: Part,
) -> Result<(Part, Result<(), Wrong>), DownloadError> {
    let mut failures = Failures::default();
    let name = attempt.remote.name.to_string();
    loop {
        let before = part.length();
        let done;
        (part, done) = attempt.run(part).await?;
        let transient = match done {
            Ok(()) => return Ok((part, Ok(()))),
            Err(AttemptError::Wrong(wrong)) => return Ok((part, Err(wrong))),
            Err(AttemptError::Refused(refused)) => {
                return Err(DownloadError::Refused { name, refused });
            }
            Err(AttemptError::Room(room)) => return Err(DownloadError::Room { name, room }),
            Err(AttemptError::Stopped) => return Err(DownloadError::Interrupted),
            Err(AttemptError::Transient(transient)) => transient,
        };
        if part.length() > before {
            failures.reset();
        }
        attempt
            .context
            .pause(&mut failures, &name, transient)
            .await?;
    }
}

/// Renames the file to its name, if its checksum is right.
async fn finish(part: Part, remote: &Remote) -> Result<Result<Here, (Part, Wrong)>, DownloadError> {
    let got = part.checksum();
    match remote.checksum {
        Some(expected) if expected != got => {
            let (expected, got) = (expected.to_string(), Checksum::to_string(&got));
            Ok(Err((part, Wrong { expected, got })))
        }
        _ => blocking(move || part.keep(got)).await.map(Ok),
    }
}

/// Work with the disk, off the threads that serve the network.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DownloadError> + Send + 'static,
) -> Result<T, DownloadError> {
    spawn_blocking(work)
        .await
        .expect("work with the disk should not panic")
}

impl From<Stopped> for DownloadError {
    fn from(Stopped: Stopped) -> Self {
        Self::Interrupted
    }
}
