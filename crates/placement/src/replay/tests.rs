//! A recording gives the same decisions again.

use super::*;
use crate::recording::Blinding;
use crate::{Outcome, Phase, Prefixes, Queue, QueuePolicy, Selection, Waiter, Work};
use inferyard_domain::InstanceId;

const WORKERS: u64 = 3;

/// A pool that records its events.
struct Recorded {
    pool: Pool,
    ids: Vec<WorkerId>,
    entries: Vec<Entry>,
    blinding: Blinding,
    now: Moment,
    sequence: Vec<u64>,
    open: Vec<Ticket>,
}

impl Recorded {
    fn new(blinding: Blinding) -> Self {
        let mut recorded = Self {
            pool: Pool::new("m".into(), Weights::default(), 7),
            ids: Vec::new(),
            entries: Vec::new(),
            blinding,
            now: Moment::ZERO,
            sequence: vec![0; 3],
            open: Vec::new(),
        };
        for number in 0..WORKERS {
            let name = format!("worker-{number}");
            let id = recorded.pool.join(name.as_str().into());
            recorded.ids.push(id);
            let worker = id.number();
            recorded.write(Event::Joined { worker, name });
        }
        recorded
    }

    fn write(&mut self, event: Event) {
        let entry = Entry::new(self.now, "m", event);
        let json = serde_json::to_string(&entry).unwrap();
        self.entries.push(serde_json::from_str(&json).unwrap());
    }

    fn state(&mut self, worker: usize, added: Vec<u64>, queued_prefill_tokens: u64) {
        self.sequence[worker] += 1;
        let state = State {
            instance: InstanceId::new(1),
            sequence: self.sequence[worker],
            phase: Phase::Ready,
            model: "m".to_owned(),
            max_running: 8,
            queued_prefill_tokens,
            prefill_rate: 1_000.1,
            prefixes: Prefixes {
                reset: self.sequence[worker] == 1,
                added,
                removed: vec![],
            },
            ..State::default()
        };
        let worker = self.ids[worker];
        let hidden = self.blinding.hide_state(&state);
        self.pool.state(worker, state, self.now).unwrap();
        let worker = worker.number();
        self.write(Event::State {
            worker,
            state: hidden,
        });
    }

    fn place(&mut self, work: &Work) {
        let choice = self.choose(work);
        self.give(work, &[], choice);
    }

    fn choose(&mut self, work: &Work) -> Selection {
        let choice = self.pool.choose(work, &[], self.now, &mut Vec::new());
        choice.unwrap()
    }

    /// Places a request as a router does: it joins the queue if no worker has room or others wait.
    fn place_or_wait(&mut self, queue: &mut Queue, work: &Work) {
        let choice = self.choose(work);
        if choice.room && queue.is_empty() {
            return self.give(work, &[], choice);
        }
        let policy = QueuePolicy {
            account: "account".into(),
            plan: "plan".into(),
            priority: 0,
            weight: 1,
            most_waiting: 1_000,
        };
        let waiter = Waiter {
            policy: policy.into(),
            work: work.clone(),
            tried: vec![],
        };
        let id = queue.join(waiter, None, self.now).unwrap().id;
        let (pool, now) = (&mut self.pool, self.now);
        if let Some(dequeued) = queue.dequeue_new(id, pool, now, &mut Vec::new()) {
            self.give(&dequeued.waiter.work, &dequeued.barred, dequeued.choice);
        }
    }

    /// Ends a request, and dequeues requests that fit now.
    fn end(&mut self, queue: &mut Queue) {
        let ticket = self.open.remove(0);
        let outcome = Outcome::Succeeded;
        self.pool.ended(ticket, outcome, self.now);
        let serial = ticket.serial();
        self.write(Event::Ended { serial, outcome });
        let news = ticket.worker();
        while let Some(dequeued) = queue.dequeue(&mut self.pool, news, self.now, &mut Vec::new()) {
            self.give(&dequeued.waiter.work, &dequeued.barred, dequeued.choice);
        }
    }

    fn give(&mut self, work: &Work, barred: &[WorkerId], choice: Selection) {
        let covered = choice.cost.cached_blocks;
        let ticket = self.pool.send(work, choice.worker, covered, self.now);
        self.open.push(ticket);
        self.write(Event::Placed {
            request: format!("req_{}", ticket.serial()),
            work: RecordedWork::of(work, self.blinding),
            tried: barred.iter().map(|worker| worker.number()).collect(),
            worker: choice.worker.number(),
            serial: ticket.serial(),
        });
    }
}

