//! A steady load: clients that ask again as soon as they are answered.

use super::*;

const STEP: Moment = Moment::from_millis(10);
/// Thousandths of tokens that a worker produces in a step, shared by the answers that run on it.
const IN_A_STEP: u64 = 10_000;
/// Thousandths of tokens of an answer.
const ANSWER: u64 = 200_000;

struct Answer {
    ticket: Ticket,
    left: u64,
}

/// The answers that run on each of three workers, every 10 ms of virtual time.
fn run(clients: usize, seconds: u64) -> Vec<[usize; 3]> {
    let (mut pool, workers) = pool(vec![state(|_| ()), state(|_| ()), state(|_| ())]);
    let short = Work {
        prompt_tokens: 20,
        ..work(&[])
    };
    let mut answers: Vec<Answer> = Vec::new();
    let (mut worked, mut sequence) = ([0; 3], 1);
    let mut running = Vec::new();
    let mut now = SECOND;
    while now < SECOND + Moment::from_secs(seconds) {
        while answers.len() < clients {
            let choice = pool.choose(&short, &[], now, &mut Vec::new()).unwrap();
            let ticket = pool.send(&short, choice.worker, 0, now);
            pool.begun(ticket);
            answers.push(Answer {
                ticket,
                left: ANSWER,
            });
        }
        let on = |worker: WorkerId, answers: &[Answer]| {
            let here = answers.iter();
            here.filter(|answer| answer.ticket.worker() == worker)
                .count()
        };
        let counts = [0, 1, 2].map(|index| on(workers[index], &answers));
        running.push(counts);
        now += STEP;
        for answer in &mut answers {
            let index = answer.ticket.worker().index;
            let produced = IN_A_STEP / counts[index] as u64;
            answer.left = answer.left.saturating_sub(produced);
            worked[index] += produced;
        }
        for answer in answers.extract_if(.., |answer| answer.left == 0) {
            pool.ended(answer.ticket, Outcome::Succeeded, now);
        }
        sequence += 1;
        for (index, worker) in workers.iter().enumerate() {
            let seen = state(|state| {
                state.sequence = sequence;
                state.running = u32::try_from(on(*worker, &answers)).unwrap();
                state.worked_tokens = worked[index] / 1_000;
                state.prefill_rate = 3_500.0;
                state.decode_rate = 1_300.0;
            });
            pool.state(*worker, seen, now).unwrap();
        }
    }
    running
}

#[test]
fn every_worker_has_its_part_of_the_answers_at_any_time() {
    let running = run(20, 60);
    let most = running.iter().flatten().max();
    let least = running[10..].iter().flatten().min();
    assert_eq!((least, most), (Some(&5), Some(&8)));
}
