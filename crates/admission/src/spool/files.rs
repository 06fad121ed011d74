//! The files in the spool's folder: segments, and what was set aside.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::segment;

/// Bytes from which a segment is closed.
const SEGMENT: u64 = 4 << 20;
/// The file extension of segments.
pub(super) const EXTENSION: &str = "spool";
/// Names of the files for entries that the store refuses, newer one first.
pub(super) const ASIDE: [&str; 2] = ["refused.aside", "refused-before.aside"];
/// Bytes of each of the two files at most.
const ASIDE_LENGTH: u64 = 8 << 20;

/// A segment file.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(super) path: PathBuf,
    pub(super) length: u64,
}

/// The segments; only one thread at a time works on them.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    /// Closed segments, oldest first.
    closed: VecDeque<Segment>,
    open: Option<(Segment, File)>,
    next: u64,
    /// Done entries of existing segments, including those whose mark could not be written: this process must not send
    /// them again.
    done: HashMap<PathBuf, HashSet<u32>>,
}

// === impl Files ===

impl Files {
    /// Finds the segments in a folder. Files that were set aside become segments again, because the cause may have
    /// been fixed since.
    pub(super) fn find(folder: &Path) -> io::Result<Self> {
        let (numbers, closed): (Vec<_>, VecDeque<_>) = found(folder)?.into_iter().unzip();
        let mut files = Self {
            folder: folder.to_owned(),
            closed,
            open: None,
            next: numbers.last().map_or(0, |number| number + 1),
            done: HashMap::new(),
        };
        for name in ASIDE.into_iter().rev() {
            let path = folder.join(name);
            let length = match fs::metadata(&path) {
                Ok(file) => file.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let segment = Segment {
                path: files.next_path(),
                length,
            };
            fs::rename(path, &segment.path)?;
            files.closed.push_back(segment);
        }
        Ok(files)
    }

    /// Bytes of all segments.
    pub(super) fn total(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |(segment, _)| segment.length);
        let closed = self.closed.iter().map(|segment| segment.length);
        closed.sum::<u64>() + open
    }

    /// Appends to the open segment and syncs it. After an error, nothing of `framed` remains.
    pub(super) fn append(&mut self, framed: &[u8]) -> io::Result<()> {
        let (mut segment, mut file) = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        if let Err(error) = write(&mut file, segment.length, framed) {
            if segment.length > HEADER_LENGTH {
                self.closed.push_back(segment);
            } else {
                // Otherwise every attempt on a full disk would leave an empty file.
                let _ = fs::remove_file(&segment.path);
            }
            return Err(error);
        }
        segment.length += framed.len() as u64;
        if segment.length >= SEGMENT {
            self.closed.push_back(segment);
        } else {
            self.open = Some((segment, file));
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<(Segment, File)> {
        let path = self.next_path();
        let mut file = create(&path, true)?;
        let begun = file
            .write_all(&segment::HEADER)
            .and_then(|()| sync_folder(&self.folder));
        if let Err(error) = begun {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let length = HEADER_LENGTH;
        Ok((Segment { path, length }, file))
    }

    fn next_path(&mut self) -> PathBuf {
        let number = self.next;
        self.next += 1;
        self.folder.join(format!("{number:016x}.{EXTENSION}"))
    }

    /// Closes the open segment, and returns all segments. Later entries go into new ones.
    pub(super) fn close(&mut self) -> Vec<Segment> {
        if let Some((segment, _)) = self.open.take() {
            self.closed.push_back(segment);
        }
        self.closed.iter().cloned().collect()
    }

    /// Marks entries of a segment as done, in place, which needs no free space on the disk.
    pub(super) fn mark(&mut self, path: &Path, done: &[u32]) -> io::Result<()> {
        let known = self.done.entry(path.to_owned()).or_default();
        known.extend(done);
        let file = OpenOptions::new().write(true).open(path)?;
        // A version that knows no marks would read them as part of the length, so it must reject the file.
        file.write_all_at(&[segment::VERSION], segment::VERSION_AT)?;
        for &at in done {
            file.write_all_at(&[segment::DONE], segment::state_at(at))?;
        }
        file.sync_data()
    }

    /// Entries of a segment that are done, whether or not their marks are on disk.
    pub(super) fn done(&self, path: &Path) -> HashSet<u32> {
        self.done.get(path).cloned().unwrap_or_default()
    }

    /// Deletes a segment.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        self.forget(path);
        Ok(())
    }

    /// Renames a segment so that nothing reads it.
    pub(super) fn rename(&mut self, path: &Path, extension: &str) -> io::Result<()> {
        fs::rename(path, path.with_extension(extension))?;
        self.forget(path);
        Ok(())
    }

    fn forget(&mut self, path: &Path) {
        self.closed.retain(|segment| segment.path != path);
        self.done.remove(path);
    }

    /// Appends entries to those set aside. Returns whether older entries were dropped.
    pub(super) fn set_aside(&mut self, framed: &[u8]) -> io::Result<bool> {
        let [path, before] = ASIDE.map(|name| self.folder.join(name));
        let mut file = create(&path, false)?;
        let mut length = file.metadata()?.len();
        let mut dropped = false;
        if length > HEADER_LENGTH && length + framed.len() as u64 > ASIDE_LENGTH {
            dropped = before.exists();
            fs::rename(&path, before)?;
            file = create(&path, true)?;
            length = 0;
        }
        if length < HEADER_LENGTH {
            file.set_len(0)?;
            let whole = [&segment::HEADER[..], framed].concat();
            write(&mut file, 0, &whole)?;
            sync_folder(&self.folder)?;
        } else {
            write(&mut file, length, framed)?;
        }
        Ok(dropped)
    }
}

const HEADER_LENGTH: u64 = segment::HEADER.len() as u64;

/// Appends and syncs, or restores the previous length, so that no partial entry precedes later ones.
fn write(file: &mut File, length: u64, bytes: &[u8]) -> io::Result<()> {
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    written.inspect_err(|_| {
        // If this fails too, the segment is not appended to any more, and a reader detects the torn end.
        let _ = file.set_len(length);
    })
}

/// Syncs the folder, because a new file name is durable only after that.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Opens a file for appending; with `new` it must not exist.
pub(super) fn create(path: &Path, new: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600);
    if new {
        options.create_new(true);
    } else {
        options.create(true);
    }
    options.open(path)
}

/// Segments left by an earlier process, by number.
fn found(folder: &Path) -> io::Result<Vec<(u64, Segment)>> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        let path = file.path();
        let number = path.file_stem().and_then(|stem| stem.to_str());
        let number = number.and_then(|stem| u64::from_str_radix(stem, 16).ok());
        if let Some(number) = number
            && path.extension().is_some_and(|end| end == EXTENSION)
        {
            let length = file.metadata()?.len();
            found.push((number, Segment { path, length }));
        }
    }
    found.sort_by_key(|(number, _)| *number);
    Ok(found)
}
