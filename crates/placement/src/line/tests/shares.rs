//! What accounts get of a saturated fleet.

use super::*;

/// Tokens that each of the accounts got, where all always wait and answers are as long as said.
fn shares(accounts: &[(&str, u32, u64, u64)], serves: u64) -> Vec<u64> {
    let mut line = Line::default();
    let mut got: HashMap<Arc<str>, u64> = HashMap::new();
    let mut answers = HashMap::new();
    for (name, weight, prompt, answer) in accounts {
        let claim = claim(name, |claim| claim.weight = *weight);
        for _ in 0..4 {
            line.add(&claim, *prompt);
        }
        answers.insert(Arc::clone(&claim.account), (*prompt, *answer));
    }
    for _ in 0..serves {
        let (_, charge) = line.next().unwrap();
        let claim = Arc::clone(&charge.claim);
        let (prompt, answer) = answers[&claim.account];
        line.ended(&charge, answer);
        *got.entry(Arc::clone(&claim.account)).or_default() += prompt + OF_AN_ANSWER * answer;
        line.add(&claim, prompt);
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
    let mut line = Line::default();
    let (flood, seldom) = (claim("flood", |_| ()), claim("seldom", |_| ()));
    for _ in 0..200 {
        line.add(&flood, 500);
    }
    for _ in 0..30 {
        for _ in 0..5 {
            let (_, charge) = line.next().unwrap();
            line.ended(&charge, 50);
        }
        let own = line.add(&seldom, 500);
        let (next, charge) = line.next().unwrap();
        assert_eq!(next, own);
        line.ended(&charge, 50);
    }
}

#[test]
fn who_was_away_has_saved_nothing_up() {
    let mut line = Line::default();
    let (busy, away) = (claim("busy", |_| ()), claim("away", |_| ()));
    for _ in 0..300 {
        line.add(&busy, 100);
    }
    line.add(&away, 100);
    for _ in 0..200 {
        line.next();
    }
    for _ in 0..100 {
        line.add(&away, 100);
    }
    let served = (0..40).map(|_| line.next().unwrap().1.claim);
    let of_away = served.filter(|claim| *claim.account == *"away").count();
    assert!((19..=21).contains(&of_away), "{of_away} of 40");
}

#[test]
fn who_leaves_and_comes_back_is_not_forgiven() {
    let mut line = Line::default();
    let (small, large) = (claim("small", |_| ()), claim("large", |_| ()));
    for _ in 0..2_000 {
        line.add(&small, 100);
    }
    // One at a time, each as large as fifty of the others.
    let mut of_large = 0;
    line.add(&large, 5_000);
    for _ in 0..1_000 {
        let (_, charge) = line.next().unwrap();
        let is_large = *charge.claim.account == *"large";
        line.ended(&charge, 0);
        if is_large {
            of_large += 1;
            line.add(&large, 5_000);
        }
    }
    assert!((18..=21).contains(&of_large), "{of_large}");
}

#[test]
fn debts_of_many_accounts_take_little_memory_and_end_with_the_day() {
    let mut line = Line::default();
    let waits = claim("waits", |_| ());
    line.add(&waits, 1);
    for number in 0..20_000 {
        let claim = claim(&format!("account-{number}"), |_| ());
        let id = line.add(&claim, 1_000);
        line.serve(id, 1_000, SECOND).unwrap();
        let charge = Charge {
            claim,
            prompt_tokens: 1_000,
            queued: true,
        };
        line.ended(&charge, 10);
        assert!(line.idle() <= 4096, "{} after {number}", line.idle());
    }
    assert!(line.idle() > 1_000);
    line.drain();
    let later = SECOND * 100;
    line.join(waiter(&waits, 1), None, later).unwrap();
    assert_eq!(line.idle(), 0);
}

#[test]
fn who_ends_behind_the_others_is_forgotten_at_once() {
    let mut line = Line::default();
    let (once, often) = (claim("once", |_| ()), claim("often", |_| ()));
    line.add(&once, 100);
    let (_, charge) = line.next().unwrap();
    for _ in 0..50 {
        line.add(&often, 100);
    }
    for _ in 0..20 {
        line.next();
    }
    assert_eq!(line.idle(), 0);
    line.ended(&charge, 10);
    assert_eq!(line.idle(), 0);
}

/// `flood` fills the workers while nobody waits; then both wait, in this order.
fn filled(order: [&str; 2]) -> Vec<Arc<str>> {
    let mut line = Line::default();
    let flood = claim("flood", |_| ());
    let running: Vec<_> = (0..8).map(|_| line.place(&flood, 1_000)).collect();
    for account in order {
        for _ in 0..20 {
            line.add(&claim(account, |_| ()), 1_000);
        }
    }
    let served = (0..16).map(|_| line.next().unwrap().1.claim);
    let served = served.map(|claim| Arc::clone(&claim.account)).collect();
    for charge in &running {
        line.ended(charge, 100);
    }
    served
}

#[test]
fn who_filled_the_workers_before_anybody_waited_is_not_the_first_to_get_more() {
    for order in [["flood", "late"], ["late", "flood"]] {
        let served = filled(order);
        let of_late = served.iter().take_while(|account| ***account == *"late");
        // The other one gets as much as the first one has, and from then on both get the same.
        let of_late = of_late.count();
        assert!((8..=9).contains(&of_late), "{of_late}: {served:?}");
        let rest = served[of_late..].iter();
        let of_flood = rest.filter(|account| ***account == *"flood").count();
        assert!((3..=4).contains(&of_flood), "{served:?}");
    }
}

#[test]
fn what_ended_before_anybody_waited_is_forgotten() {
    let mut line = Line::default();
    let (busy, other) = (claim("busy", |_| ()), claim("other", |_| ()));
    for _ in 0..10_000 {
        let charge = line.place(&busy, 500);
        line.ended(&charge, 50);
    }
    assert_eq!(line.idle(), 0);
    for claim in [&busy, &other] {
        for _ in 0..20 {
            line.add(claim, 100);
        }
    }
    let served = (0..20).map(|_| line.next().unwrap().1.claim);
    let of_busy = served.filter(|claim| *claim.account == *"busy").count();
    assert!((9..=11).contains(&of_busy), "{of_busy} of 20");
}

#[test]
fn what_ends_while_others_wait_is_charged_with_its_answer() {
    let mut line = Line::default();
    let (long, other) = (claim("long", |_| ()), claim("other", |_| ()));
    let charge = line.place(&long, 100);
    for claim in [&long, &other] {
        for _ in 0..40 {
            line.add(claim, 100);
        }
    }
    line.ended(&charge, 1_000);
    let served = (0..21).map(|_| line.next().unwrap().1.claim);
    let of_long = served.filter(|claim| *claim.account == *"long").count();
    assert_eq!(of_long, 0, "2,100 tokens are 21 requests of the other one");
}

#[test]
fn who_was_refused_without_waiting_owes_nothing() {
    let mut line = Line::default();
    let (one, other) = (claim("one", |_| ()), claim("other", |_| ()));
    let charge = line.place(&one, 1_000_000);
    line.refused(&charge);
    let first = line.add(&one, 10);
    line.add(&other, 10);
    assert_eq!(line.next().unwrap().0, first);
}
