//! Cases about an admitted request: progress, end, crash, and repeated messages.

use std::time::Duration;

use super::subject::Subject;
use super::{
    LIFETIME, again, event, limits, n, on_both, on_plan, piece, request, scope, used, whole,
};
use crate::kind::LimitKind;
use crate::store::{Admission, Progressed, Settled, Used, Wait};

/// Limits so large that what leaks during a test rounds to nothing.
fn plenty(account: &str) -> Admission {
    on_plan(account, |it| {
        it.tokens_per_day = n(100);
        it.concurrent_requests = n(1_000);
        it.budget_per_month = n(100_000);
    })
}

fn halfway(tokens: u64, held: u64) -> Used {
    Used {
        held_tokens: held,
        held_money: held * 10,
        ..used(tokens, tokens * 10)
    }
}

/// Tokens charged and held, money charged and held, requests that run.
fn state(subject: &impl Subject) -> [u64; 5] {
    let levels = subject.levels("a", "plan:p");
    [
        levels.tokens_day,
        levels.held_tokens,
        levels.money_month,
        levels.held_money,
        levels.running,
    ]
    .map(crate::levels::whole)
}

async fn progress_moves_what_is_held(subject: impl Subject) {
    let wanted = plenty("a");
    assert!(subject.is_let_in(&wanted).await);
    assert_eq!(state(&subject), [0, 10, 0, 100, 1]);
    for _ in 0..2 {
        let told = subject.progress(&wanted.lease, &halfway(4, 6)).await;
        assert_eq!(told.unwrap(), Progressed::Renewed);
        assert_eq!(state(&subject), [4, 6, 40, 60, 1]);
    }
    let late = subject.progress(&wanted.lease, &halfway(2, 8)).await;
    assert_eq!(late.unwrap(), Progressed::Renewed);
    assert_eq!(state(&subject), [4, 6, 40, 60, 1]);
    let beyond = subject.progress(&wanted.lease, &halfway(12, 0)).await;
    assert_eq!(beyond.unwrap(), Progressed::Renewed);
    assert_eq!(state(&subject), [12, 0, 120, 0, 1]);
}

async fn an_end_charges_once(subject: impl Subject) {
    let wanted = plenty("a");
    assert!(subject.is_let_in(&wanted).await);
    subject
        .progress(&wanted.lease, &halfway(4, 6))
        .await
        .unwrap();
    let mut last = used(7, 70);
    last.event = piece(7, 70, "ok");
    let last = whole(&wanted, last);
    for expected in [Settled::Done, Settled::Already, Settled::Already] {
        let settled = subject.settle(&wanted.lease, &last).await.unwrap();
        assert_eq!(settled, expected);
        assert_eq!(state(&subject), [7, 0, 70, 0, 0]);
    }
    let charged = subject.charge(&wanted.lease, &last).await;
    assert_eq!(charged.unwrap(), Settled::Already);
    let told = subject.progress(&wanted.lease, &halfway(9, 1)).await;
    assert_eq!(told.unwrap(), Progressed::Ended);
    let entries = subject.entries().await;
    let [entry] = &entries[..] else {
        panic!("{entries:?}");
    };
    let event = event(&entry.event);
    assert_eq!((entry.part, entry.billed.len()), (0, 0));
    assert_eq!((event.account.as_str(), event.code.as_str()), ("a", "ok"));
    assert_eq!((event.completion_tokens, event.cost_nanodollars), (7, 70));
}

async fn what_was_never_admitted_is_unknown(subject: impl Subject) {
    let wanted = plenty("a");
    let settled = subject.settle(&wanted.lease, &used(1, 1)).await.unwrap();
    assert_eq!(settled, Settled::Unknown);
    let told = subject.progress(&wanted.lease, &halfway(1, 1)).await;
    assert_eq!(told.unwrap(), Progressed::Unknown);
    assert!(subject.entries().await.is_empty());
}

