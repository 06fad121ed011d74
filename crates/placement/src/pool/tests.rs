//! Tests of the choice among several workers.

use super::*;
use crate::state::{Phase, Prefixes};
use inferyard_domain::InstanceId;

mod steady;

const SECOND: Moment = Moment::from_secs(1);

fn state(change: impl FnOnce(&mut State)) -> State {
    let mut state = State {
        instance: InstanceId::new(7),
        sequence: 1,
        phase: Phase::Ready,
        model: "m".to_owned(),
        max_running: 16,
        kv_tokens: 100_000,
        context_length: 4_096,
        prefill_rate: 1_000.0,
        decode_rate: 100.0,
        ..State::default()
    };
    change(&mut state);
    state
}

fn holding(blocks: &[u64]) -> State {
    state(|state| {
        state.prefixes = Prefixes {
            reset: true,
            added: blocks.to_vec(),
            removed: vec![],
        };
    })
}

fn pool(states: Vec<State>) -> (Pool, Vec<WorkerId>) {
    let mut pool = Pool::new("m".into(), Weights::default(), 1);
    let mut workers = Vec::new();
    for (number, state) in states.into_iter().enumerate() {
        let worker = pool.join(format!("worker-{number}").into());
        pool.state(worker, state, SECOND).unwrap();
        workers.push(worker);
    }
    (pool, workers)
}

fn work(blocks: &[u64]) -> Work {
    Work {
        prompt_bytes: 8 * 1024,
        prompt_tokens: 2_000,
        blocks: blocks.into(),
        sequences: 1,
    }
}

fn place(pool: &mut Pool, blocks: &[u64], tried: &[WorkerId]) -> Option<WorkerId> {
    let choice = pool.choose(&work(blocks), tried, SECOND, &mut Vec::new())?;
    let covered = choice.cost.cached_blocks;
    Some(
        pool.send(&work(blocks), choice.worker, covered, SECOND)
            .worker(),
    )
}

#[test]
fn the_worker_that_holds_the_prompt_gets_it_unless_its_queue_is_longer() {
    let prompt: Vec<u64> = (1..=8).collect();
    let (mut pool, workers) = pool(vec![state(|_| ()), holding(&prompt), state(|_| ())]);
    assert_eq!(place(&mut pool, &prompt, &[]), Some(workers[1]));
    let busy = |state: &mut State| {
        state.sequence = 2;
        state.queued_prefill_tokens = 50_000;
    };
    pool.state(workers[1], state(busy), SECOND * 2).unwrap();
    assert_ne!(place(&mut pool, &prompt, &[]), Some(workers[1]));
}

