//! Tests of the shares of accounts in a saturated fleet.

use super::*;
use inferyard_domain::Account;

/// Tokens that each account got, if all always have requests waiting. Accounts are (name, weight, prompt tokens,
/// answer tokens).
fn shares(accounts: &[(&str, u32, u64, u64)], serves: u64) -> Vec<u64> {
    let mut queue = Queue::default();
    let mut got: HashMap<Account, u64> = HashMap::new();
    let mut answers = HashMap::new();
    for (name, weight, prompt, answer) in accounts {
        let policy = policy(name, |policy| policy.weight = *weight);
        for _ in 0..4 {
            queue.add(&policy, *prompt);
        }
        answers.insert(policy.account.clone(), (*prompt, *answer));
    }
    for _ in 0..serves {
        let (_, charge) = queue.next().unwrap();
        let policy = Arc::clone(&charge.policy);
        let (prompt, answer) = answers[&policy.account];
        queue.ended(&charge, answer);
        *got.entry(policy.account.clone()).or_default() += prompt + OF_AN_ANSWER * answer;
        queue.add(&policy, prompt);
    }
    accounts.iter().map(|(name, ..)| got[*name]).collect()
}

#[test]
fn accounts_share_tokens_by_weight_however_large_their_requests_are() {
    let accounts = [
        ("long", 100, 4_000, 10),
        ("short", 100, 50, 5),
        ("talkative", 100, 50, 900),
        ("heavy", 300, 700, 100),
    ];
    let got = shares(&accounts, 40_000);
    let all: u64 = got.iter().sum();
    for (got, (name, weight, ..)) in got.iter().zip(accounts) {
        let share = u64::from(weight) * 1_000 / 600;
        let got = got * 1_000 / all;
        assert!(got.abs_diff(share) <= 20, "{name}: {got} ‰, not {share} ‰");
    }
}

#[test]
fn who_asks_seldom_does_not_wait_behind_a_flood_of_equal_rank() {
    let mut queue = Queue::default();
    let (flood, seldom) = (policy("flood", |_| ()), policy("seldom", |_| ()));
    for _ in 0..200 {
        queue.add(&flood, 500);
    }
    for _ in 0..30 {
        for _ in 0..5 {
            let (_, charge) = queue.next().unwrap();
            queue.ended(&charge, 50);
        }
        let own = queue.add(&seldom, 500);
        let (next, charge) = queue.next().unwrap();
        assert_eq!(next, own);
        queue.ended(&charge, 50);
    }
}

#[test]
fn who_was_away_has_saved_nothing_up() {
    let mut queue = Queue::default();
    let (busy, away) = (policy("busy", |_| ()), policy("away", |_| ()));
    for _ in 0..300 {
        queue.add(&busy, 100);
    }
    queue.add(&away, 100);
    for _ in 0..200 {
        queue.next();
    }
    for _ in 0..100 {
        queue.add(&away, 100);
    }
    let served = (0..40).map(|_| queue.next().unwrap().1.policy);
    let of_away = served.filter(|policy| *policy.account == *"away").count();
    assert!((19..=21).contains(&of_away), "{of_away} of 40");
}

#[test]
fn who_leaves_and_comes_back_is_not_forgiven() {
    let mut queue = Queue::default();
    let (small, large) = (policy("small", |_| ()), policy("large", |_| ()));
    for _ in 0..2_000 {
        queue.add(&small, 100);
    }
    // One request at a time, each as large as fifty of the small ones.
    let mut of_large = 0;
    queue.add(&large, 5_000);
    for _ in 0..1_000 {
        let (_, charge) = queue.next().unwrap();
        let is_large = *charge.policy.account == *"large";
        queue.ended(&charge, 0);
        if is_large {
            of_large += 1;
            queue.add(&large, 5_000);
        }
    }
    assert!((18..=21).contains(&of_large), "{of_large}");
}

