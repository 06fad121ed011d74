//! One file: asked for until all of it is here, verified, and put in its place.

mod part;
mod attempt;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::ask::{Refused, Stopped, Way};
use crate::checksum::Checksum;
use crate::folder::{Folder, Here};
use crate::list::{self, Remote};
use crate::plan::NoRoom;
use crate::retry::Failures;
use crate::source::shown;

use attempt::{Attempt, Cut};
use part::Part;

/// A file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The server does not want to.
    #[error("{name}: {refused}")]
    Refused {
        /// The file.
        name: String,
        /// What it said.
        refused: Box<Refused>,
    },
    /// What came is something else, twice.
    #[error(
        "{name}: what came is {got}, and must be {expected}; it was fetched twice and is removed: \
         the server has other bytes than it promises"
    )]
    Wrong {
        /// The file.
        name: String,
        /// What it must be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// There is no room.
    #[error("{name}: {room}")]
    Room {
        /// The file.
        name: String,
        /// How much is missing.
        room: NoRoom,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was asked to stop; what came is kept.
    #[error("interrupted")]
    Interrupted,
}

/// What the server has is not what is wanted.
struct Wrong {
    expected: String,
    got: String,
}

/// Brings one file.
pub(crate) async fn file(
    way: &Arc<Way>,
    folder: &Arc<Folder>,
    remote: &Remote,
    commit: Option<&str>,
) -> Result<Here, DownloadError> {
    let url = list::url(&way.source, commit, &remote.name);
    let mut part = open(way, folder, remote, shown(&url)).await?;
    let mut attempt = Attempt::new(way, folder, remote, url);
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

/// What is here of it from before.
async fn open(
    way: &Arc<Way>,
    folder: &Arc<Folder>,
    remote: &Remote,
    from: String,
) -> Result<Part, DownloadError> {
    let name = remote.name.as_str();
    let _note = way
        .progress
        .note(name, format!("reading what is here of {name}"));
    let (way, folder, remote) = (Arc::clone(way), Arc::clone(folder), remote.clone());
    blocking(move || Part::open(&folder, &remote, from, Arc::clone(&way.progress))).await
}

/// Asks until all of it is here.
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
        let passing = match done {
            Ok(()) => return Ok((part, Ok(()))),
            Err(Cut::Wrong(wrong)) => return Ok((part, Err(wrong))),
            Err(Cut::Refused(refused)) => return Err(DownloadError::Refused { name, refused }),
            Err(Cut::Room(room)) => return Err(DownloadError::Room { name, room }),
            Err(Cut::Stopped) => return Err(DownloadError::Interrupted),
            Err(Cut::Passing(passing)) => passing,
        };
        if part.length() > before {
            failures.forget();
        }
        attempt.way.pause(&mut failures, &name, passing).await?;
    }
}

/// Puts it in its place, if it is what it must be.
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
