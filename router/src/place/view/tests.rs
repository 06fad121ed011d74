//! The placement of requests by what workers say of themselves.

use super::*;
use inferyard_proto::worker::v1::{Capacity, PrefixChange};

fn ready() -> WorkerState {
    WorkerState {
        boot_id: 7,
        sequence: 1,
        phase: Phase::Ready.into(),
        load_progress: 1.0,
        model: "m".to_owned(),
        capacity: Some(Capacity {
            max_running: 4,
            max_queued: 8,
            kv_total_tokens: 10_000,
            context_length: 4096,
        }),
        prefill_tokens_per_second: 100.0,
        decode_tokens_per_second: 10.0,
        ..WorkerState::default()
    }
}

fn view(change: impl FnOnce(&mut WorkerState)) -> View {
    let mut state = ready();
    change(&mut state);
    let mut view = View::default();
    view.update(state, Instant::now());
    view
}

const WORK: Work<'static> = Work {
    model: "m",
    prompt_bytes: 4000,
    blocks: &[1, 2, 3],
    sequences: 1,
};

fn seconds(view: &View) -> f64 {
    view.expect(&WORK).unwrap().seconds
}

#[test]
fn an_idle_worker_computes_the_prompt() {
    // 1,000 tokens at 100 a second.
    assert!((seconds(&view(|_| ())) - 10.0).abs() < 1e-9);
}

#[test]
fn everything_that_is_ahead_is_waited_for() {
    let queued = view(|state| state.queued_prefill_tokens = 500);
    assert!((seconds(&queued) - 15.0).abs() < 1e-9);
    let running = view(|state| state.running = 2);
    assert!(seconds(&running) > seconds(&view(|_| ())));
    let full = view(|state| state.running = 4);
    assert!(seconds(&full) > seconds(&running) + 1.0);
    let cramped = view(|state| state.kv_used_tokens = 9_500);
    assert!(seconds(&cramped) > seconds(&view(|_| ())) + 1.0);
    let evictable = view(|state| {
        state.kv_used_tokens = 9_500;
        state.kv_cached_tokens = 9_500;
    });
    assert!((seconds(&evictable) - 10.0).abs() < 1e-9);
}

#[test]
fn only_the_unbroken_beginning_of_the_chain_is_covered() {
    let holds = |added: Vec<u64>| {
        view(|state| {
            state.prefixes = Some(PrefixChange {
                reset: true,
                added,
                removed: vec![],
            });
        })
        .expect(&WORK)
        .unwrap()
        .covered_bytes
    };
    assert_eq!(holds(vec![1, 2]), 2048);
    assert_eq!(holds(vec![2, 3]), 0);
    assert_eq!(holds(vec![3, 1]), 1024);
}

#[test]
fn changes_of_prefixes_add_up_until_a_reset_or_another_life() {
    let mut view = view(|_| ());
    let mut change = |reset, added: &[u64], removed: &[u64], boot_id| {
        let mut state = ready();
        state.boot_id = boot_id;
        state.prefixes = Some(PrefixChange {
            reset,
            added: added.to_vec(),
            removed: removed.to_vec(),
        });
        view.update(state, Instant::now());
        view.expect(&WORK).unwrap().covered_bytes
    };
    assert_eq!(change(false, &[1, 2, 3], &[], 7), 3072);
    assert_eq!(change(false, &[], &[2], 7), 1024);
    assert_eq!(change(true, &[1, 2], &[], 7), 2048);
    assert_eq!(change(false, &[3], &[], 8), 0);
}

#[test]
fn a_request_counts_until_a_state_must_have_seen_it_or_it_ends() {
    let mut view = view(|_| ());
    let start = Instant::now();
    let idle = seconds(&view);
    let expected = view.expect(&WORK).unwrap();
    let first = view.sent(&WORK, &expected, start);
    assert!((seconds(&view) - idle - 10.0).abs() < 1.0);
    view.update(ready(), start + Duration::from_millis(10));
    assert!(
        seconds(&view) > idle + 9.0,
        "that state may be older than the request"
    );
    view.ended(first);
    assert!((seconds(&view) - idle).abs() < 1e-9);
    view.sent(&WORK, &expected, start);
    view.update(ready(), start + SEEN_AFTER);
    assert!((seconds(&view) - idle).abs() < 1e-9);
}

#[test]
fn only_a_ready_worker_of_the_model_is_placed_on() {
    let standing = |change: fn(&mut WorkerState)| {
        let view = view(change);
        let standing = view.standing("m");
        assert_eq!(view.expect(&WORK).is_some(), standing == Standing::Ready);
        standing
    };
    assert_eq!(standing(|_| ()), Standing::Ready);
    assert_eq!(
        standing(|state| state.phase = Phase::Draining.into()),
        Standing::Draining
    );
    let loading = standing(|state| {
        state.phase = Phase::Loading.into();
        state.load_progress = 0.5;
    });
    assert_eq!(loading, Standing::Loading { progress: 0.5 });
    let serves = "other".to_owned();
    assert_eq!(
        standing(|state| state.model = "other".into()),
        Standing::OtherModel { serves }
    );
    let mut lost = view(|_| ());
    lost.forget();
    assert_eq!(lost.standing("m"), Standing::Unreachable);
    assert!(lost.expect(&WORK).is_none());
}
