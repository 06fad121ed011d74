//! Tests of recordings to files that accept no data.

use std::fs::OpenOptions;
use std::io::Read as _;

use super::*;

const HEAD: Head = Head {
    inferyard_recording: VERSION,
    weights: Weights {
        prompt: 12.0,
        balance: 0.04,
    },
    seed: 1,
};

fn record(recorder: &Recorder, events: usize) {
    for serial in 0..events {
        let serial = serial as u64;
        recorder.write(Moment::from_millis(serial), "m", Event::Begun { serial });
    }
}

#[tokio::test]
async fn a_disk_that_takes_nothing_stops_nobody() {
    // The pipe has no reader yet, so the writer thread blocks once the pipe is full.
    let (mut reader, pipe) = io::pipe().unwrap();
    let recorder = Recorder::write_to(pipe, Path::new("pipe"), &HEAD).unwrap();
    record(&recorder, 10 * MOST_WAITING);
    let dropped = usize::try_from(recorder.dropped.load(Ordering::Relaxed)).unwrap();
    assert!(dropped > 7 * MOST_WAITING, "{dropped}");
    recorder.end().await;
    // With a reader, everything queued is written, except the dropped events.
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 1 + 10 * MOST_WAITING - dropped);
}

#[tokio::test]
async fn the_end_writes_what_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    let recorder = Recorder::create(&path, Weights::default(), 7).unwrap();
    record(&recorder, 1_000);
    recorder.end().await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 1_001);
    // Further events are ignored without an error.
    record(&recorder, 1);
    recorder.end().await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_full_disk_ends_the_recording_alone() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let recorder = Recorder::write_to(full, Path::new("full"), &HEAD).unwrap();
    // More than the channel holds; the thread has ended, which is not an error for the router.
    record(&recorder, 10 * MOST_WAITING);
    recorder.end().await;
}
