//! The steps of a fetch, in their order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ask::{Http, Way};
use crate::download::{self, DownloadError};
use crate::folder::{Folder, FolderError, Here, Record};
use crate::list::{self, ListError};
use crate::plan::{self, PlanError};
use crate::progress::Progress;
use crate::retry::Pace;
use crate::source::Source;

/// Files at a time: connections of a content delivery network are slower than networks and disks.
const AT_ONCE: usize = 4;

/// Everything a fetch needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where from.
    pub source: Source,
    /// The folder that is filled.
    pub to: PathBuf,
    /// How other machines are reached.
    pub http: Http,
    /// How long it waits between attempts.
    pub pace: Pace,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// What the revision was taken for; None: the source has no revisions.
    pub commit: Option<String>,
    /// Files in the folder.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that came over the network.
    pub received: u64,
}

/// Why a folder is not complete.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The folder.
    #[error(transparent)]
    Folder(FolderError),
    /// The list of files.
    #[error(transparent)]
    List(ListError),
    /// Which of them, and their room.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A file.
    #[error(transparent)]
    Download(DownloadError),
    /// It was asked to stop.
    #[error(
        "interrupted: {done} of {total} bytes are here and are kept; the same command goes on from there"
    )]
    Interrupted {
        /// Bytes that are here.
        done: u64,
        /// Bytes of all files, as far as they are known.
        total: u64,
    },
}

/// # Flow
///
/// folder → list (or what was written down) → plan → download → done
pub(crate) async fn run(
    config: Config,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<Done, FetchError> {
    let way = Arc::new(Way {
        source: config.source,
        http: config.http,
        pace: config.pace,
        progress: Arc::clone(&progress),
        // Of this fetch alone: one file that cannot be had ends the others, too.
        stop: stop.child_token(),
    });
    let steps = async {
        let folder = Arc::new(Folder::open(&config.to, &way).await?);
        let record = wanted(&way, &folder).await?;
        let (record, folder) = look(&way, folder, record).await?;
        let record = bring(&way, &folder, record).await?;
        finish(&folder, record)
    };
    let done = steps.await.map_err(|error: FetchError| match error {
        FetchError::Folder(FolderError::Interrupted)
        | FetchError::List(ListError::Interrupted)
        | FetchError::Download(DownloadError::Interrupted) => {
            let (done, total) = progress.bytes();
            FetchError::Interrupted { done, total }
        }
        error => error,
    })?;
    Ok(Done {
        received: progress.received(),
        ..done
    })
}

/// What is wanted: as it was written down, or as the source has it now.
async fn wanted(way: &Arc<Way>, folder: &Folder) -> Result<Record, FetchError> {
    let identity = way.source.identity();
    let before = folder.record()?;
    if let Some(record) = before.clone().filter(|record| record.source == identity) {
        return Ok(record);
    }
    let listing = list::list(way).await?;
    let include = match &way.source {
        Source::HuggingFace(hub) => hub.include.as_slice(),
        Source::Plain(_) => &[],
    };
    let files = plan::choose(listing.files, include)?;
    let commit = listing.commit.as_deref().unwrap_or("none");
    tracing::info!(source = %way.source, commit, files = files.len(), "listed");
    let record = Record::new(identity, listing.commit, files, before);
    folder.write(&record)?;
    Ok(record)
}

/// What of it is here already, and whether there is room for the rest.
async fn look(
    way: &Way,
    folder: Arc<Folder>,
    mut record: Record,
) -> Result<(Record, Arc<Folder>), FetchError> {
    let _note = way
        .progress
        .note("folder", "looking at what is here".to_owned());
    let looked = spawn_blocking(move || {
        let mut needed: u64 = 0;
        for entry in &mut record.files {
            entry.here = plan::here(&folder, entry);
            if entry.here.is_none() {
                let begun = folder
                    .part(&entry.remote.name)
                    .metadata()
                    .map_or(0, |part| part.len());
                needed += entry.remote.size.unwrap_or(0).saturating_sub(begun);
            }
        }
        (record, folder, needed)
    });
    let (record, folder, needed) = looked.await.expect("looking at files should not panic");
    for entry in &record.files {
        let here = entry.here.map(|here| here.size);
        way.progress.found(here.unwrap_or(0));
        way.progress
            .expect(0, here.or(entry.remote.size).unwrap_or(0));
    }
    plan::room(&folder, needed).map_err(PlanError::from)?;
    Ok((record, folder))
}

/// Downloads what is missing, and writes down each file that is complete.
async fn bring(
    way: &Arc<Way>,
    folder: &Arc<Folder>,
    mut record: Record,
) -> Result<Record, FetchError> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut files = JoinSet::new();
    let mut of = BTreeMap::new();
    for (index, entry) in record.files.iter().enumerate() {
        if entry.here.is_some() {
            continue;
        }
        let (way, folder, places) = (Arc::clone(way), Arc::clone(folder), Arc::clone(&places));
        let (remote, commit) = (entry.remote.clone(), record.commit.clone());
        let task = files.spawn(async move {
            let _place = places.acquire().await.expect("the semaphore should not be closed");
            let begun = Instant::now();
            let here = download::file(&way, &folder, &remote, commit.as_deref()).await?;
            let seconds = begun.elapsed().as_secs_f64();
            tracing::info!(file = %remote.name, bytes = here.size, seconds, checksum = %here.checksum, "fetched");
            Ok::<Here, DownloadError>(here)
        });
        of.insert(task.id(), index);
    }
    let mut failed = None;
    while let Some(ended) = files.join_next_with_id().await {
        let (id, here) = ended.expect("a download should not panic");
        match here {
            Ok(here) => {
                record.files[of[&id]].here = Some(here);
                let folder = Arc::clone(folder);
                let written = spawn_blocking(move || folder.write(&record).map(|()| record));
                record = written.await.expect("writing should not panic")?;
            }
            Err(error) => {
                // The others keep what they have. The first reason is the reason.
                way.stop.cancel();
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(record), |error| Err(FetchError::Download(error)))
}

/// Everything is here: what belonged to something else goes.
fn finish(folder: &Folder, mut record: Record) -> Result<Done, FetchError> {
    folder.sweep(&record.left_over);
    folder.remove_parts()?;
    record.left_over.clear();
    folder.write(&record)?;
    let sizes = record
        .files
        .iter()
        .filter_map(|entry| Some(entry.here?.size));
    Ok(Done {
        files: record.files.len(),
        bytes: sizes.sum(),
        received: 0,
        commit: record.commit,
    })
}

impl From<FolderError> for FetchError {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl From<ListError> for FetchError {
    fn from(error: ListError) -> Self {
        Self::List(error)
    }
}
