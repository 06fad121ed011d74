//! The state folder of `up`, which is kept between starts.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A folder that no other user can enter.
pub(super) struct State {
    folder: PathBuf,
}

// === impl State ===

impl State {
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the state folder {}", folder.display()))?;
        // Children get its path, and a relative one would depend on where `up` was started.
        let folder = std::path::absolute(folder).context("cannot find the state folder")?;
        Ok(Self { folder })
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// Path of the ledger's database, if no other one is named.
    pub(super) fn ledger(&self) -> PathBuf {
        self.folder.join("ledger.sqlite")
    }

    /// Folder in which the router of this index keeps usage that it cannot send to Redis yet.
    pub(super) fn spool(&self, router: usize) -> PathBuf {
        self.folder.join(format!("spool/router-{router}"))
    }

    /// Folders with usage of earlier starts with more routers: no router of this start will send what is in them.
    pub(super) fn orphans(&self, routers: usize) -> Vec<PathBuf> {
        let ours: Vec<_> = (0..routers).map(|router| self.spool(router)).collect();
        let folders = fs::read_dir(self.folder.join("spool"))
            .into_iter()
            .flatten();
        let others = folders
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| !ours.contains(path));
        others.filter(|path| holds_segments(path)).collect()
    }

    /// Path of the secret that signs cookies; it is created at the first start.
    pub(super) fn cookie_secret(&self) -> anyhow::Result<PathBuf> {
        let path = self.folder.join("cookie-secret");
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).context("the system has no random numbers")?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match file.and_then(|mut file| file.write_all(&secret)) {
            Ok(()) => Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(path),
            Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
        }
    }
}

fn holds_segments(spool: &Path) -> bool {
    let files = fs::read_dir(spool).into_iter().flatten().flatten();
    files.map(|entry| entry.path()).any(|path| {
        path.extension()
            .is_some_and(|extension| extension == "spool")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_and_the_secret_are_private_and_the_secret_stays() {
        let parent = tempfile::tempdir().unwrap();
        let state = State::open(&parent.path().join("deep/state")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let secret = state.cookie_secret().unwrap();
        assert_eq!((mode(state.path()), mode(&secret)), (0o700, 0o600));
        let before = fs::read(&secret).unwrap();
        assert_eq!(before.len(), 32);
        assert_eq!(fs::read(state.cookie_secret().unwrap()).unwrap(), before);
    }

    #[test]
    fn what_no_router_will_look_into_is_found() {
        let parent = tempfile::tempdir().unwrap();
        let state = State::open(parent.path()).unwrap();
        assert_eq!(state.orphans(1), Vec::<PathBuf>::new());
        for router in 0..3 {
            fs::create_dir_all(state.spool(router)).unwrap();
            fs::write(state.spool(router).join("lock"), "").unwrap();
        }
        for router in 0..2 {
            fs::write(state.spool(router).join("1.spool"), "").unwrap();
        }
        assert_eq!(state.orphans(2), Vec::<PathBuf>::new());
        assert_eq!(state.orphans(1), [state.spool(1)]);
    }
}
