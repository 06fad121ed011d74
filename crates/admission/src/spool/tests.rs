//! Tests of the spool on a real disk: entries survive a restart, and one process uses a folder at a time.

use std::fs::OpenOptions;
use std::os::unix::fs::PermissionsExt as _;

use super::files::{ASIDE, EXTENSION};
use super::*;

fn texts(contents: &Contents) -> Vec<Vec<u8>> {
    let entries = contents.entries.iter();
    entries.map(|entry| entry.bytes.to_vec()).collect()
}

async fn all(spool: &Spool) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    for segment in spool.segments().await {
        let contents = spool.read(&segment).await.unwrap();
        entries.extend(texts(&contents));
    }
    entries
}

#[tokio::test]
async fn what_was_written_is_found_after_a_restart_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("deep/spool");
    let spool = Spool::open(&folder).unwrap();
    for number in 0..3_u8 {
        assert!(spool.append(vec![number; 5]).await);
        // Each call of `segments` closes the open one.
        assert_eq!(spool.segments().await.len(), usize::from(number) + 1);
    }
    assert!(spool.append(vec![3; 5]).await);
    let bytes = spool.bytes();
    drop(spool);

    let spool = Spool::open(&folder).unwrap();
    assert_eq!(spool.bytes(), bytes);
    let expected: Vec<_> = (0..4_u8).map(|number| vec![number; 5]).collect();
    assert_eq!(all(&spool).await, expected);
    assert!(spool.append(b"later".to_vec()).await);
    assert_eq!(all(&spool).await.last().unwrap(), b"later");
    for segment in spool.segments().await {
        spool.remove(&segment).await.unwrap();
    }
    assert_eq!(spool.bytes(), 0);
    assert!(all(&spool).await.is_empty());
}

#[tokio::test]
async fn only_its_owner_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("spool");
    let spool = Spool::open(&folder).unwrap();
    assert!(spool.append(b"entry".to_vec()).await);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for segment in spool.segments().await {
        assert_eq!(mode(&segment.path), 0o600);
    }
}

#[tokio::test]
async fn a_second_process_is_told_to_take_another_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = Spool::open(folder.path()).unwrap();
    let second = Spool::open(folder.path());
    assert!(matches!(second, Err(SpoolError::InUse { .. })));
    drop(first);
    assert!(Spool::open(folder.path()).is_ok());
}

#[tokio::test]
async fn a_torn_end_costs_only_what_was_never_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    assert!(spool.append(b"one".to_vec()).await);
    assert!(spool.append(b"two".to_vec()).await);
    let segment = spool.segments().await.remove(0);
    drop(spool);
    let file = OpenOptions::new().write(true).open(&segment.path).unwrap();
    file.set_len(segment.length - 1).unwrap();

    let spool = Spool::open(folder.path()).unwrap();
    let contents = spool.read(&segment).await.unwrap();
    assert_eq!(texts(&contents), [b"one".to_vec()]);
    assert!(contents.torn);
}

#[tokio::test]
async fn a_segment_of_another_version_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{:016x}.{EXTENSION}", 0));
    fs::write(&path, b"iyspool\x09 from the future").unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let segment = spool.segments().await.remove(0);
    let error = spool.read(&segment).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    spool.put_aside(&segment).await.unwrap();
    assert!(spool.segments().await.is_empty());
    assert!(path.with_extension("unreadable").exists());
}

#[tokio::test]
async fn entries_that_come_together_are_all_written() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path()).unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..200_u8 {
        let spool = Arc::clone(&spool);
        writers.spawn(async move { spool.append(vec![number; 100]).await });
    }
    assert!(writers.join_all().await.into_iter().all(|written| written));
    let mut entries = all(&spool).await;
    entries.sort();
    assert_eq!(entries.len(), 200);
    entries.dedup();
    assert_eq!(entries.len(), 200);
}

#[tokio::test]
async fn a_disk_that_fails_is_told_and_hurts_nothing_later() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("spool");
    let spool = Spool::open(&folder).unwrap();
    let away = folder.with_file_name("away");
    fs::rename(&folder, &away).unwrap();
    assert!(!spool.append(b"lost".to_vec()).await);
    fs::rename(&away, &folder).unwrap();
    assert!(spool.append(b"kept".to_vec()).await);
    assert_eq!(all(&spool).await, [b"kept".to_vec()]);
}

#[tokio::test]
async fn an_entry_that_is_marked_is_not_read_again_by_this_process_or_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    for number in 0..5_u8 {
        assert!(spool.append(vec![number; 5]).await);
    }
    let segment = spool.segments().await.remove(0);
    let entries = spool.read(&segment).await.unwrap().entries;
    let done = [1, 3].map(|index: usize| entries[index].at).to_vec();
    spool.mark(&segment, done).await.unwrap();
    let left = [0, 2, 4].map(|number: u8| vec![number; 5]);
    assert_eq!(all(&spool).await, left);
    // Even if the mark cannot be written, this process knows it.
    let away = segment.path.with_extension("away");
    fs::rename(&segment.path, &away).unwrap();
    assert!(spool.mark(&segment, vec![entries[0].at]).await.is_err());
    fs::rename(&away, &segment.path).unwrap();
    assert_eq!(all(&spool).await, left[1..]);
    drop(spool);
    let spool = Spool::open(folder.path()).unwrap();
    assert_eq!(all(&spool).await, left);
}

#[tokio::test]
async fn what_is_set_aside_waits_for_the_next_process_and_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let some = |number: u8| vec![Bytes::from(vec![number; 60 << 10]); 50];
    // Each entry has three MiB; the spool keeps 16 MiB.
    for number in 0..8 {
        spool.set_aside(&some(number)).await.unwrap();
    }
    assert_eq!(spool.bytes(), 0, "it does not wait for the store");
    let length = |name: &&str| fs::metadata(folder.path().join(name)).unwrap().len();
    let kept: u64 = ASIDE.iter().map(length).sum();
    assert!((5 << 20..=16 << 20).contains(&kept), "{kept}");
    drop(spool);
    let spool = Spool::open(folder.path()).unwrap();
    assert!(!folder.path().join(ASIDE[0]).exists());
    assert_eq!(spool.bytes(), kept);
    let entries = all(&spool).await;
    let firsts: Vec<_> = entries.iter().map(|entry| entry[0]).collect();
    assert!(firsts.is_sorted());
    assert_eq!(firsts.last(), Some(&7));
    assert_eq!(firsts.len() % 50, 0);
}
