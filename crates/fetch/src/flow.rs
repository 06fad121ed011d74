//! The steps of a fetch, in their order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::download::{self, DownloadError};
use crate::folder::{FetchRecord, Folder, FolderError, Here};
use crate::http::{Context, Http};
use crate::list::{self, ListError};
use crate::plan::{self, PlanError};
use crate::progress::Progress;
use crate::retry::BackoffPolicy;
use crate::source::Source;

/// Files that are downloaded at the same time: one connection to a content delivery network is slower than network
/// and disk.
const AT_ONCE: usize = 4;

/// Everything a fetch needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the files come from.
    pub source: Source,
    /// The folder that is filled.
    pub to: PathBuf,
    /// The HTTP client.
    pub http: Http,
    /// Pauses between attempts.
    pub backoff: BackoffPolicy,
}

/// The result of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The commit that the revision stands for; `None`: the source has no revisions.
    pub commit: Option<String>,
    /// Number of files in the folder.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Bytes that were received over the network.
    pub received: u64,
}

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(FolderError),
    /// The list of files cannot be had.
    #[error(transparent)]
    List(ListError),
    /// No files match, several models do, or there is no room.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A file cannot be downloaded.
    #[error(transparent)]
    Download(DownloadError),
    /// The fetch was cancelled.
    #[error(
        "interrupted: {done} of {total} bytes are here and are kept; the same command goes on from there"
    )]
    Interrupted {
        /// Bytes that are in the folder.
        done: u64,
        /// Bytes of all files, as far as they are known.
        total: u64,
    },
}

/// # Flow
///
/// folder → list (or the record of an earlier fetch) → plan → download → done
///
/// # Cancellation
///
/// `stop` ends it with [`FetchError::Interrupted`]; bytes that were received are kept.
pub(crate) async fn run(
    config: Config,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<Done, FetchError> {
    let context = Arc::new(Context {
        source: config.source,
        http: config.http,
        backoff: config.backoff,
        progress: Arc::clone(&progress),
        // A child token: a file that cannot be had cancels the other files of this fetch and nothing else.
        stop: stop.child_token(),
    });
    let steps = async {
        let folder = Arc::new(Folder::open(&config.to, &context).await?);
        let record = resolve(&context, &folder).await?;
        let (record, folder) = inspect(&context, folder, record).await?;
        let record = download_all(&context, &folder, record).await?;
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

/// Resolves the source to a list of files: the recorded one if it is of the same source, else the source's present one.
async fn resolve(context: &Arc<Context>, folder: &Folder) -> Result<FetchRecord, FetchError> {
    let identity = context.source.identity();
    let before = folder.record()?;
    if let Some(record) = before.clone().filter(|record| record.source == identity) {
        return Ok(record);
    }
    let listing = list::list(context).await?;
    let include = match &context.source {
        Source::HuggingFace(hub) => hub.include.as_slice(),
        Source::Plain(_) => &[],
    };
    let files = plan::choose(listing.files, include)?;
    let commit = listing.commit.as_deref().unwrap_or("none");
    tracing::info!(source = %context.source, commit, files = files.len(), "listed");
    let record = FetchRecord::new(identity, listing.commit, files, before);
    folder.write(&record)?;
    Ok(record)
}

/// Finds the files that are complete already, and checks that there is room for the others.
async fn inspect(
    context: &Context,
    folder: Arc<Folder>,
    mut record: FetchRecord,
) -> Result<(FetchRecord, Arc<Folder>), FetchError> {
    let _note = context
        .progress
        .note("folder", "checking which files are complete".to_owned());
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
        context.progress.found(here.unwrap_or(0));
        context
            .progress
            .expect(0, here.or(entry.remote.size).unwrap_or(0));
    }
    plan::room(&folder, needed).map_err(PlanError::from)?;
    Ok((record, folder))
}

/// Downloads the missing files, and records each one when it is complete.
async fn download_all(
    context: &Arc<Context>,
    folder: &Arc<Folder>,
    mut record: FetchRecord,
) -> Result<FetchRecord, FetchError> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut files = JoinSet::new();
    let mut of = BTreeMap::new();
    for (index, entry) in record.files.iter().enumerate() {
        if entry.here.is_some() {
            continue;
        }
        let (context, folder, places) =
            (Arc::clone(context), Arc::clone(folder), Arc::clone(&places));
        let (remote, commit) = (entry.remote.clone(), record.commit.clone());
        let task = files.spawn(async move {
            let _place = places.acquire().await.expect("the semaphore should not be closed");
            let begun = Instant::now();
            let here = download::file(&context, &folder, &remote, commit.as_deref()).await?;
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
                // The other downloads stop and keep their bytes. Their errors are "interrupted", so the first counts.
                context.stop.cancel();
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(record), |error| Err(FetchError::Download(error)))
}

/// Removes the files of an earlier source, once all files are complete.
fn finish(folder: &Folder, mut record: FetchRecord) -> Result<Done, FetchError> {
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
