//! What is known of a worker from what it says of itself.

use super::*;
use crate::state::Prefixes;

const SECOND: Moment = Moment::from_secs(1);

fn ready(sequence: u64) -> State {
    State {
        boot_id: 7,
        sequence,
        phase: Phase::Ready,
        model: "m".to_owned(),
        ..State::default()
    }
}

fn view(change: impl FnOnce(&mut State)) -> View {
    let mut state = ready(1);
    change(&mut state);
    let mut view = View::default();
    view.update(state, SECOND).unwrap();
    view
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
fn changes_of_prefixes_add_up_until_a_reset_or_another_life() {
    let mut view = view(|_| ());
    let mut sequence = 1;
    let mut change = |reset, added: &[u64], removed: &[u64], boot_id| {
        sequence += 1;
        let mut state = ready(sequence);
        state.boot_id = boot_id;
        state.prefixes = Prefixes {
            reset,
            added: added.to_vec(),
            removed: removed.to_vec(),
        };
        view.update(state, SECOND).unwrap();
        view.covered_blocks(&work(&[1, 2, 3]))
    };
    assert_eq!(change(false, &[1, 2, 3], &[], 7), 3);
    assert_eq!(change(false, &[], &[3], 7), 2);
    assert_eq!(change(true, &[1], &[], 7), 1);
    assert_eq!(change(false, &[2], &[], 8), 0);
}

#[test]
fn a_missing_message_is_told_and_a_reset_makes_good_for_it() {
    let mut view = view(|_| ());
    view.update(ready(2), SECOND).unwrap();
    let gap = view.update(ready(4), SECOND).unwrap_err();
    assert_eq!(gap, Gap { last: 2, got: 4 });
    let mut anew = ready(9);
    anew.prefixes = Prefixes {
        reset: true,
        added: vec![1],
        removed: vec![],
    };
    view.update(anew, SECOND).unwrap();
    assert_eq!(view.covered_blocks(&work(&[1])), 1);
}

#[test]
fn a_request_counts_until_a_state_must_have_seen_it_or_it_ends() {
    let mut view = view(|state| state.queued_prefill_tokens = 10);
    let tokens = |view: &View| (view.load().prefill_tokens, view.load().sequences);
    view.send(1, &work(&[5, 6]), 1, SECOND);
    assert_eq!(tokens(&view), (10 + 750, 2));
    view.update(ready(2), SECOND + SEEN_AFTER / 2).unwrap();
    assert_eq!(tokens(&view), (750, 2), "that state may be older than it");
    view.send(2, &work(&[]), 0, SECOND);
    view.ended(2);
    assert_eq!(tokens(&view), (750, 2));
    view.update(ready(3), SECOND + SEEN_AFTER).unwrap();
    assert_eq!(tokens(&view), (0, 0));
}

#[test]
fn a_prompt_that_is_being_computed_is_as_good_as_held() {
    let mut view = view(|_| ());
    view.send(1, &work(&[5, 6, 7]), 0, SECOND);
    assert_eq!(view.covered_blocks(&work(&[5, 6, 8])), 2);
    view.update(ready(2), SECOND * 2).unwrap();
    assert_eq!(
        view.covered_blocks(&work(&[5, 6, 8])),
        2,
        "it is still being computed"
    );
    view.begun(1);
    assert_eq!(
        view.covered_blocks(&work(&[5])),
        0,
        "now the worker would say so"
    );
    view.send(2, &work(&[5]), 0, SECOND * 2);
    view.ended(2);
    assert_eq!(view.covered_blocks(&work(&[5])), 0);
}

#[test]
fn only_a_ready_worker_of_the_model_is_placed_on() {
    let standing = |change: fn(&mut State)| {
        let view = view(change);
        let standing = view.standing("m");
        assert_eq!(view.serves("m"), standing == Standing::Ready);
        standing
    };
    assert_eq!(standing(|_| ()), Standing::Ready);
    assert_eq!(
        standing(|state| state.phase = Phase::Draining),
        Standing::Draining
    );
    let loading = standing(|state| {
        state.phase = Phase::Loading(0.5);
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
    assert!(!lost.serves("m"));
}

#[test]
fn answers_that_nobody_reads_take_no_place_once_the_worker_is_done() {
    let mut view = view(|state| state.max_running = 4);
    for serial in 0..3 {
        view.send(serial, &work(&[]), 0, SECOND);
    }
    assert_eq!(view.load().busy, 6);
    view.update(ready(2), SECOND + SEEN_AFTER).unwrap();
    assert_eq!(view.load().busy, 0);
}

#[test]
fn an_answer_that_ends_makes_room_before_the_worker_says_so() {
    let mut view = view(|_| ());
    view.send(1, &work(&[]), 0, SECOND);
    view.send(2, &work(&[]), 0, SECOND);
    let mut both = ready(2);
    both.running = 4;
    view.update(both, SECOND * 2).unwrap();
    view.ended(1);
    assert_eq!(view.load().busy, 2);
}
