//! Manifest files, folders and standard input as text.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file above this size is not a manifest.
const MAX_BYTES: u64 = 16 << 20;

/// The text of one manifest file.
#[derive(Debug, Clone)]
pub struct ManifestFile {
    /// The path; `-` is standard input.
    pub path: PathBuf,
    /// The content.
    pub text: String,
    /// When it was last written.
    pub modified: SystemTime,
}

/// Why manifests could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or folder could not be opened or read.
    #[error("cannot read the manifest {}", path.display())]
    Open {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A folder without manifests.
    #[error("the folder {} holds no file that ends in .yaml or .yml", .0.display())]
    EmptyFolder(PathBuf),
    /// Too large to be a manifest.
    #[error("{} has more than {} MiB: this is not a manifest", .0.display(), MAX_BYTES >> 20)]
    TooLarge(PathBuf),
}

/// Reads files, the manifests in folders (not in their subfolders), and standard input for `-`.
///
/// # Errors
///
/// See [`ReadError`].
pub fn read(paths: &[PathBuf]) -> Result<Vec<ManifestFile>, ReadError> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            files.push(read_all(path, io::stdin().lock(), SystemTime::now())?);
        } else if path.is_dir() {
            for file in manifests_of(path)? {
                files.push(read_file(&file)?);
            }
        } else {
            files.push(read_file(path)?);
        }
    }
    Ok(files)
}

/// The paths of the manifests in a folder, sorted by name.
fn manifests_of(folder: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(|source| open_error(folder, source))?;
    let mut files: Vec<_> = entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml")
        })
        .collect();
    if files.is_empty() {
        return Err(ReadError::EmptyFolder(folder.to_owned()));
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<ManifestFile, ReadError> {
    let file = File::open(path).map_err(|source| open_error(path, source))?;
    let modified = file
        .metadata()
        .and_then(|metadata| metadata.modified())
        .map_err(|source| open_error(path, source))?;
    read_all(path, file, modified)
}

fn read_all(
    path: &Path,
    source: impl Read,
    modified: SystemTime,
) -> Result<ManifestFile, ReadError> {
    let mut text = String::new();
    source
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|source| open_error(path, source))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLarge(path.to_owned()));
    }
    Ok(ManifestFile {
        path: path.to_owned(),
        text,
        modified,
    })
}

fn open_error(path: &Path, source: io::Error) -> ReadError {
    ReadError::Open {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_of_a_folder_are_read_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("b.yaml", "b"), ("a.yml", "a"), ("c.txt", "c")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let files = read(&[folder.path().to_owned()]).unwrap();
        let texts: Vec<_> = files.iter().map(|file| file.text.as_str()).collect();
        assert_eq!(texts, ["a", "b"]);
        assert_eq!(files[0].path, folder.path().join("a.yml"));
    }

    #[test]
    fn what_is_no_manifest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large");
        File::create(&large)
            .unwrap()
            .set_len(MAX_BYTES + 1)
            .unwrap();
        let binary = folder.path().join("binary");
        fs::write(&binary, [0xff]).unwrap();
        for (path, expected) in [
            (
                folder.path().to_owned(),
                "holds no file that ends in .yaml or .yml",
            ),
            (large, "more than 16 MiB: this is not a manifest"),
            (binary, "did not contain valid UTF-8"),
            (folder.path().join("missing"), "No such file"),
        ] {
            let error = read(&[path]).unwrap_err();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let said = format!("{error}: {}", cause.unwrap_or_default());
            assert!(said.contains(expected), "{said}");
        }
    }
}
