//! What steps cost, whom they serve, and what they leave in the cache.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// 1,000 tokens a second, 10 ms for an answer and 1 ms for each further one, 100 tokens a step.
fn gpu(kv_tokens: u64, max_running: usize) -> Gpu {
    let settings = Settings {
        prefill_tokens_per_second: 1_000.0,
        step: Duration::from_millis(10),
        step_per_sequence: Duration::from_millis(1),
        kv_tokens,
        max_running,
        batch_tokens: 100,
    };
    Gpu::new(settings).unwrap()
}

fn job(id: u64, prompt_tokens: u32, answer_tokens: u32) -> Job {
    Job {
        id,
        priority: 0,
        blocks: Vec::new(),
        prompt_tokens,
        answer_tokens,
    }
}

fn with_blocks(hashes: &[u64], mut job: Job) -> Job {
    let block = |hash: &u64| Block {
        hash: *hash,
        tokens: 20,
    };
    job.blocks = hashes.iter().map(block).collect();
    job
}

/// One step: its milliseconds and what it brought.
fn step(gpu: &mut Gpu) -> (u128, Report) {
    let time = gpu.begin_step().expect("there should be work");
    let mut report = Report::default();
    gpu.end_step(&mut report);
    (time.as_millis(), report)
}

/// Steps until nothing is left to do: the milliseconds and who finished, in order.
fn run(gpu: &mut Gpu) -> (u128, Vec<u64>) {
    let mut report = Report::default();
    let mut total = Duration::ZERO;
    let mut finished = Vec::new();
    while let Some(time) = gpu.begin_step() {
        total += time;
        gpu.end_step(&mut report);
        finished.append(&mut report.finished);
    }
    (total.as_millis(), finished)
}

#[test]
fn a_prompt_is_computed_in_chunks_and_ends_with_the_first_token() {
    let mut gpu = gpu(1_000, 8);
    gpu.submit(job(1, 250, 3)).unwrap();
    assert_eq!((gpu.queued(), gpu.queued_prefill_tokens()), (1, 250));
    let (time, report) = step(&mut gpu);
    assert_eq!((time, report.admitted), (100, vec![(1, 0)]));
    assert!(report.produced.is_empty());
    assert_eq!((gpu.running(), gpu.queued_prefill_tokens()), (1, 150));
    assert_eq!(step(&mut gpu).0, 100);
    let (time, report) = step(&mut gpu);
    assert_eq!((time, report.produced), (50, vec![1]));
    assert_eq!(step(&mut gpu).0, 10);
    let (time, report) = step(&mut gpu);
    assert_eq!((time, report.finished), (10, vec![1]));
    assert_eq!(gpu.begin_step(), None);
    assert_eq!((gpu.running(), gpu.kv_used()), (0, 0));
}

#[test]
fn answers_share_a_step_and_prefill_makes_it_longer() {
    let mut gpu = gpu(10_000, 8);
    for id in 1..=4 {
        gpu.submit(job(id, 10, 9)).unwrap();
    }
    let (time, report) = step(&mut gpu);
    assert_eq!((time, report.produced), (40, vec![1, 2, 3, 4]));
    assert_eq!(step(&mut gpu).0, 13);
    gpu.submit(job(5, 300, 1)).unwrap();
    let (time, report) = step(&mut gpu);
    assert_eq!((time, report.produced), (113, vec![1, 2, 3, 4]));
}

#[test]
fn the_more_urgent_goes_first_even_before_prompts_that_have_begun() {
    let mut gpu = gpu(10_000, 8);
    gpu.submit(job(1, 200, 1)).unwrap();
    step(&mut gpu);
    for (id, priority) in [(2, 0), (3, 5), (4, 5)] {
        let urgent = job(id, 100, 1);
        gpu.submit(Job { priority, ..urgent }).unwrap();
    }
    assert_eq!(run(&mut gpu), (400, vec![3, 4, 1, 2]));
}

