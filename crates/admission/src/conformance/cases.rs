//! Cases about admission, and about the reported statuses.

use std::time::Duration;

use super::subject::Subject;
use super::{LIFETIME, again, limits, n, on_both, on_plan, request, scope, used, whole};
use crate::kind::LimitKind;
use crate::store::{Admission, AdmissionDecision, LimitStatus, Settled, Wait};
use inferyard_catalog::Limits;

const DAY: Duration = Duration::from_hours(24);

fn denial(decision: &AdmissionDecision, kind: LimitKind) -> Option<Wait> {
    let status = decision.statuses.iter().find(|it| it.kind == kind);
    status.expect("the limit should be read").denial
}

/// A name, a limit that two requests reach, and how long the third waits; `None`: [`Wait::Exactly`].
type Case = (&'static str, fn(&mut Limits), Option<Wait>);

async fn every_limit_lets_in_what_fits(subject: impl Subject) {
    let cases: [Case; 7] = [
        ("rpm", |it| it.requests_per_minute = n(2), None),
        ("rpd", |it| it.requests_per_day = n(2), None),
        ("total", |it| it.requests_total = n(2), Some(Wait::ForEver)),
        (
            "tpm",
            |it| it.tokens_per_minute = n(29),
            Some(Wait::ForOthers),
        ),
        ("tpd", |it| it.tokens_per_day = n(29), Some(Wait::ForOthers)),
        (
            "concurrent",
            |it| it.concurrent_requests = n(2),
            Some(Wait::ForOthers),
        ),
        (
            "budget",
            |it| it.budget_per_month = n(299),
            Some(Wait::ForOthers),
        ),
    ];
    for (account, set, wait) in cases {
        let wanted = on_plan(account, set);
        for _ in 0..2 {
            assert!(subject.is_let_in(&again(&wanted)).await, "{account}");
        }
        let denied = subject.ask(&wanted).await;
        assert!(!denied.admitted, "{account}");
        let [status] = &denied.statuses[..] else {
            panic!("{account}: {denied:?}");
        };
        match (wait, status.denial) {
            (None, Some(Wait::Exactly(wait))) => {
                assert!(wait > Duration::from_secs(1), "{account}");
            }
            (expected, wait) => assert_eq!(wait, expected, "{account}"),
        }
        assert!(status.used <= status.limit, "{account}: {status:?}");
    }
}

async fn a_denied_request_touches_no_meter(subject: impl Subject) {
    let plan = scope("plan:p", limits(|it| it.requests_per_day = n(100)));
    let key = scope("key:k", limits(|it| it.requests_total = n(1)));
    let wanted = request("a", vec![plan, key]);
    assert!(subject.is_let_in(&wanted).await);
    let before = (subject.levels("a", "plan:p"), subject.levels("a", "key:k"));
    let denied = subject.ask(&again(&wanted)).await;
    assert!(!denied.admitted);
    assert_eq!(denial(&denied, LimitKind::RequestsPerDay), None);
    assert_eq!(
        denial(&denied, LimitKind::RequestsTotal),
        Some(Wait::ForEver)
    );
    let after = (subject.levels("a", "plan:p"), subject.levels("a", "key:k"));
    assert_eq!(before, after);
}

async fn a_repeated_admission_is_one(subject: impl Subject) {
    let wanted = on_plan("a", |it| it.requests_total = n(1));
    let first = subject.ask(&wanted).await;
    let second = subject.ask(&wanted).await;
    assert_eq!(first, second);
    assert!(second.admitted);
    let levels = subject.levels("a", "plan:p");
    assert_eq!((levels.requests_total, levels.running), (1.0, 1.0));
}

async fn a_denied_request_is_let_in_after_exactly_its_wait(subject: impl Subject) {
    let wanted = on_plan("a", |it| it.requests_per_day = n(10));
    for _ in 0..10 {
        assert!(subject.is_let_in(&again(&wanted)).await);
    }
    let Some(Wait::Exactly(wait)) = denial(&subject.ask(&wanted).await, LimitKind::RequestsPerDay)
    else {
        panic!("it should know how long");
    };
    let expected = DAY / 10;
    assert!(
        wait <= expected && wait + Duration::from_mins(1) > expected,
        "{wait:?}"
    );
    subject.shift(wait.saturating_sub(Duration::from_mins(2)));
    assert!(!subject.is_let_in(&wanted).await);
    subject.shift(Duration::from_mins(2));
    assert!(subject.is_let_in(&wanted).await);
}

async fn what_was_used_leaks_and_totals_stay(subject: impl Subject) {
    let wanted = on_plan("a", |it| {
        it.tokens_per_day = n(1_000);
        it.requests_total = n(100);
    });
    assert!(subject.is_let_in(&wanted).await);
    subject
        .settle(&wanted.lease, &used(1_000, 0))
        .await
        .unwrap();
    assert!(!subject.is_let_in(&again(&wanted)).await);
    subject.shift(DAY / 2);
    let decision = subject.ask(&again(&wanted)).await;
    let tokens = &decision.statuses[1];
    assert!(decision.admitted);
    assert!((505..=511).contains(&tokens.used), "{tokens:?}");
    assert_eq!(decision.statuses[0].used, 2);
}

async fn debt_is_waited_for(subject: impl Subject) {
    let wanted = on_plan("a", |it| it.tokens_per_day = n(100));
    assert!(subject.is_let_in(&wanted).await);
    subject.settle(&wanted.lease, &used(250, 0)).await.unwrap();
    let next = again(&wanted);
    let denied = subject.ask(&next).await;
    let Some(Wait::Exactly(wait)) = denial(&denied, LimitKind::TokensPerDay) else {
        panic!("{denied:?}");
    };
    assert!(denied.statuses[0].used > 240);
    assert!(wait > DAY && wait < DAY * 2, "{wait:?}");
    subject.shift(wait);
    assert!(subject.is_let_in(&next).await);
}

async fn what_never_fits_says_so(subject: impl Subject) {
    let wanted = on_plan("a", |it| {
        it.tokens_per_minute = n(9);
        it.budget_per_month = n(99);
    });
    let denied = subject.ask(&wanted).await;
    assert!(!denied.admitted);
    assert_eq!(
        denial(&denied, LimitKind::TokensPerMinute),
        Some(Wait::ForEver)
    );
    assert_eq!(
        denial(&denied, LimitKind::BudgetPerMonth),
        Some(Wait::ForEver)
    );
}

async fn the_rest_of_a_budget_is_granted(subject: impl Subject) {
    let wanted = Admission {
        money: 100,
        least_money: 20,
        ..on_plan("a", |it| it.budget_per_month = n(150))
    };
    assert_eq!(subject.ask(&wanted).await.money, 100);
    let rest = again(&wanted);
    assert_eq!(subject.ask(&rest).await.money, 50);
    let none = subject.ask(&again(&wanted)).await;
    assert_eq!(
        denial(&none, LimitKind::BudgetPerMonth),
        Some(Wait::ForOthers)
    );
    for lease in [&wanted.lease, &rest.lease] {
        subject.settle(lease, &used(1, 70)).await.unwrap();
    }
    let none = subject.ask(&again(&wanted)).await;
    let Some(Wait::Exactly(wait)) = denial(&none, LimitKind::BudgetPerMonth) else {
        panic!("{none:?}");
    };
    subject.shift(wait);
    assert_eq!(subject.ask(&again(&wanted)).await.money, 100);
}

async fn a_new_month_begins_with_its_first_charge(subject: impl Subject) {
    let wanted = on_plan("a", |it| it.budget_per_month = n(1_000));
    assert!(subject.is_let_in(&wanted).await);
    subject
        .progress(&wanted.lease, &used(1, 700))
        .await
        .unwrap();
    subject.shift(DAY * 32);
    subject.settle(&wanted.lease, &used(1, 750)).await.unwrap();
    let spent = subject.levels("a", "plan:p").money_month;
    assert!((spent - 50.0).abs() < 1e-9, "{spent}");
}

async fn shadow_lets_in_and_tells(subject: impl Subject) {
    let wanted = Admission {
        shadow: true,
        ..on_plan("a", |it| {
            it.requests_total = n(1);
            it.budget_per_month = n(150);
        })
    };
    let first = subject.ask(&wanted).await;
    assert!(first.statuses.iter().all(|it| it.denial.is_none()));
    let second = subject.ask(&again(&wanted)).await;
    assert_eq!((second.admitted, second.money), (true, 100));
    assert_eq!(
        denial(&second, LimitKind::RequestsTotal),
        Some(Wait::ForEver)
    );
    assert_eq!(
        denial(&second, LimitKind::BudgetPerMonth),
        Some(Wait::ForOthers)
    );
    assert_eq!(second.statuses[0].used, 2);
}

async fn a_larger_plan_keeps_what_was_used(subject: impl Subject) {
    let small = on_plan("a", |it| it.requests_per_day = n(2));
    for _ in 0..2 {
        assert!(subject.is_let_in(&again(&small)).await);
    }
    let large = on_plan("a", |it| it.requests_per_day = n(3));
    assert!(subject.is_let_in(&large).await);
    assert!(!subject.is_let_in(&again(&large)).await);
}

async fn a_later_limit_knows_totals_and_money(subject: impl Subject) {
    let free = on_plan("a", |_| ());
    assert!(subject.is_let_in(&free).await);
    subject.settle(&free.lease, &used(5, 60)).await.unwrap();
    let bound = on_plan("a", |it| {
        it.requests_total = n(10);
        it.budget_per_month = n(1_000);
    });
    let decision = subject.ask(&bound).await;
    let statuses: Vec<_> = decision.statuses.iter().map(|it| it.used).collect();
    assert_eq!(statuses, [2, 160]);
}

async fn a_clock_that_goes_back_leaks_nothing_twice(subject: impl Subject) {
    let wanted = on_plan("a", |it| it.requests_per_day = n(24));
    subject.shift(DAY);
    for _ in 0..24 {
        assert!(subject.is_let_in(&again(&wanted)).await);
    }
    let hour = Duration::from_hours(1);
    subject.shift(hour * 2);
    for _ in 0..2 {
        assert!(subject.is_let_in(&again(&wanted)).await);
    }
    subject.shift_back(hour * 6);
    assert!(!subject.is_let_in(&again(&wanted)).await);
    subject.shift(hour * 6);
    assert!(!subject.is_let_in(&again(&wanted)).await);
    subject.shift(hour);
    assert!(subject.is_let_in(&wanted).await);
}

async fn a_request_that_runs_may_hold_as_much_as_others_leave(subject: impl Subject) {
    let budget = |limit| limits(|it| it.budget_per_month = n(limit));
    let scopes = vec![scope("plan:p", budget(1_000)), scope("key:k", budget(800))];
    let wanted = Admission {
        money: 100,
        least_money: 10,
        ..request("a", scopes)
    };
    let other = again(&wanted);
    assert!(subject.is_let_in(&wanted).await);
    assert!(subject.is_let_in(&other).await);
    let raise = async |money, least_money| {
        let wanted = Admission {
            money,
            least_money,
            ..wanted.clone()
        };
        let decision = subject.ask_again(&wanted).await.unwrap();
        (decision.admitted, decision.money)
    };
    let held = || subject.levels("a", "key:k").held_money;
    assert_eq!(raise(300, 300).await, (true, 300));
    assert!((held() - 400.0).abs() < 1e-9);
    // What the lease holds itself counts as left.
    assert_eq!(raise(900, 700).await, (true, 700));
    assert_eq!(raise(900, 701).await, (false, 0), "and nothing changes");
    assert!((held() - 800.0).abs() < 1e-9);
    assert_eq!(raise(40, 40).await, (true, 40));
    for scope in ["plan:p", "key:k"] {
        assert!((subject.levels("a", scope).held_money - 140.0).abs() < 1e-9);
    }
    // A repeated admission returns what it holds now.
    assert_eq!(subject.ask(&wanted).await.money, 40);
    let end = whole(&wanted, used(1, 40));
    subject.settle(&wanted.lease, &end).await.unwrap();
    assert!((held() - 100.0).abs() < 1e-9);
    assert_eq!(subject.ask_again(&wanted).await, None, "it is over");
    subject.shift(LIFETIME * 2);
    subject.sweep_all().await;
    assert_eq!(subject.ask_again(&other).await, None, "it has expired");
    assert_eq!(
        subject.ask_again(&again(&wanted)).await,
        None,
        "it never was"
    );
}

async fn what_is_missing_of_a_budget_is_told(subject: impl Subject) {
    let wanted = on_plan("a", |it| it.budget_per_month = n(1_000));
    assert!(subject.is_let_in(&wanted).await);
    let other = again(&wanted);
    assert!(subject.is_let_in(&other).await);
    subject
        .settle(&other.lease, &whole(&other, used(1, 600)))
        .await
        .unwrap();
    let ask = async |least_money| {
        let wanted = Admission {
            money: 2_000,
            least_money,
            ..wanted.clone()
        };
        let decision = subject.ask_again(&wanted).await.unwrap();
        assert!(!decision.admitted);
        let [status] = &decision.statuses[..] else {
            panic!("{decision:?}");
        };
        let LimitStatus {
            used,
            requested,
            denial,
            ..
        } = status.clone();
        (used, requested, denial.unwrap())
    };
    let (spent, needed, wait) = ask(401).await;
    assert_eq!((spent, needed), (600, 401));
    assert!(matches!(wait, Wait::Exactly(_)), "{wait:?}");
    assert_eq!(ask(1_001).await, (600, 1_001, Wait::ForEver));
}

async fn accounts_and_scopes_do_not_share(subject: impl Subject) {
    let one = |account: &str, name: &str| {
        request(
            account,
            vec![scope(name, limits(|it| it.requests_total = n(1)))],
        )
    };
    for (account, name) in [
        ("a", "plan:p"),
        ("a", "plan:q"),
        ("a", "key:p"),
        ("b", "plan:p"),
    ] {
        assert!(subject.is_let_in(&one(account, name)).await);
        assert!(!subject.is_let_in(&one(account, name)).await);
    }
}

async fn without_scopes_all_is_let_in_and_billed(subject: impl Subject) {
    let wanted = request("a", Vec::new());
    assert!(subject.is_let_in(&wanted).await);
    let settled = subject.settle(&wanted.lease, &used(3, 4)).await.unwrap();
    assert_eq!(settled, Settled::Done);
    assert_eq!(subject.entries().await.len(), 1);
    let unknown = request("a", Vec::new());
    let all = whole(&unknown, used(3, 4));
    let charged = subject.charge(&unknown.lease, &all).await;
    assert_eq!(charged.unwrap(), Settled::Done);
}

on_both!(
    every_limit_lets_in_what_fits,
    a_denied_request_touches_no_meter,
    a_repeated_admission_is_one,
    a_denied_request_is_let_in_after_exactly_its_wait,
    what_was_used_leaks_and_totals_stay,
    debt_is_waited_for,
    what_never_fits_says_so,
    the_rest_of_a_budget_is_granted,
    a_new_month_begins_with_its_first_charge,
    shadow_lets_in_and_tells,
    a_larger_plan_keeps_what_was_used,
    a_later_limit_knows_totals_and_money,
    a_clock_that_goes_back_leaks_nothing_twice,
    a_request_that_runs_may_hold_as_much_as_others_leave,
    what_is_missing_of_a_budget_is_told,
    accounts_and_scopes_do_not_share,
    without_scopes_all_is_let_in_and_billed,
);
