//! Which servers this machine has, and where their programs are.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io, thread};

/// A server that a test needs.
#[derive(Debug, Clone, Copy)]
pub enum Server {
    /// `redis-server`, and `redis-cli`.
    Redis,
    /// PostgreSQL's server programs.
    Postgres,
}

/// Whether a test has to be skipped because one of its servers is not installed. Standard error says so; it is
/// written to directly, because the output of tests that pass is captured.
#[must_use]
pub fn skips(servers: &[Server]) -> bool {
    let programs = servers.iter().flat_map(|server| match server {
        Server::Redis => ["redis-server", "redis-cli"].as_slice(),
        Server::Postgres => ["initdb", "pg_ctl"].as_slice(),
    });
    let missing: Vec<&str> = programs
        .copied()
        .filter(|name| program(name).is_none())
        .collect();
    if missing.is_empty() {
        return false;
    }
    let (missing, thread) = (missing.join(" and "), thread::current());
    let name = thread.name().unwrap_or("a test");
    let text =
        format!("skipped: {name} needs {missing}; `make unit` installs it and runs the test\n");
    io::stderr().write_all(text.as_bytes()).ok();
    true
}

/// Where a program is. Debian keeps those of PostgreSQL's server outside the path, in a folder for each version; the
/// newest version is taken.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<PathBuf> = versions.flatten().map(|entry| entry.path()).collect();
    versions.sort();
    let postgres = versions.into_iter().rev().map(|path| path.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = postgres.chain(env::split_paths(&path)).collect();
    find(name, &folders)
}

fn find(name: &str, folders: &[impl AsRef<Path>]) -> Option<PathBuf> {
    let paths = folders.iter().map(|folder| folder.as_ref().join(name));
    paths.into_iter().find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_the_first_folder_that_has_it() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [first.path(), second.path()];
        assert_eq!(find("server", &folders), None);
        fs::write(second.path().join("server"), "").unwrap();
        let found = find("server", &folders);
        assert_eq!(found, Some(second.path().join("server")));
        assert!(!skips(&[]));
    }
}