#[test]
fn no_more_run_than_there_are_places() {
    let mut gpu = gpu(10_000, 2);
    for id in 1..=3 {
        gpu.submit(job(id, 10, 2)).unwrap();
    }
    let (time, report) = step(&mut gpu);
    assert_eq!((time, report.produced), (20, vec![1, 2]));
    assert_eq!((gpu.running(), gpu.queued()), (2, 1));
    assert_eq!(step(&mut gpu).1.finished, [1, 2]);
    let (time, report) = step(&mut gpu);
    assert_eq!((time, report.admitted), (10, vec![(3, 0)]));
}

#[test]
fn only_what_the_next_step_would_begin_with_is_wanted() {
    let mut gpu = gpu(1_000, 3);
    assert!(gpu.wants(&job(1, 900, 100)));
    assert!(!gpu.wants(&job(1, 900, 101)), "it has no room");
    gpu.submit(job(1, 60, 10)).unwrap();
    assert!(gpu.wants(&job(2, 900, 30)), "60 of 100 tokens are taken");
    assert!(!gpu.wants(&job(2, 900, 31)), "room is promised");
    gpu.submit(job(2, 60, 10)).unwrap();
    let next = job(3, 10, 1);
    assert!(!gpu.wants(&next), "the step is full");
    let urgent = Job {
        priority: 1,
        ..next.clone()
    };
    assert!(gpu.wants(&urgent));
    step(&mut gpu);
    assert!(gpu.wants(&next), "20 tokens are left of the second");
    gpu.submit(next).unwrap();
    assert!(!gpu.wants(&urgent), "all places are taken");
}

#[test]
fn who_has_no_room_waits_and_nobody_passes() {
    let mut gpu = gpu(100, 8);
    gpu.submit(job(1, 50, 3)).unwrap();
    gpu.submit(job(2, 50, 1)).unwrap();
    gpu.submit(job(3, 1, 1)).unwrap();
    assert_eq!(step(&mut gpu).1.admitted, [(1, 0)]);
    assert_eq!(gpu.kv_used(), 53);
    assert_eq!(run(&mut gpu).1, [1, 2, 3]);
    let larger = gpu.submit(job(4, 100, 1)).unwrap_err();
    assert_eq!((larger.tokens, larger.kv_tokens), (101, 100));
    gpu.submit(job(5, 99, 1)).unwrap();
    assert_eq!(run(&mut gpu).1, [5]);
}

#[test]
fn a_prefix_that_is_held_is_not_computed_again() {
    let mut gpu = gpu(1_000, 8);
    gpu.submit(with_blocks(&[1, 2], job(1, 50, 1))).unwrap();
    let (time, report) = step(&mut gpu);
    assert_eq!((time, report.added), (50, vec![1, 2]));
    assert_eq!((gpu.kv_used(), gpu.kv_cached()), (40, 40));
    gpu.submit(with_blocks(&[1, 2, 3], job(2, 70, 1))).unwrap();
    let (time, report) = step(&mut gpu);
    assert_eq!((time, report.admitted), (30, vec![(2, 40)]));
    assert_eq!(report.added, [3]);
}

#[test]
fn of_a_prompt_that_is_held_to_its_end_one_token_is_computed() {
    let mut gpu = gpu(1_000, 8);
    for id in 1..=2 {
        gpu.submit(with_blocks(&[1, 2], job(id, 40, 1))).unwrap();
        let (time, report) = step(&mut gpu);
        let expected = if id == 1 { (40, 0) } else { (1, 39) };
        assert_eq!((time, report.admitted[0].1), expected);
        assert_eq!(report.finished, [id]);
    }
    assert_eq!((gpu.kv_used(), gpu.kv_cached()), (40, 40));
}

#[test]
fn blocks_go_when_others_need_the_room() {
    let mut gpu = gpu(100, 8);
    gpu.submit(with_blocks(&[1, 2], job(1, 40, 1))).unwrap();
    run(&mut gpu);
    gpu.submit(job(2, 70, 1)).unwrap();
    let (_, report) = step(&mut gpu);
    assert_eq!(report.removed, [2]);
    assert_eq!((gpu.kv_used(), gpu.kv_cached()), (20, 20));
}