/// Sample traffic: prompts with shared beginnings, and occasional states.
fn recording() -> Vec<Entry> {
    let mut recorded = Recorded::new(Blinding::new(0x1234_5678_9ABC_DEF0));
    for worker in 0..3 {
        recorded.state(worker, vec![], 0);
    }
    for round in 0..200_u64 {
        recorded.now += Moment::from_millis(3 + round % 5);
        let chain: Vec<u64> = (0..round % 9).map(|block| block * 31 + round % 4).collect();
        let work = Work {
            prompt_bytes: 1024 * (round % 9) + 300,
            prompt_tokens: 256 * (round % 9) + 75,
            blocks: chain.as_slice().into(),
            sequences: 1,
        };
        recorded.place(&work);
        if round % 3 == 0 {
            let worker = usize::try_from(round % WORKERS).unwrap();
            recorded.state(worker, chain, round * 7 % 500);
        }
        if round % 4 == 0 {
            let ticket = recorded.open.remove(0);
            recorded.pool.begun(ticket);
            let serial = ticket.serial();
            recorded.write(Event::Begun { serial });
            // Some fail, so that workers are ejected and probed.
            let outcome = match serial % 7 {
                0..4 => Outcome::Failed,
                4 => Outcome::Died(InstanceId::new(1)),
                5 => Outcome::Untold,
                _ => Outcome::Succeeded,
            };
            let now = recorded.now;
            recorded.pool.ended(ticket, outcome, now);
            recorded.write(Event::Ended { serial, outcome });
        }
    }
    recorded.entries
}

fn replay(entries: &[Entry], weights: Weights) -> Report {
    let mut replay = Replay::new(weights, 7);
    for entry in entries {
        replay.take(entry.clone()).unwrap();
    }
    replay.report()
}

#[test]
fn the_same_weights_decide_the_same() {
    let report = replay(&recording(), Weights::default());
    assert_eq!(report.decisions, 200);
    assert_eq!(report.differing, []);
    assert!((report.seconds.0 - report.seconds.1).abs() < 1e-9);
    assert!(report.cached_blocks.0 > 0);
}

#[test]
fn what_waited_is_decided_the_same() {
    let mut recorded = Recorded::new(Blinding::new(3));
    let mut queue = Queue::default();
    for worker in 0..3 {
        recorded.state(worker, vec![], 0);
    }
    let mut waited = 0;
    for round in 0..300_u64 {
        recorded.now += Moment::from_millis(7);
        let work = Work {
            prompt_bytes: 300,
            prompt_tokens: 75,
            blocks: [].into(),
            sequences: 1,
        };
        recorded.place_or_wait(&mut queue, &work);
        waited += usize::from(!queue.is_empty());
        // Periods of high load alternate with periods without requests.
        if round % 100 >= 40 {
            recorded.end(&mut queue);
        }
        if round % 100 >= 80 && !recorded.open.is_empty() {
            recorded.end(&mut queue);
        }
    }
    assert!(waited > 20, "{waited}");
    let report = replay(&recorded.entries, Weights::default());
    assert!(report.decisions > 250);
    assert_eq!(report.differing, []);
}

#[test]
fn other_weights_decide_otherwise_and_the_price_is_told() {
    let weights = Weights {
        prompt: 0.0,
        ..Weights::default()
    };
    let report = replay(&recording(), weights);
    assert_eq!(report.decisions, 200);
    assert!(!report.differing.is_empty());
    assert!(report.cached_blocks.1 < report.cached_blocks.0);
}

#[test]
fn a_recording_that_is_not_whole_is_refused() {
    let mut entries = recording();
    let first = entries.remove(0);
    let mut replay = Replay::new(Weights::default(), 7);
    let errors: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| replay.take(entry).err())
        .collect();
    let Event::Joined { worker, .. } = first.event else {
        panic!("{first:?}");
    };
    assert_eq!(errors[0], ReplayError::UnknownWorker(worker));
}

#[test]
fn blinding_keeps_equal_blocks_equal_and_others_apart() {
    let (one, other) = (Blinding::new(1), Blinding::new(2));
    assert_eq!(one.hide(77), one.hide(77));
    assert_ne!(one.hide(77), other.hide(77));
    let hidden: std::collections::HashSet<u64> = (0..10_000).map(|block| one.hide(block)).collect();
    assert_eq!(hidden.len(), 10_000);
    assert!(!hidden.contains(&77));
}
