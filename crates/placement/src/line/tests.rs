//! Who waits, whose turn it is, and that nobody is lost.

use super::*;
use crate::{Phase, Pool, State, Weights};

mod calls;
mod shares;
mod whatever;

const SECOND: Moment = Moment::from_secs(1);

fn claim(account: &str, change: impl FnOnce(&mut Claim)) -> Arc<Claim> {
    let mut claim = Claim {
        account: account.into(),
        plan: "plan".into(),
        priority: 0,
        weight: 100,
        most_waiting: 10_000,
    };
    change(&mut claim);
    Arc::new(claim)
}

fn waiter(claim: &Arc<Claim>, prompt_tokens: u64) -> Waiter {
    Waiter {
        claim: Arc::clone(claim),
        work: Work {
            prompt_bytes: prompt_tokens * 4,
            prompt_tokens,
            blocks: [].into(),
            sequences: 1,
        },
        tried: vec![],
    }
}

impl Line {
    fn add(&mut self, claim: &Arc<Claim>, prompt_tokens: u64) -> WaiterId {
        let joined = self.join(waiter(claim, prompt_tokens), None, SECOND);
        joined.unwrap().id
    }

    /// Serves the first one in order.
    fn next(&mut self) -> Option<(WaiterId, Charge)> {
        let id = *self.first().first()?;
        let prompt_tokens = self.waiter(id).unwrap().work.prompt_tokens;
        let claim = self.serve(id, prompt_tokens, SECOND)?.claim;
        let charge = Charge {
            claim,
            prompt_tokens,
            queued: true,
        };
        Some((id, charge))
    }

    /// Serves all, and who they are.
    fn drain(&mut self) -> Vec<WaiterId> {
        std::iter::from_fn(|| self.next().map(|(id, _)| id)).collect()
    }

    fn idle(&self) -> usize {
        self.classes.values().map(Class::idle).sum()
    }
}

#[test]
fn a_higher_priority_goes_first_whoever_came_first() {
    let mut line = Line::default();
    let free = claim("free", |claim| claim.priority = -5);
    let team = claim("team", |claim| claim.priority = 5);
    let low: Vec<_> = (0..3).map(|_| line.add(&free, 1)).collect();
    let high: Vec<_> = (0..3).map(|_| line.add(&team, 1_000_000)).collect();
    let waiting: Vec<_> = line.waiting().collect();
    assert_eq!(waiting, [(5, 3), (-5, 3)]);
    assert_eq!(line.drain(), [high, low].concat());
}

#[test]
fn within_an_account_who_came_first_goes_first_and_keeps_the_place() {
    let mut line = Line::default();
    let one = claim("one", |_| ());
    let ids: Vec<_> = (0..3).map(|_| line.add(&one, 10)).collect();
    let (first, charge) = line.next().unwrap();
    assert_eq!(first, ids[0]);
    line.refused(&charge);
    let back = line.join(waiter(&one, 10), Some(first), SECOND).unwrap();
    assert_eq!(back.id, ids[0]);
    assert_eq!(line.drain(), ids);
}

#[test]
fn who_leaves_is_not_served() {
    let mut line = Line::default();
    let one = claim("one", |_| ());
    let ids: Vec<_> = (0..3).map(|_| line.add(&one, 10)).collect();
    assert!(line.leave(ids[1]).is_some());
    assert!(line.leave(ids[1]).is_none());
    assert_eq!(line.drain(), [ids[0], ids[2]]);
    assert!(line.is_empty());
    assert!(line.leave(ids[0]).is_none());
}

#[test]
fn a_full_line_turns_away_whoever_has_most_in_it() {
    let mut line = Line::default();
    let most = |claim: &mut Claim| claim.most_waiting = 4;
    let flood = claim("flood", most);
    let ids: Vec<_> = (0..4).map(|_| line.add(&flood, 10)).collect();
    let full = line.join(waiter(&flood, 10), None, SECOND);
    assert_eq!(full, Err(Full { most: 4 }));
    let other = claim("other", most);
    let joined = line.join(waiter(&other, 10), None, SECOND).unwrap();
    assert_eq!(joined.pushed_out, Some(ids[3]));
    let joined = line.join(waiter(&other, 10), None, SECOND).unwrap();
    assert_eq!(joined.pushed_out, Some(ids[2]));
    // Now both have the same.
    let full = line.join(waiter(&other, 10), None, SECOND);
    assert_eq!(full, Err(Full { most: 4 }));
    // Another plan has its own part, and one that comes back had its place before.
    line.add(&claim("team", |claim| claim.plan = "team".into()), 10);
    let (first, charge) = line.next().unwrap();
    line.add(&other, 10);
    line.refused(&charge);
    assert!(line.join(waiter(&flood, 10), Some(first), SECOND).is_ok());
    let none = claim("never", |claim| {
        claim.plan = "never".into();
        claim.most_waiting = 0;
    });
    let full = line.join(waiter(&none, 10), None, SECOND);
    assert_eq!(full, Err(Full { most: 0 }));
}

#[test]
fn who_is_turned_away_is_told_what_the_pace_is() {
    let mut line = Line::default();
    let one = claim("one", |_| ());
    let after = |line: &Line, seconds| line.retry_after(&one, SECOND * 30, SECOND * seconds);
    assert_eq!(after(&line, 1), SECOND * 30, "none has left yet");
    for _ in 0..39 {
        line.add(&one, 10);
    }
    for second in 1..=20_u32 {
        let id = line.first()[0];
        line.serve(id, 10, SECOND * second).unwrap();
    }
    // 19 wait, and one leaves every second.
    let told = after(&line, 20).as_secs_f64();
    assert!((17.0..22.0).contains(&told), "{told}");
    // A small account does not stand behind the flood of a large one.
    let other = claim("other", |_| ());
    let told = line.retry_after(&other, SECOND * 30, SECOND * 20);
    assert!(told < SECOND * 3, "{told:?}");
    line.drain();
    assert!(after(&line, 20) < SECOND * 2);
    // A line that has stood still is no promise, and the SDKs take no more than a minute for one.
    for _ in 0..200 {
        line.add(&one, 10);
    }
    assert_eq!(after(&line, 90), SECOND * 60);
}
