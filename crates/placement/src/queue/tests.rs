//! Tests of the queue: limits, order, and that no request is lost.

use super::*;
use crate::{Phase, Pool, State, Weights};

mod calls;
mod shares;
mod whatever;

const SECOND: Moment = Moment::from_secs(1);

fn policy(account: &str, change: impl FnOnce(&mut QueuePolicy)) -> Arc<QueuePolicy> {
    let mut policy = QueuePolicy {
        account: account.into(),
        plan: "plan".into(),
        priority: 0,
        weight: 100,
        most_waiting: 10_000,
    };
    change(&mut policy);
    Arc::new(policy)
}

fn waiter(policy: &Arc<QueuePolicy>, prompt_tokens: u64) -> Waiter {
    Waiter {
        policy: Arc::clone(policy),
        work: Work {
            prompt_bytes: prompt_tokens * 4,
            prompt_tokens,
            blocks: [].into(),
            sequences: 1,
        },
        tried: vec![],
    }
}

impl Queue {
    fn add(&mut self, policy: &Arc<QueuePolicy>, prompt_tokens: u64) -> WaiterId {
        let joined = self.join(waiter(policy, prompt_tokens), None, SECOND);
        joined.unwrap().id
    }

    /// Serves the first request in order.
    fn next(&mut self) -> Option<(WaiterId, Charge)> {
        let id = *self.first().first()?;
        let prompt_tokens = self.waiter(id).unwrap().work.prompt_tokens;
        let policy = self.serve(id, prompt_tokens, SECOND)?.policy;
        let charge = Charge {
            policy,
            prompt_tokens,
            queued: true,
        };
        Some((id, charge))
    }

    /// Serves all requests, and returns their ids in order.
    fn drain(&mut self) -> Vec<WaiterId> {
        std::iter::from_fn(|| self.next().map(|(id, _)| id)).collect()
    }

    fn idle(&self) -> usize {
        self.classes.values().map(PriorityClass::idle).sum()
    }
}

#[test]
fn a_higher_priority_goes_first_whoever_came_first() {
    let mut queue = Queue::default();
    let free = policy("free", |policy| policy.priority = -5);
    let team = policy("team", |policy| policy.priority = 5);
    let low: Vec<_> = (0..3).map(|_| queue.add(&free, 1)).collect();
    let high: Vec<_> = (0..3).map(|_| queue.add(&team, 1_000_000)).collect();
    let waiting: Vec<_> = queue.waiting().collect();
    assert_eq!(waiting, [(5, 3), (-5, 3)]);
    assert_eq!(queue.drain(), [high, low].concat());
}

#[test]
fn within_an_account_who_came_first_goes_first_and_keeps_the_place() {
    let mut queue = Queue::default();
    let one = policy("one", |_| ());
    let ids: Vec<_> = (0..3).map(|_| queue.add(&one, 10)).collect();
    let (first, charge) = queue.next().unwrap();
    assert_eq!(first, ids[0]);
    queue.refused(&charge);
    let back = queue.join(waiter(&one, 10), Some(first), SECOND).unwrap();
    assert_eq!(back.id, ids[0]);
    assert_eq!(queue.drain(), ids);
}

#[test]
fn who_leaves_is_not_served() {
    let mut queue = Queue::default();
    let one = policy("one", |_| ());
    let ids: Vec<_> = (0..3).map(|_| queue.add(&one, 10)).collect();
    assert!(queue.leave(ids[1]).is_some());
    assert!(queue.leave(ids[1]).is_none());
    assert_eq!(queue.drain(), [ids[0], ids[2]]);
    assert!(queue.is_empty());
    assert!(queue.leave(ids[0]).is_none());
}

#[test]
fn a_full_line_turns_away_whoever_has_most_in_it() {
    let mut queue = Queue::default();
    let most = |policy: &mut QueuePolicy| policy.most_waiting = 4;
    let flood = policy("flood", most);
    let ids: Vec<_> = (0..4).map(|_| queue.add(&flood, 10)).collect();
    let full = queue.join(waiter(&flood, 10), None, SECOND);
    assert_eq!(full, Err(QueueFull { most: 4 }));
    let other = policy("other", most);
    let joined = queue.join(waiter(&other, 10), None, SECOND).unwrap();
    assert_eq!(joined.pushed_out, Some(ids[3]));
    let joined = queue.join(waiter(&other, 10), None, SECOND).unwrap();
    assert_eq!(joined.pushed_out, Some(ids[2]));
    // Both accounts have two requests now.
    let full = queue.join(waiter(&other, 10), None, SECOND);
    assert_eq!(full, Err(QueueFull { most: 4 }));
    // Another plan has its own share of the queue, and a request that returns keeps its place even beyond the limit.
    queue.add(&policy("team", |policy| policy.plan = "team".into()), 10);
    let (first, charge) = queue.next().unwrap();
    queue.add(&other, 10);
    queue.refused(&charge);
    assert!(queue.join(waiter(&flood, 10), Some(first), SECOND).is_ok());
    let none = policy("never", |policy| {
        policy.plan = "never".into();
        policy.most_waiting = 0;
    });
    let full = queue.join(waiter(&none, 10), None, SECOND);
    assert_eq!(full, Err(QueueFull { most: 0 }));
}

#[test]
fn who_is_turned_away_is_told_what_the_pace_is() {
    let mut queue = Queue::default();
    let one = policy("one", |_| ());
    let after = |queue: &Queue, seconds| queue.retry_after(&one, SECOND * 30, SECOND * seconds);
    assert_eq!(after(&queue, 1), SECOND * 30, "none has left yet");
    for _ in 0..39 {
        queue.add(&one, 10);
    }
    for second in 1..=20_u32 {
        let id = queue.first()[0];
        queue.serve(id, 10, SECOND * second).unwrap();
    }
    // 19 wait, and one leaves every second.
    let told = after(&queue, 20).as_secs_f64();
    assert!((17.0..22.0).contains(&told), "{told}");
    // A small account does not wait behind the requests of a large one.
    let other = policy("other", |_| ());
    let told = queue.retry_after(&other, SECOND * 30, SECOND * 20);
    assert!(told < SECOND * 3, "{told:?}");
    queue.drain();
    assert!(after(&queue, 20) < SECOND * 2);
    // A queue that stands still has no pace, and the SDKs ignore values above a minute.
    for _ in 0..200 {
        queue.add(&one, 10);
    }
    assert_eq!(after(&queue, 90), SECOND * 60);
}
