//! Joining the queue, the order in it, and leaving it.

use super::*;

/// This one is cancelled.
const CANCELLED: u32 = 13;

#[derive(Debug, PartialEq, Eq)]
struct Numbered(u32);

impl Job for Numbered {
    fn prompt_tokens(&self) -> usize {
        10
    }
    fn deadline(&self) -> Option<Instant> {
        None
    }
    fn is_cancelled(&self) -> bool {
        self.0 == CANCELLED
    }
}

fn queue(max_queued: usize, free: usize) -> Queue<Numbered> {
    Queue::new(max_queued, free, Arc::new(State::new("m".to_owned(), 1)))
}

fn join(queue: &Queue<Numbered>, number: u32, priority: i32) -> Result<QueueKey, Refused> {
    let mut at = None;
    queue.join(priority, |key| {
        at = Some(key);
        Numbered(number)
    })?;
    Ok(at.unwrap())
}

#[test]
fn priority_goes_before_arrival() {
    let queue = queue(4, 0);
    for (number, priority) in [(1, 0), (2, 5), (3, 5), (4, -1)] {
        join(&queue, number, priority).unwrap();
    }
    let order: Vec<u32> = std::iter::from_fn(|| queue.take(0, |_| true))
        .map(|job| job.0)
        .collect();
    assert_eq!(order, [2, 3, 1, 4]);
}

#[test]
fn a_full_line_refuses_but_free_places_do_not_count() {
    let queue = queue(1, 1);
    join(&queue, 1, 0).unwrap();
    join(&queue, 2, 0).unwrap();
    assert_eq!(join(&queue, 3, 9), Err(Refused::Full));
    assert_eq!(queue.take(0, |_| true), Some(Numbered(1)));
    assert_eq!(join(&queue, 3, 9), Err(Refused::Full));
    assert_eq!(queue.take(0, |_| false), None);
}

#[test]
fn who_is_cancelled_leaves_the_line() {
    let queue = queue(4, 0);
    for number in [1, CANCELLED, 2] {
        join(&queue, number, 0).unwrap();
    }
    assert_eq!(queue.take_overdue(Instant::now()), [Numbered(CANCELLED)]);
    assert_eq!(queue.take(0, |_| true), Some(Numbered(1)));
}

#[test]
fn who_leaves_is_gone_and_draining_empties_the_line() {
    let queue = queue(4, 0);
    let first = join(&queue, 1, 0).unwrap();
    join(&queue, 2, 0).unwrap();
    queue.leave(first);
    assert!(queue.take_overdue(Instant::now()).is_empty());
    queue.set_run_state(RunState::Drain);
    assert_eq!(queue.take_overdue(Instant::now()), [Numbered(2)]);
    assert_eq!(join(&queue, 3, 0), Err(Refused::Draining));
}

#[test]
fn a_reserved_place_counts_until_it_is_used_or_given_back() {
    let queue = Arc::new(queue(1, 1));
    let first = Queue::reserve(&queue, 7).unwrap();
    let second = Queue::reserve(&queue, 8).unwrap();
    let told = || {
        let snapshot = queue.state.snapshot();
        (snapshot.queued, snapshot.queued_tokens)
    };
    assert_eq!(told(), (2, 15));
    assert_eq!(queue.check(), Err(Refused::Full));
    assert_eq!(join(&queue, 3, 9), Err(Refused::Full));
    assert!(Queue::reserve(&queue, 0).is_err());
    first.join(0, |_| Numbered(1)).unwrap();
    assert_eq!(told(), (2, 18), "it counts as the job that it has become");
    assert_eq!(queue.check(), Err(Refused::Full));
    drop(second);
    assert_eq!(told(), (1, 10));
    queue.check().unwrap();
}

#[test]
fn a_reserved_place_is_lost_when_the_worker_drains() {
    let queue = Arc::new(queue(4, 0));
    let reservation = Queue::reserve(&queue, 7).unwrap();
    queue.set_run_state(RunState::Drain);
    assert_eq!(queue.check(), Err(Refused::Draining));
    assert_eq!(reservation.join(0, |_| Numbered(1)), Err(Refused::Draining));
    assert_eq!(queue.state.snapshot().queued, 0);
}
