//! Tests of what is known of a worker from its states.

use super::*;
use crate::state::Prefixes;
use inferyard_domain::InstanceId;

const SECOND: Moment = Moment::from_secs(1);

fn ready(sequence: u64) -> State {
    State {
        instance: InstanceId::new(7),
        sequence,
        phase: Phase::Ready,
        model: "m".to_owned(),
        ..State::default()
    }
}

fn snapshot(change: impl FnOnce(&mut State)) -> WorkerSnapshot {
    let mut state = ready(1);
    change(&mut state);
    let mut snapshot = WorkerSnapshot::default();
    snapshot.update(state, SECOND).unwrap();
    snapshot
}

fn work(blocks: &[u64]) -> Work {
    Work {
        prompt_bytes: 4096,
        prompt_tokens: 1000,
        blocks: blocks.into(),
        sequences: 2,
    }
}

#[test]
fn changes_of_prefixes_add_up_until_a_reset_or_another_instance() {
    let mut snapshot = snapshot(|_| ());
    let mut sequence = 1;
    let mut change = |reset, added: &[u64], removed: &[u64], instance| {
        sequence += 1;
        let mut state = ready(sequence);
        state.instance = InstanceId::new(instance);
        state.prefixes = Prefixes {
            reset,
            added: added.to_vec(),
            removed: removed.to_vec(),
        };
        snapshot.update(state, SECOND).unwrap();
        snapshot.cached_blocks(&work(&[1, 2, 3]))
    };
    assert_eq!(change(false, &[1, 2, 3], &[], 7), 3);
    assert_eq!(change(false, &[], &[3], 7), 2);
    assert_eq!(change(true, &[1], &[], 7), 1);
    assert_eq!(change(false, &[2], &[], 8), 0);
}

#[test]
fn a_missing_message_is_told_and_a_reset_makes_good_for_it() {
    let mut snapshot = snapshot(|_| ());
    snapshot.update(ready(2), SECOND).unwrap();
    let gap = snapshot.update(ready(4), SECOND).unwrap_err();
    assert_eq!(gap, Gap { last: 2, got: 4 });
    let mut anew = ready(9);
    anew.prefixes = Prefixes {
        reset: true,
        added: vec![1],
        removed: vec![],
    };
    snapshot.update(anew, SECOND).unwrap();
    assert_eq!(snapshot.cached_blocks(&work(&[1])), 1);
}

#[test]
fn a_request_counts_until_a_state_must_have_seen_it_or_it_ends() {
    let mut snapshot = snapshot(|state| state.queued_prefill_tokens = 10);
    let tokens =
        |snapshot: &WorkerSnapshot| (snapshot.load().prefill_tokens, snapshot.load().sequences);
    snapshot.send(1, &work(&[5, 6]), 1, SECOND);
    assert_eq!(tokens(&snapshot), (10 + 750, 2));
    snapshot.update(ready(2), SECOND + SEEN_AFTER / 2).unwrap();
    assert_eq!(
        tokens(&snapshot),
        (750, 2),
        "that state may be older than it"
    );
    snapshot.send(2, &work(&[]), 0, SECOND);
    snapshot.ended(2);
    assert_eq!(tokens(&snapshot), (750, 2));
    snapshot.update(ready(3), SECOND + SEEN_AFTER).unwrap();
    assert_eq!(tokens(&snapshot), (0, 0));
}

#[test]
fn a_prompt_that_is_being_computed_is_as_good_as_held() {
    let mut snapshot = snapshot(|_| ());
    snapshot.send(1, &work(&[5, 6, 7]), 0, SECOND);
    assert_eq!(snapshot.cached_blocks(&work(&[5, 6, 8])), 2);
    snapshot.update(ready(2), SECOND * 2).unwrap();
    assert_eq!(
        snapshot.cached_blocks(&work(&[5, 6, 8])),
        2,
        "it is still being computed"
    );
    snapshot.begun(1);
    assert_eq!(
        snapshot.cached_blocks(&work(&[5])),
        0,
        "now the worker would say so"
    );
    snapshot.send(2, &work(&[5]), 0, SECOND * 2);
    snapshot.ended(2);
    assert_eq!(snapshot.cached_blocks(&work(&[5])), 0);
}

#[test]
fn only_a_ready_worker_of_the_model_is_placed_on() {
    let endpoint_state = |change: fn(&mut State)| {
        let snapshot = snapshot(change);
        let endpoint_state = snapshot.endpoint_state("m");
        assert_eq!(snapshot.serves("m"), endpoint_state == EndpointState::Ready);
        endpoint_state
    };
    assert_eq!(endpoint_state(|_| ()), EndpointState::Ready);
    assert_eq!(
        endpoint_state(|state| state.phase = Phase::Draining),
        EndpointState::Draining
    );
    let loading = endpoint_state(|state| {
        state.phase = Phase::Loading(0.5);
    });
    assert_eq!(loading, EndpointState::Loading { progress: 0.5 });
    let serves = "other".to_owned();
    assert_eq!(
        endpoint_state(|state| state.model = "other".into()),
        EndpointState::OtherModel { serves }
    );
    let mut lost = snapshot(|_| ());
    lost.forget();
    assert_eq!(lost.endpoint_state("m"), EndpointState::Unreachable);
    assert!(!lost.serves("m"));
}

#[test]
fn answers_that_nobody_reads_take_no_place_once_the_worker_is_done() {
    let mut snapshot = snapshot(|state| state.max_running = 4);
    for serial in 0..3 {
        snapshot.send(serial, &work(&[]), 0, SECOND);
    }
    assert_eq!(snapshot.load().busy, 6);
    snapshot.update(ready(2), SECOND + SEEN_AFTER).unwrap();
    assert_eq!(snapshot.load().busy, 0);
}

#[test]
fn an_answer_that_ends_makes_room_before_the_worker_says_so() {
    let mut snapshot = snapshot(|_| ());
    snapshot.send(1, &work(&[]), 0, SECOND);
    snapshot.send(2, &work(&[]), 0, SECOND);
    let mut both = ready(2);
    both.running = 4;
    snapshot.update(both, SECOND * 2).unwrap();
    snapshot.ended(1);
    assert_eq!(snapshot.load().busy, 2);
}
