//! Tests of the cost terms.

use super::*;

fn work() -> Work {
    Work {
        prompt_bytes: 4096,
        prompt_tokens: 1000,
        blocks: [1, 2, 3, 4].into(),
        sequences: 1,
    }
}

fn load() -> Load {
    Load {
        places: 4,
        free_tokens: Some(10_000),
        prefill_rate: 100.0,
        decode_rate: 10.0,
        ..Load::default()
    }
}

fn seconds(cached_blocks: usize, change: impl FnOnce(&mut Load)) -> f64 {
    let mut load = load();
    change(&mut load);
    Cost::of(&work(), cached_blocks, &load, 0.0).seconds()
}

#[test]
fn an_idle_worker_computes_what_it_does_not_hold() {
    assert!((seconds(0, |_| ()) - 10.0).abs() < 1e-9);
    assert!((seconds(3, |_| ()) - 2.5).abs() < 1e-9);
    assert!(seconds(4, |_| ()).abs() < 1e-9);
}

#[test]
fn everything_that_is_ahead_is_waited_for() {
    let idle = seconds(0, |_| ());
    let queued = seconds(0, |load| load.prefill_tokens = 500);
    assert!((queued - idle - 5.0).abs() < 1e-9);
    let running = seconds(0, |load| load.sequences = 2);
    assert!(running > idle);
    let full = seconds(0, |load| load.sequences = 4);
    assert!(full > running + 1.0);
    let cramped = seconds(0, |load| load.free_tokens = Some(999));
    assert!(cramped > idle + 1.0);
    let silent = seconds(0, |load| load.free_tokens = None);
    assert!((silent - idle).abs() < 1e-9);
}

#[test]
fn work_of_the_last_minutes_is_weighed_but_not_waited_for() {
    let weights = Weights::default();
    let ahead = Cost::of(&work(), 0, &load(), 1000.0);
    let level = Cost::of(&work(), 0, &load(), 0.0);
    assert!((ahead.seconds() - level.seconds()).abs() < 1e-9);
    assert!(ahead.weighed(&weights) > level.weighed(&weights));
}