#[test]
fn a_block_is_held_once_the_prompt_is_computed_to_its_end() {
    let mut gpu = gpu(1_000, 8);
    let hashes: Vec<u64> = (0..8).collect();
    gpu.submit(with_blocks(&hashes, job(1, 165, 1))).unwrap();
    assert_eq!(step(&mut gpu).1.added, [0, 1, 2, 3, 4]);
    // Whoever begins now finds what is computed.
    gpu.submit(with_blocks(&hashes, job(2, 165, 1))).unwrap();
    let (_, report) = step(&mut gpu);
    assert_eq!(report.admitted, [(2, 100)]);
    assert_eq!(report.added, [5, 6, 7]);
    run(&mut gpu);
    assert_eq!((gpu.kv_used(), gpu.kv_cached()), (160, 160));
}

#[test]
fn blocks_beyond_the_end_of_the_prompt_are_ignored() {
    let mut gpu = gpu(1_000, 8);
    gpu.submit(with_blocks(&[1, 2], job(1, 39, 1))).unwrap();
    assert_eq!(step(&mut gpu).1.added, [1]);
}

#[test]
fn who_is_cancelled_frees_its_room_and_keeps_what_is_computed_of_its_prompt() {
    let mut gpu = gpu(1_000, 8);
    gpu.submit(with_blocks(&[1, 2, 3, 4, 5, 6], job(1, 120, 50)))
        .unwrap();
    gpu.submit(job(2, 10, 1)).unwrap();
    assert_eq!(step(&mut gpu).1.added, [1, 2, 3, 4, 5]);
    assert!(gpu.begin_step().is_some());
    assert!(gpu.cancel(1), "it runs");
    assert!(!gpu.cancel(1));
    let mut report = Report::default();
    gpu.end_step(&mut report);
    assert_eq!((report.produced, report.finished), (vec![2], vec![2]));
    assert_eq!((gpu.kv_used(), gpu.kv_cached()), (100, 100));
    gpu.submit(job(3, 10, 1)).unwrap();
    assert!(gpu.cancel(3), "it waits");
    assert_eq!((gpu.begin_step(), gpu.queued_prefill_tokens()), (None, 0));
}

#[test]
fn a_paused_answer_costs_nothing_and_goes_on() {
    let mut gpu = gpu(1_000, 8);
    gpu.submit(job(1, 10, 3)).unwrap();
    step(&mut gpu);
    assert!(gpu.pause(1, true));
    assert_eq!((gpu.begin_step(), gpu.running()), (None, 1));
    assert!(gpu.pause(1, false));
    assert_eq!(run(&mut gpu), (20, vec![1]));
    assert!(!gpu.pause(1, true));
}

#[test]
fn without_an_answer_the_prompt_is_all() {
    let mut gpu = gpu(1_000, 8);
    gpu.submit(job(1, 0, 0)).unwrap();
    let (time, report) = step(&mut gpu);
    assert_eq!((time, report.finished), (1, vec![1]));
    assert!(report.produced.is_empty());
}

#[test]
fn the_default_computes_two_thousand_tokens_in_a_tenth_of_a_second() {
    let mut gpu = Gpu::new(Settings::default()).unwrap();
    gpu.submit(job(1, 2_000, 101)).unwrap();
    assert_eq!(run(&mut gpu), (900, vec![1]));
}