async fn what_was_never_admitted_can_be_charged(subject: impl Subject) {
    let wanted = plenty("a");
    let all = whole(&wanted, used(8, 80));
    for expected in [Settled::Done, Settled::Already] {
        let charged = subject.charge(&wanted.lease, &all).await.unwrap();
        assert_eq!(charged, expected);
    }
    assert_eq!(state(&subject), [8, 0, 80, 0, 0]);
    let requests = subject.levels("a", "plan:p").requests_total;
    assert!((requests - 1.0).abs() < 1e-9);
    let settled = subject.settle(&wanted.lease, &all).await.unwrap();
    assert_eq!(settled, Settled::Already);
    let entries = subject.entries().await;
    assert_eq!(entries.len(), 1);
    assert_eq!(event(&entries[0].event).completion_tokens, 8);
}

async fn to_charge_a_lease_is_to_settle_it(subject: impl Subject) {
    let wanted = plenty("a");
    assert!(subject.is_let_in(&wanted).await);
    let all = whole(&wanted, used(8, 80));
    let charged = subject.charge(&wanted.lease, &all).await;
    assert_eq!(charged.unwrap(), Settled::Done);
    assert_eq!(state(&subject), [8, 0, 80, 0, 0]);
    let requests = subject.levels("a", "plan:p").requests_total;
    assert!((requests - 1.0).abs() < 1e-9);
    assert_eq!(event(&subject.entries().await[0].event).account, "a");
}

async fn a_lease_without_sign_of_life_is_billed_and_freed(subject: impl Subject) {
    let wanted = plenty("a");
    let idle = plenty("b");
    assert!(subject.is_let_in(&wanted).await && subject.is_let_in(&idle).await);
    subject.shift(LIFETIME / 2);
    subject
        .progress(&wanted.lease, &halfway(4, 6))
        .await
        .unwrap();
    subject.shift(LIFETIME * 3 / 4);
    assert_eq!(subject.sweep_all().await, 1);
    assert_eq!(state(&subject), [4, 6, 40, 60, 1]);
    subject.shift(LIFETIME);
    assert_eq!(subject.sweep_all().await, 1);
    assert_eq!(state(&subject), [4, 0, 40, 0, 0]);
    assert_eq!(subject.sweep_all().await, 0);
    let entries = subject.entries().await;
    let told: Vec<_> = entries.iter().map(|entry| event(&entry.event)).collect();
    let mut told: Vec<_> = told
        .iter()
        .map(|event| {
            (
                event.account.as_str(),
                event.code.as_str(),
                event.completion_tokens,
            )
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("a", "router_lost", 4), ("b", "router_lost", 0)]);
}

async fn a_late_sign_of_life_takes_its_place_again(subject: impl Subject) {
    let wanted = plenty("a");
    assert!(subject.is_let_in(&wanted).await);
    subject
        .progress(&wanted.lease, &halfway(4, 6))
        .await
        .unwrap();
    subject.shift(LIFETIME * 2);
    assert_eq!(subject.sweep_all().await, 1);
    let told = subject.progress(&wanted.lease, &halfway(5, 5)).await;
    assert_eq!(told.unwrap(), Progressed::Revived);
    assert_eq!(state(&subject), [5, 5, 50, 50, 1]);
    subject.shift(LIFETIME * 2);
    assert_eq!(subject.sweep_all().await, 1);
    assert_eq!(state(&subject), [5, 0, 50, 0, 0]);
    let settled = subject
        .settle(&wanted.lease, &whole(&wanted, used(9, 90)))
        .await
        .unwrap();
    assert_eq!(settled, Settled::Done);
    assert_eq!(state(&subject), [9, 0, 90, 0, 0]);
    let entries = subject.entries().await;
    let parts: Vec<_> = entries
        .iter()
        .map(|entry| {
            let billed = event(&entry.billed).completion_tokens;
            (entry.part, event(&entry.event).completion_tokens, billed)
        })
        .collect();
    assert_eq!(parts, [(0, 4, 0), (1, 5, 4), (2, 9, 5)]);
    assert_eq!(event(&entries[2].billed).account, "a");
}

