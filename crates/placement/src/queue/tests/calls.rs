//! Which request is dequeued when a worker has room.

use super::*;
use crate::{Candidate, Outcome, Selection};
use inferyard_domain::InstanceId;

/// A pool of workers with two places and 10,000 cells each, and the queue before it.
struct Scene {
    queue: Queue,
    pool: Pool,
    workers: Vec<WorkerId>,
    sequence: u64,
    candidates: Vec<Candidate>,
}

impl Scene {
    fn new(workers: usize) -> Self {
        let mut pool = Pool::new("m".into(), Weights::default(), 0);
        let names = (0..workers).map(|number| Arc::from(format!("worker-{number}")));
        let workers = names.map(|name| pool.join(name)).collect();
        let mut scene = Self {
            queue: Queue::default(),
            pool,
            workers,
            sequence: 0,
            candidates: Vec::new(),
        };
        for worker in scene.workers.clone() {
            scene.says(worker, |_| ());
        }
        scene
    }

    fn says(&mut self, worker: WorkerId, change: impl FnOnce(&mut State)) {
        self.sequence += 1;
        let mut state = State {
            instance: InstanceId::new(self.sequence),
            sequence: 1,
            phase: Phase::Ready,
            model: "m".to_owned(),
            max_running: 2,
            max_queued: 0,
            kv_tokens: 10_000,
            ..State::default()
        };
        change(&mut state);
        self.pool.state(worker, state, SECOND).unwrap();
    }

    /// Sets a worker's running answers and busy KV cells.
    fn is_busy(&mut self, worker: usize, running: u32, kv_busy_tokens: u64) {
        self.says(self.workers[worker], |state| {
            state.running = running;
            state.kv_busy_tokens = kv_busy_tokens;
        });
    }

    /// The request that is dequeued after a state of this worker.
    fn dequeue(&mut self, worker: usize) -> Option<(WaiterId, Selection)> {
        let worker = self.workers[worker];
        let Self {
            queue,
            pool,
            candidates,
            ..
        } = self;
        let dequeued = queue.dequeue(pool, worker, SECOND, candidates)?;
        let (choice, work) = (dequeued.choice, &dequeued.waiter.work);
        self.pool.send(work, choice.worker, 0, SECOND);
        Some((dequeued.id, choice))
    }
}

#[test]
fn nobody_is_called_before_there_is_room() {
    let mut scene = Scene::new(1);
    let one = policy("one", |_| ());
    let ids: Vec<_> = (0..3).map(|_| scene.queue.add(&one, 10)).collect();
    scene.is_busy(0, 2, 100);
    assert!(scene.dequeue(0).is_none());
    scene.is_busy(0, 1, 100);
    assert_eq!(scene.dequeue(0).unwrap().0, ids[0]);
    assert!(scene.dequeue(0).is_none());
    scene.is_busy(0, 0, 100);
    assert_eq!(scene.dequeue(0).unwrap().0, ids[1]);
    assert_eq!(scene.dequeue(0).unwrap().0, ids[2]);
    assert!(scene.dequeue(0).is_none());
}

#[test]
fn one_that_fits_nowhere_is_overtaken_but_not_for_ever() {
    let mut scene = Scene::new(2);
    let (large, small) = (policy("large", |_| ()), policy("small", |_| ()));
    let huge = scene.queue.add(&large, 9_000);
    for _ in 0..100 {
        scene.queue.add(&small, 10);
    }
    scene.is_busy(0, 1, 5_000);
    scene.is_busy(1, 2, 5_000);
    let mut overtook = 0;
    while let Some((id, _)) = scene.dequeue(0) {
        assert_ne!(id, huge);
        overtook += 1;
        scene.is_busy(0, 1, 5_000);
    }
    assert_eq!(overtook, 32, "then the worker is reserved for it");
    // The other one is not.
    scene.is_busy(1, 1, 5_000);
    let (id, choice) = scene.dequeue(1).unwrap();
    assert!(id != huge && choice.worker == scene.workers[1]);
    scene.is_busy(0, 1, 500);
    let (id, choice) = scene.dequeue(0).unwrap();
    assert!(id == huge && choice.worker == scene.workers[0]);
    // Now it is available to all requests again.
    scene.is_busy(0, 1, 9_500);
    assert!(scene.dequeue(0).is_some());
}

#[test]
fn a_worker_that_is_lost_is_kept_for_nobody() {
    let mut scene = Scene::new(2);
    let (large, small) = (policy("large", |_| ()), policy("small", |_| ()));
    let huge = scene.queue.add(&large, 9_000);
    for _ in 0..100 {
        scene.queue.add(&small, 10);
    }
    scene.is_busy(0, 1, 5_000);
    scene.is_busy(1, 2, 5_000);
    while scene.dequeue(0).is_some() {
        scene.is_busy(0, 1, 5_000);
    }
    scene.pool.lost(scene.workers[0]);
    scene.is_busy(1, 0, 0);
    let (id, choice) = scene.dequeue(1).unwrap();
    assert!(id == huge && choice.worker == scene.workers[1]);
    scene.is_busy(0, 1, 5_000);
    assert!(scene.dequeue(0).is_some());
}

#[test]
fn one_that_has_just_come_goes_at_once_only_where_it_is_among_the_first() {
    let mut scene = Scene::new(1);
    let (large, small) = (policy("large", |_| ()), policy("small", |_| ()));
    scene.is_busy(0, 1, 5_000);
    for _ in 0..8 {
        scene.queue.add(&large, 9_000);
    }
    let new = scene.queue.add(&small, 10);
    let Scene {
        queue,
        pool,
        candidates,
        ..
    } = &mut scene;
    let dequeued = queue.dequeue_new(new, pool, SECOND, candidates).unwrap();
    assert_eq!(dequeued.id, new);
    let ninth = queue.add(&large, 10);
    assert!(queue.dequeue_new(ninth, pool, SECOND, candidates).is_none());
}

#[test]
fn a_worker_that_failed_at_a_request_is_not_asked_again() {
    let mut scene = Scene::new(2);
    let mut failed = waiter(&policy("one", |_| ()), 10);
    failed.tried = vec![scene.workers[0]];
    let id = scene.queue.join(failed, None, SECOND).unwrap().id;
    assert!(scene.dequeue(0).is_none());
    let (dequeued, choice) = scene.dequeue(1).unwrap();
    assert!(dequeued == id && choice.worker == scene.workers[1]);
}

#[test]
fn a_worker_that_refuses_gets_nothing_until_it_has_spoken() {
    let mut scene = Scene::new(1);
    let one = policy("one", |_| ());
    let ids: Vec<_> = (0..2).map(|_| scene.queue.add(&one, 10)).collect();
    let worker = scene.workers[0];
    let ticket = scene.pool.send(&waiter(&one, 10).work, worker, 0, SECOND);
    scene.pool.refused(ticket, SECOND);
    scene.pool.ended(ticket, Outcome::Untold, SECOND);
    assert!(scene.dequeue(0).is_none());
    let state = State {
        instance: InstanceId::new(scene.sequence),
        sequence: 2,
        phase: Phase::Ready,
        model: "m".to_owned(),
        ..State::default()
    };
    // The worker may repeat its state.
    scene.pool.state(worker, state.clone(), SECOND).unwrap();
    assert!(scene.dequeue(0).is_none());
    let state = State {
        sequence: 3,
        ..state
    };
    scene.pool.state(worker, state, SECOND * 2).unwrap();
    assert_eq!(scene.dequeue(0).unwrap().0, ids[0]);
}
