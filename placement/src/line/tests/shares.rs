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
