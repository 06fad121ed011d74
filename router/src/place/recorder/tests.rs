//! A recording on files that take nothing.

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
    // Nobody reads the pipe: whoever writes more than it holds waits for ever.
    let (mut reader, pipe) = io::pipe().unwrap();
    let recorder = Recorder::write_to(pipe, Path::new("pipe"), &HEAD).unwrap();
    record(&recorder, 10 * MOST_WAITING);
    let dropped = usize::try_from(recorder.dropped.load(Ordering::Relaxed)).unwrap();
    assert!(dropped > 7 * MOST_WAITING, "{dropped}");
    recorder.end().await;
    // What waited is written as soon as that is possible: all but what was dropped.
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
    // Nothing is recorded any more, and nothing breaks.
    record(&recorder, 1);
    recorder.end().await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_full_disk_ends_the_recording_alone() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let recorder = Recorder::write_to(full, Path::new("full"), &HEAD).unwrap();
    // Beyond what a buffer holds; the thread has ended, which is no error of the router.
    record(&recorder, 10 * MOST_WAITING);
    recorder.end().await;
}