#[test]
fn what_is_instant_takes_no_time() {
    let settings = Settings::instant();
    assert!(settings.is_instant() && !Settings::default().is_instant());
    let mut gpu = Gpu::new(settings).unwrap();
    gpu.submit(job(1, 5_000, 100)).unwrap();
    assert_eq!(run(&mut gpu), (0, vec![1]));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let check = |settings: Settings, expected| {
        assert_eq!(Gpu::new(settings).err(), Some(expected));
    };
    let good = Settings::default();
    for rate in [0.0, -1.0, f64::NAN] {
        let prefill_tokens_per_second = rate;
        check(
            Settings {
                prefill_tokens_per_second,
                ..good
            },
            SettingsError::PrefillRate,
        );
    }
    let (kv_tokens, max_running, batch_tokens) = (0, 0, 0);
    check(Settings { kv_tokens, ..good }, SettingsError::KvTokens);
    check(
        Settings {
            max_running,
            ..good
        },
        SettingsError::MaxRunning,
    );
    check(
        Settings {
            batch_tokens,
            ..good
        },
        SettingsError::BatchTokens,
    );
    let step = Duration::MAX;
    check(Settings { step, ..good }, SettingsError::Slow);
    let prefill_tokens_per_second = f64::MIN_POSITIVE;
    check(
        Settings {
            prefill_tokens_per_second,
            ..good
        },
        SettingsError::Slow,
    );
}

/// What happens to a GPU: a job comes (of one of a few families of prompts), a running one is
/// cancelled, or time passes.
#[derive(Clone, Debug)]
enum Act {
    Submit {
        family: u64,
        blocks: u64,
        rest: u32,
        answer: u32,
        priority: i32,
    },
    Cancel(u64),
    Step,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let submit = (0..3_u64, 0..8_u64, 0..30_u32, 0..9_u32, -1..2_i32);
    let submit = submit.prop_map(|(family, blocks, rest, answer, priority)| Act::Submit {
        family,
        blocks,
        rest,
        answer,
        priority,
    });
    let act =
        prop_oneof![3 => submit, 1 => (0..40_u64).prop_map(Act::Cancel), 4 => Just(Act::Step)];
    proptest::collection::vec(act, 1..80)
}

/// Takes a step, and checks that the cache and what is told of it agree.
fn watched_step(gpu: &mut Gpu, held: &mut HashSet<u64>, open: &mut HashSet<u64>) -> bool {
    if gpu.begin_step().is_none() {
        return false;
    }
    let mut report = Report::default();
    gpu.end_step(&mut report);
    for block in &report.removed {
        assert!(held.remove(block), "only what is held can go");
    }
    for block in &report.added {
        assert!(held.insert(*block), "nothing comes twice");
    }
    for finished in &report.finished {
        assert!(open.remove(finished));
    }
    assert!(gpu.kv_used() <= gpu.settings().kv_tokens);
    assert!(gpu.kv_cached() <= gpu.kv_used());
    assert!(gpu.kv_used() >= 20 * held.len() as u64);
    true
}

proptest! {
    #[test]
    fn whatever_happens_every_job_ends_and_the_cache_is_what_was_told(acts in acts()) {
        let mut gpu = gpu(300, 3);
        let (mut held, mut open) = (HashSet::new(), HashSet::new());
        for (id, act) in (0..).zip(acts) {
            match act {
                Act::Submit { family, blocks, rest, answer, priority } => {
                    // Two prompts of a family share their first blocks, and part ways after four.
                    let chain: Vec<u64> = (0..blocks)
                        .map(|at| if at < 4 { 100 * family + at } else { 1_000 * (id + 1) + at })
                        .collect();
                    let tokens = 20 * u32::try_from(blocks).unwrap() + rest;
                    let job = with_blocks(&chain, job(id, tokens, answer));
                    gpu.submit(Job { priority, ..job }).unwrap();
                    open.insert(id);
                }
                Act::Cancel(id) => prop_assert_eq!(gpu.cancel(id), open.remove(&id)),
                Act::Step => {
                    watched_step(&mut gpu, &mut held, &mut open);
                }
            }
        }
        while watched_step(&mut gpu, &mut held, &mut open) {}
        prop_assert!(open.is_empty());
        prop_assert_eq!((gpu.running(), gpu.queued(), gpu.queued_prefill_tokens()), (0, 0, 0));
        prop_assert_eq!(gpu.kv_used(), gpu.kv_cached());
        prop_assert_eq!(gpu.kv_used(), 20 * held.len() as u64);
    }
}