#[test]
fn a_burst_of_equals_spreads_before_anybody_says_so() {
    let (mut pool, workers) = pool(vec![state(|_| ()), state(|_| ()), state(|_| ())]);
    let mut counts = [0; 3];
    for number in 0..30 {
        // The first block is the same for all, the rest is not.
        let chain: Vec<u64> = (0..8)
            .map(|block| if block == 0 { 1 } else { number * 8 + block })
            .collect();
        let worker = place(&mut pool, &chain, &[]).unwrap();
        counts[worker.index] += 1;
    }
    assert_eq!(workers.len(), 3);
    assert!(
        counts.iter().all(|count| (9..=11).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn a_worker_that_has_not_measured_itself_is_found_out_about() {
    let fast = |state: &mut State| state.prefill_rate = 50_000.0;
    let unknown = |state: &mut State| state.prefill_rate = 0.0;
    let (mut pool, workers) = pool(vec![state(fast), state(unknown)]);
    let chosen: Vec<_> = (0..4).map(|_| place(&mut pool, &[], &[])).collect();
    assert!(chosen.contains(&Some(workers[1])), "{chosen:?}");
}

#[test]
fn a_worker_that_was_tried_or_has_left_is_not_chosen() {
    let (mut pool, workers) = pool(vec![state(|_| ()), state(|_| ())]);
    for _ in 0..4 {
        assert_eq!(place(&mut pool, &[], &workers[..1]), Some(workers[1]));
    }
    assert_eq!(place(&mut pool, &[], &workers), None);
    pool.leave(workers[1]);
    for _ in 0..4 {
        assert_eq!(place(&mut pool, &[], &[]), Some(workers[0]));
    }
    pool.lost(workers[0]);
    assert_eq!(place(&mut pool, &[], &[]), None);
    assert_ne!(pool.join("another".into()), workers[1]);
}

#[test]
fn a_ticket_of_a_worker_that_left_means_nothing_to_the_next_one() {
    let (mut pool, workers) = pool(vec![state(|_| ())]);
    let old = pool.send(&work(&[]), workers[0], 0, SECOND);
    pool.leave(workers[0]);
    let worker = pool.join("next".into());
    pool.state(worker, state(|_| ()), SECOND).unwrap();
    let new = pool.send(&work(&[]), worker, 0, SECOND);
    assert_eq!(old.worker().index, new.worker().index);
    pool.ended(old, Outcome::Untold, SECOND);
    assert_eq!(pool.instance(workers[0]), None);
    assert!(pool.state(workers[0], state(|_| ()), SECOND).is_ok());
    let member = pool.members[worker.index].as_ref().unwrap();
    assert_eq!(member.snapshot.load().sequences, 1);
}

#[test]
fn what_was_considered_is_written_down() {
    let (mut pool, workers) = pool(vec![
        state(|state| state.phase = Phase::Draining),
        holding(&[1]),
        state(|_| ()),
    ]);
    let mut candidates = Vec::new();
    let placed = pool
        .choose(&work(&[1, 2]), &workers[2..], SECOND, &mut candidates)
        .unwrap();
    assert_eq!((placed.row, placed.worker), (1, workers[1]));
    assert_eq!(candidates[0].verdict, Verdict::Unready);
    assert_eq!(candidates[1].verdict, Verdict::Able(placed.cost));
    assert_eq!(candidates[2].verdict, Verdict::Tried);
    assert_eq!(&*candidates[1].worker, "worker-1");
    assert_eq!(placed.cost.cached_blocks, 1);
}

#[test]
fn a_backlog_is_worth_a_long_prefix_while_others_have_room() {
    let prompt: Vec<u64> = (1..=8).collect();
    let mut behind = holding(&prompt);
    behind.queued_prefill_tokens = 1_500;
    let (mut pool, workers) = pool(vec![behind, state(|_| ())]);
    let mut candidates = Vec::new();
    let mut choose = |tried: &[WorkerId]| {
        pool.choose(&work(&prompt), tried, SECOND, &mut candidates)
            .unwrap()
    };
    let choice = choose(&[]);
    assert!(choice.room && choice.worker == workers[0]);
    // With no other worker, its backlog is a reason to wait.
    let alone = choose(&workers[1..]);
    assert!(!alone.room && alone.worker == workers[0]);
    assert_eq!(candidates[0].verdict, Verdict::Able(alone.cost));
}

#[test]
fn who_has_room_goes_before_who_would_be_cheaper() {
    let prompt: Vec<u64> = (1..=8).collect();
    let mut full = holding(&prompt);
    full.running = 18;
    let (mut pool, workers) = pool(vec![full, state(|_| ())]);
    let mut candidates = Vec::new();
    let mut choose = |tried: &[WorkerId]| {
        pool.choose(&work(&prompt), tried, SECOND, &mut candidates)
            .unwrap()
    };
    let choice = choose(&[]);
    assert!(choice.room && choice.worker == workers[1]);
    let choice = choose(&workers[1..]);
    assert!(!choice.room && choice.worker == workers[0]);
    assert_eq!(candidates[0].verdict, Verdict::Full(choice.cost));
    assert!(!pool.has_room(workers[0], &work(&prompt)));
    assert!(pool.has_room(workers[1], &work(&prompt)));
    pool.lost(workers[1]);
    assert!(!pool.has_room(workers[1], &work(&prompt)));
}

#[test]
fn what_the_template_adds_is_known_once_every_loaded_worker_tells() {
    let telling = |tokens| state(|state| state.template_tokens = tokens);
    let loading = || state(|state| (state.context_length, state.template_tokens) = (0, 0));
    for (states, expected) in [
        (vec![], None),
        (vec![loading()], None),
        (vec![telling(30), loading()], Some(30)),
        (vec![telling(30), telling(28)], Some(30)),
        (vec![telling(30), telling(0)], None),
        (vec![telling(0), telling(30)], None),
    ] {
        assert_eq!(pool(states).0.template_tokens(), expected);
    }
}

/// Places a request that ends with this outcome.
fn end(pool: &mut Pool, tried: &[WorkerId], now: Moment, outcome: Outcome) -> WorkerId {
    let choice = pool
        .choose(&work(&[]), tried, now, &mut Vec::new())
        .unwrap();
    let ticket = pool.send(&work(&[]), choice.worker, 0, now);
    pool.ended(ticket, outcome, now);
    choice.worker
}

#[test]
fn workers_that_fail_in_a_row_get_a_request_now_and_then() {
    let (mut pool, workers) = pool(vec![state(|_| ()), state(|_| ()), state(|_| ())]);
    let outcome = |worker| {
        if worker == workers[0] {
            Outcome::Succeeded
        } else {
            Outcome::Failed
        }
    };
    let mut failed = [0; 3];
    let mut failed_twice = 0;
    // Two minutes with a request every 100 ms, retried on one other worker if it fails.
    for number in 0..1_200 {
        let now = SECOND + Moment::from_millis(100) * number;
        let mut tried = Vec::new();
        for _ in 0..2 {
            let choice = pool
                .choose(&work(&[]), &tried, now, &mut Vec::new())
                .unwrap();
            let ticket = pool.send(&work(&[]), choice.worker, 0, now);
            pool.ended(ticket, outcome(choice.worker), now);
            if outcome(choice.worker) == Outcome::Succeeded {
                break;
            }
            failed[choice.worker.index] += 1;
            failed_twice += tried.len();
            tried.push(choice.worker);
        }
    }
    // Three failures before each is ejected, and probes at latest 2, 6, 14, 30, 62 and 122 s later.
    assert_eq!(failed[0], 0);
    assert!(
        failed[1..].iter().all(|count| (7..=9).contains(count)),
        "{failed:?}"
    );
    assert!(failed_twice <= 3, "{failed_twice}");
}

#[test]
fn where_all_fail_all_are_tried() {
    let (mut pool, workers) = pool(vec![state(|_| ()), state(|_| ())]);
    let mut asked = [0; 2];
    for _ in 0..100 {
        let worker = end(&mut pool, &[], SECOND, Outcome::Failed);
        asked[worker.index] += 1;
    }
    assert!(asked.iter().all(|count| *count > 10), "{asked:?}");
    assert_eq!(pool.endpoint_state(workers[0]), EndpointState::Ejected);
    // A worker that completes an answer is trusted again; the other is not.
    let good = end(&mut pool, &[], SECOND, Outcome::Succeeded);
    for _ in 0..10 {
        assert_eq!(end(&mut pool, &[], SECOND, Outcome::Succeeded), good);
    }
    assert_ne!(end(&mut pool, &[good], SECOND, Outcome::Untold), good);
}

#[test]
fn a_worker_that_says_it_is_unhealthy_is_the_last_to_be_asked() {
    let unhealthy = |state: &mut State| state.phase = Phase::Unhealthy;
    let (mut pool, workers) = pool(vec![state(|_| ()), state(unhealthy)]);
    assert_eq!(pool.endpoint_state(workers[1]), EndpointState::Unhealthy);
    let mut candidates = Vec::new();
    for _ in 0..10 {
        let choice = pool
            .choose(&work(&[]), &[], SECOND, &mut candidates)
            .unwrap();
        assert_eq!(choice.worker, workers[0]);
        assert_eq!(candidates[1].verdict, Verdict::Ejected);
    }
    assert_eq!(place(&mut pool, &[], &workers[..1]), Some(workers[1]));
    // The worker is ready again, and its earlier failures are forgotten.
    for _ in 0..3 {
        end(&mut pool, &workers[..1], SECOND, Outcome::Failed);
    }
    pool.state(workers[1], state(|state| state.sequence = 2), SECOND)
        .unwrap();
    assert_eq!(pool.endpoint_state(workers[1]), EndpointState::Ready);
}

/// Two workers that answered requests for a minute, and one that did not.
fn one_that_did_nothing_for_a_minute(third: State) -> (Pool, Vec<WorkerId>) {
    let (mut pool, mut workers) = pool(vec![state(|_| ()), state(|_| ())]);
    for worker in &workers {
        let worked = |state: &mut State| {
            state.sequence = 2;
            state.worked_tokens = 200_000;
        };
        pool.state(*worker, state(worked), SECOND * 60).unwrap();
    }
    let worker = pool.join("third".into());
    pool.state(worker, third, SECOND * 60).unwrap();
    workers.push(worker);
    (pool, workers)
}

/// How many of thirty requests with short prompts each worker gets.
fn thirty(pool: &mut Pool) -> [usize; 3] {
    let short = Work {
        prompt_tokens: 2,
        ..work(&[])
    };
    let mut counts = [0; 3];
    for _ in 0..30 {
        let choice = pool.choose(&short, &[], SECOND * 61, &mut Vec::new());
        let ticket = pool.send(&short, choice.unwrap().worker, 0, SECOND * 61);
        counts[ticket.worker().index] += 1;
    }
    counts
}

#[test]
fn a_worker_that_joins_does_not_get_every_request() {
    let (mut pool, _) = one_that_did_nothing_for_a_minute(state(|_| ()));
    assert_eq!(thirty(&mut pool), [10, 10, 10]);
}

#[test]
fn nor_does_one_that_was_away_or_loaded_its_model() {
    let loading = state(|state| state.phase = Phase::Loading(0.5));
    let (mut pool, workers) = one_that_did_nothing_for_a_minute(loading);
    let ready = |state: &mut State| state.sequence = 2;
    pool.state(workers[2], state(ready), SECOND * 61).unwrap();
    assert_eq!(thirty(&mut pool), [10, 10, 10]);

    let (mut pool, workers) = one_that_did_nothing_for_a_minute(state(|_| ()));
    pool.lost(workers[0]);
    let worked = |state: &mut State| {
        state.sequence = 3;
        state.worked_tokens = 400_000;
    };
    pool.state(workers[1], state(worked), SECOND * 61).unwrap();
    let worked = |state: &mut State| {
        state.sequence = 2;
        state.worked_tokens = 200_000;
    };
    pool.state(workers[2], state(worked), SECOND * 61).unwrap();
    pool.state(workers[0], state(|_| ()), SECOND * 61).unwrap();
    assert_eq!(thirty(&mut pool), [10, 10, 10]);
}

#[test]
fn nor_does_one_that_was_ejected() {
    let (mut pool, workers) = pool(vec![state(|_| ()), state(|_| ()), state(|_| ())]);
    let mut tried = Vec::new();
    while pool.endpoint_state(workers[2]) != EndpointState::Ejected {
        let others = &workers[..2];
        tried.push(end(&mut pool, others, SECOND, Outcome::Failed));
    }
    assert!(tried.iter().all(|worker| *worker == workers[2]));
    for worker in &workers[..2] {
        let worked = |state: &mut State| {
            state.sequence = 2;
            state.worked_tokens = 200_000;
        };
        pool.state(*worker, state(worked), SECOND * 60).unwrap();
    }
    // The probe.
    let proved = end(&mut pool, &[], SECOND * 60, Outcome::Succeeded);
    assert_eq!(proved, workers[2]);
    assert_eq!(thirty(&mut pool), [10, 10, 10]);
}