async fn an_expired_lease_is_forgotten_in_the_end(subject: impl Subject) {
    let wanted = plenty("a");
    assert!(subject.is_let_in(&wanted).await);
    subject.shift(LIFETIME * 2);
    assert_eq!(subject.sweep_all().await, 1);
    subject.shift(Duration::from_secs(3_700));
    assert_eq!(subject.sweep_all().await, 0);
    let settled = subject.settle(&wanted.lease, &used(1, 1)).await.unwrap();
    assert_eq!(settled, Settled::Unknown);
}

async fn an_end_is_remembered_for_ten_minutes(subject: impl Subject) {
    let wanted = plenty("a");
    assert!(subject.is_let_in(&wanted).await);
    let last = used(1, 1);
    subject.settle(&wanted.lease, &last).await.unwrap();
    subject.sweep().await.unwrap();
    for _ in 0..2 {
        subject.shift(Duration::from_secs(295));
        subject.sweep().await.unwrap();
        let settled = subject.settle(&wanted.lease, &last).await.unwrap();
        assert_eq!(settled, Settled::Already);
    }
    for _ in 0..3 {
        subject.shift(Duration::from_mins(10));
        subject.sweep().await.unwrap();
    }
    let settled = subject.settle(&wanted.lease, &last).await.unwrap();
    assert_eq!(settled, Settled::Unknown);
}

async fn what_a_plan_held_comes_back_on_another(subject: impl Subject) {
    let wanted = plenty("a");
    assert!(subject.is_let_in(&wanted).await);
    let mut moved = wanted.lease.clone();
    moved.scopes = vec![scope("plan:q", limits(|it| it.tokens_per_day = n(100)))];
    subject.progress(&moved, &halfway(4, 6)).await.unwrap();
    assert_eq!(state(&subject), [0, 6, 0, 60, 1]);
    subject.settle(&moved, &used(5, 50)).await.unwrap();
    assert_eq!(state(&subject), [0, 0, 0, 0, 0]);
    let other = subject.levels("a", "plan:q");
    assert!((other.money_month - 50.0).abs() < 1e-9);
    assert!(other.running.abs() < 1e-9 && other.held_tokens.abs() < 1e-9);
}

async fn a_key_counts_beside_its_plan(subject: impl Subject) {
    let plan = scope("plan:p", limits(|it| it.tokens_per_day = n(100_000)));
    let key = scope("key:k", limits(|it| it.tokens_per_day = n(1_000)));
    let wanted = request("a", vec![plan, key]);
    assert!(subject.is_let_in(&wanted).await);
    subject.settle(&wanted.lease, &used(7, 70)).await.unwrap();
    for name in ["plan:p", "key:k"] {
        let levels = subject.levels("a", name);
        assert!(
            levels.tokens_day > 6.0 && levels.tokens_day <= 7.0,
            "{name}"
        );
        assert!(levels.held_tokens.abs() < 1e-9 && levels.running.abs() < 1e-9);
    }
}

async fn many_leases_end_over_several_calls(subject: impl Subject) {
    let wanted = on_plan("a", |it| it.tokens_per_day = n(100_000));
    for _ in 0..700 {
        assert!(subject.is_let_in(&again(&wanted)).await);
    }
    subject.shift(LIFETIME * 2);
    let first = subject.sweep().await.unwrap();
    assert!(first > 0 && first < 700, "{first}");
    assert_eq!(first + subject.sweep_all().await, 700);
    assert_eq!(state(&subject), [0, 0, 0, 0, 0]);
    assert_eq!(subject.entries().await.len(), 700);
    subject.shift(Duration::from_secs(3_700));
    for _ in 0..8 {
        assert_eq!(subject.sweep().await.unwrap(), 0);
    }
    assert!(subject.is_let_in(&wanted).await);
    subject.shift(LIFETIME * 2);
    assert_eq!(subject.sweep_all().await, 1);
}