#[test]
fn debts_of_many_accounts_take_little_memory_and_end_with_the_day() {
    let mut queue = Queue::default();
    let waits = policy("waits", |_| ());
    queue.add(&waits, 1);
    for number in 0..20_000 {
        let policy = policy(&format!("account-{number}"), |_| ());
        let id = queue.add(&policy, 1_000);
        queue.serve(id, 1_000, SECOND).unwrap();
        let charge = Charge {
            policy,
            prompt_tokens: 1_000,
            queued: true,
        };
        queue.ended(&charge, 10);
        assert!(queue.idle() <= 4096, "{} after {number}", queue.idle());
    }
    assert!(queue.idle() > 1_000);
    queue.drain();
    let later = SECOND * 100;
    queue.join(waiter(&waits, 1), None, later).unwrap();
    assert_eq!(queue.idle(), 0);
}

#[test]
fn who_ends_behind_the_others_is_forgotten_at_once() {
    let mut queue = Queue::default();
    let (once, often) = (policy("once", |_| ()), policy("often", |_| ()));
    queue.add(&once, 100);
    let (_, charge) = queue.next().unwrap();
    for _ in 0..50 {
        queue.add(&often, 100);
    }
    for _ in 0..20 {
        queue.next();
    }
    assert_eq!(queue.idle(), 0);
    queue.ended(&charge, 10);
    assert_eq!(queue.idle(), 0);
}

/// `flood` fills the workers while no request waits; then both accounts wait, joining in this order.
fn filled(order: [&str; 2]) -> Vec<Account> {
    let mut queue = Queue::default();
    let flood = policy("flood", |_| ());
    let running: Vec<_> = (0..8).map(|_| queue.place(&flood, 1_000)).collect();
    for account in order {
        for _ in 0..20 {
            queue.add(&policy(account, |_| ()), 1_000);
        }
    }
    let served = (0..16).map(|_| queue.next().unwrap().1.policy);
    let served = served.map(|policy| policy.account.clone()).collect();
    for charge in &running {
        queue.ended(charge, 100);
    }
    served
}

#[test]
fn who_filled_the_workers_before_anybody_waited_is_not_the_first_to_get_more() {
    for order in [["flood", "late"], ["late", "flood"]] {
        let served = filled(order);
        let of_late = served.iter().take_while(|account| ***account == *"late");
        // `late` first gets as much as `flood` has; then both get the same.
        let of_late = of_late.count();
        assert!((8..=9).contains(&of_late), "{of_late}: {served:?}");
        let rest = served[of_late..].iter();
        let of_flood = rest.filter(|account| ***account == *"flood").count();
        assert!((3..=4).contains(&of_flood), "{served:?}");
    }
}

#[test]
fn what_ended_before_anybody_waited_is_forgotten() {
    let mut queue = Queue::default();
    let (busy, other) = (policy("busy", |_| ()), policy("other", |_| ()));
    for _ in 0..10_000 {
        let charge = queue.place(&busy, 500);
        queue.ended(&charge, 50);
    }
    assert_eq!(queue.idle(), 0);
    for policy in [&busy, &other] {
        for _ in 0..20 {
            queue.add(policy, 100);
        }
    }
    let served = (0..20).map(|_| queue.next().unwrap().1.policy);
    let of_busy = served.filter(|policy| *policy.account == *"busy").count();
    assert!((9..=11).contains(&of_busy), "{of_busy} of 20");
}

#[test]
fn what_ends_while_others_wait_is_charged_with_its_answer() {
    let mut queue = Queue::default();
    let (long, other) = (policy("long", |_| ()), policy("other", |_| ()));
    let charge = queue.place(&long, 100);
    for policy in [&long, &other] {
        for _ in 0..40 {
            queue.add(policy, 100);
        }
    }
    queue.ended(&charge, 1_000);
    let served = (0..21).map(|_| queue.next().unwrap().1.policy);
    let of_long = served.filter(|policy| *policy.account == *"long").count();
    assert_eq!(of_long, 0, "2,100 tokens are 21 requests of the other one");
}

#[test]
fn who_was_refused_without_waiting_owes_nothing() {
    let mut queue = Queue::default();
    let (one, other) = (policy("one", |_| ()), policy("other", |_| ()));
    let charge = queue.place(&one, 1_000_000);
    queue.refused(&charge);
    let first = queue.add(&one, 10);
    queue.add(&other, 10);
    assert_eq!(queue.next().unwrap().0, first);
}
