//! The private folder of one process, for sockets, copies of manifests and unpacked weights.

use std::env;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

const PREFIX: &str = "inferyard-";

/// Longest path of a socket in bytes: 103 on some systems, 107 on others.
const LONGEST_SOCKET: usize = 103;

/// Locked until the process exits.
const LOCK: &str = "lock";

/// A folder that no other user can enter. Dropping it removes it.
pub(crate) struct Scratch {
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// Creates a folder in the user's runtime folder, or else in a temporary folder, and removes those of killed
    /// processes.
    pub(crate) fn make(runtime_dir: Option<&Path>) -> anyhow::Result<Self> {
        let candidates = runtime_dir
            .filter(|path| path.is_absolute())
            .map(Path::to_owned)
            .into_iter()
            .chain([env::temp_dir(), PathBuf::from("/tmp")]);
        let mut failure = None;
        for parent in candidates.filter(|parent| sockets_fit(parent)) {
            sweep(&parent);
            match Self::make_in(&parent) {
                Ok(scratch) => return Ok(scratch),
                Err(error) => failure = failure.or(Some((parent, error))),
            }
        }
        let (parent, error) = failure.expect("/tmp should be tried, whose sockets fit");
        Err(error).with_context(|| format!("cannot make a private folder in {}", parent.display()))
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Path of the socket of the worker of this index.
    pub(crate) fn socket(&self, index: usize) -> PathBuf {
        self.path().join(format!("{index}.sock"))
    }
}

/// Whether socket paths below this folder are short enough.
fn sockets_fit(parent: &Path) -> bool {
    let longest = parent.join(format!("{PREFIX}123456/9999999.sock"));
    longest.as_os_str().as_bytes().len() <= LONGEST_SOCKET
}

/// Removes the folders of killed processes, which are those whose lock is free. A folder younger than a minute may
/// belong to a process that is about to take its lock.
fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for folder in ours.map(|entry| entry.path()) {
        let lock = File::open(folder.join(LOCK));
        let abandoned = lock.is_ok_and(|lock| {
            let age = lock.metadata().and_then(|metadata| metadata.modified());
            let old =
                age.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > Duration::from_mins(1)));
            old && lock.try_lock().is_ok()
        });
        if abandoned && let Err(error) = fs::remove_dir_all(&folder) {
            tracing::debug!(folder = %folder.display(), %error, "cannot remove a left-over folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::FileTimes;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_folder_is_private_and_goes_away() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::make(Some(parent.path())).unwrap();
        let path = scratch.path().to_owned();
        assert!(path.starts_with(parent.path()));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_long_runtime_folder_is_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let long = parent.path().join("x".repeat(90));
        fs::create_dir(&long).unwrap();
        let scratch = Scratch::make(Some(&long)).unwrap();
        assert!(!scratch.path().starts_with(&long));
    }

    #[test]
    fn only_old_folders_without_an_owner_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let old = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
        let folder = |name: &str, times| {
            let folder = parent.path().join(format!("{PREFIX}{name}"));
            fs::create_dir(&folder).unwrap();
            let lock = File::create(folder.join(LOCK)).unwrap();
            lock.set_times(times).unwrap();
            (folder, lock)
        };
        let (abandoned, _) = folder("a", old);
        let (owned, lock) = folder("b", old);
        lock.lock().unwrap();
        let (young, _) = folder("c", FileTimes::new());
        sweep(parent.path());
        assert_eq!(
            (abandoned.exists(), owned.exists(), young.exists()),
            (false, true, true)
        );
    }
}