/// Requests per minute, per day and in total, tokens charged and held, and running requests.
fn counts(subject: &impl Subject) -> [u64; 6] {
    let levels = subject.levels("a", "plan:p");
    [
        levels.requests_minute,
        levels.requests_day,
        levels.requests_total,
        levels.tokens_day,
        levels.held_tokens,
        levels.running,
    ]
    .map(crate::levels::whole)
}

fn few(account: &str) -> Admission {
    on_plan(account, |it| {
        it.requests_per_minute = n(4);
        it.requests_per_day = n(100);
        it.requests_total = n(100);
        it.tokens_per_day = n(100);
        it.concurrent_requests = n(2);
    })
}

async fn what_is_refused_counts_per_minute_alone(subject: impl Subject) {
    let refused = Used {
        refused: true,
        ..used(0, 0)
    };
    let wanted = few("a");
    assert!(subject.is_let_in(&wanted).await);
    let told = subject.progress(&wanted.lease, &halfway(7, 3)).await;
    assert_eq!(told.unwrap(), Progressed::Renewed);
    assert_eq!(counts(&subject), [1, 1, 1, 7, 3, 1]);
    let end = whole(&wanted, refused.clone());
    for settled in [Settled::Done, Settled::Already] {
        let told = subject.settle(&wanted.lease, &end).await.unwrap();
        assert_eq!(told, settled);
        assert_eq!(counts(&subject), [1, 0, 0, 0, 0, 0]);
    }
    // A request that was admitted without the store.
    let elsewhere = again(&wanted);
    let end = whole(&elsewhere, refused);
    subject.charge(&elsewhere.lease, &end).await.unwrap();
    assert_eq!(counts(&subject), [2, 0, 0, 0, 0, 0]);
    // A request for which nothing was held.
    assert!(subject.refuses(&again(&wanted)).await.admitted);
    assert_eq!(counts(&subject), [3, 0, 0, 0, 0, 0]);
    assert!(subject.is_let_in(&again(&wanted)).await);
    let denied = subject.refuses(&again(&wanted)).await;
    assert!(!denied.admitted);
    let minute = denied.statuses.iter();
    let mut minute = minute.filter(|it| it.kind == LimitKind::RequestsPerMinute);
    assert!(matches!(
        minute.next().unwrap().denial,
        Some(Wait::Exactly(_))
    ));
    assert_eq!(counts(&subject), [4, 1, 1, 0, 10, 1]);
}

async fn what_is_refused_waits_for_a_place_beside_the_others(subject: impl Subject) {
    let wanted = few("a");
    for _ in 0..2 {
        assert!(subject.is_let_in(&again(&wanted)).await);
    }
    let denied = subject.refuses(&again(&wanted)).await;
    assert!(!denied.admitted);
    let places = denied.statuses.iter();
    let mut places = places.filter(|it| it.kind == LimitKind::ConcurrentRequests);
    assert_eq!(places.next().unwrap().denial, Some(Wait::ForOthers));
    let shadow = Admission {
        shadow: true,
        ..again(&wanted)
    };
    assert!(subject.refuses(&shadow).await.admitted);
    assert_eq!(counts(&subject), [3, 2, 2, 0, 20, 2]);
}

on_both!(
    what_is_refused_counts_per_minute_alone,
    what_is_refused_waits_for_a_place_beside_the_others,
    progress_moves_what_is_held,
    an_end_charges_once,
    what_was_never_admitted_is_unknown,
    what_was_never_admitted_can_be_charged,
    to_charge_a_lease_is_to_settle_it,
    a_lease_without_sign_of_life_is_billed_and_freed,
    a_late_sign_of_life_takes_its_place_again,
    an_expired_lease_is_forgotten_in_the_end,
    an_end_is_remembered_for_ten_minutes,
    what_a_plan_held_comes_back_on_another,
    a_key_counts_beside_its_plan,
    many_leases_end_over_several_calls,
);
