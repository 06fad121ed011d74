//! Tests of what plans do while the store cannot be reached.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_not_asked_until_it_does() {
    for fault in [Fault::Away, Fault::Silent] {
        let bench = Bench::new(Setting::default()).await;
        let closed = plan(OnLoss::Closed, Limits::default());
        bench.flaky.set(fault);
        let mut together = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let (limiter, wanted) = (Arc::clone(&bench.limiter), wanted(&closed, "acme"));
            together.spawn(async move { limiter.reserve(wanted).await });
        }
        assert!(together.join_all().await.iter().all(is_unavailable));
        assert!(bench.limiter.shared.calls.breaker.is_open());

        // Only the beat calls the store, and no request waits for it.
        let beats = bench.flaky.calls();
        for _ in 0..1_000 {
            assert!(is_unavailable(
                &bench.limiter.reserve(wanted(&closed, "acme")).await
            ));
        }
        assert!(bench.flaky.calls() - beats < 100);
        bench.find().await;
        assert!(bench.limiter.reserve(wanted(&closed, "acme")).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_router_learns_of_a_loss_by_its_beat() {
    let bench = Bench::new(Setting::default()).await;
    bench.flaky.set(Fault::Away);
    bench
        .until(|bench| bench.limiter.shared.calls.breaker.is_open())
        .await;
    bench.find().await;
}

#[tokio::test(start_paused = true)]
async fn open_lets_through_and_meters_afterwards() {
    let mut bench = Bench::new(Setting::default()).await;
    let open = plan(OnLoss::Open, requests_total(2));
    bench.lose(Fault::Away).await;
    for _ in 0..5 {
        let reservation = bench.limiter.reserve(wanted(&open, "acme")).await.unwrap();
        assert!(reservation.statuses().is_empty());
        reservation.settle(used(3, "ok")).await;
    }
    bench.find().await;
    for _ in 0..5 {
        assert_eq!(bench.event().await.0.completion_tokens, 3);
    }
    assert!(is_denied(
        &bench.limiter.reserve(wanted(&open, "acme")).await
    ));
}

#[tokio::test(start_paused = true)]
async fn local_enforces_this_routers_share_from_where_the_store_left_off() {
    let bench = Bench::with(Setting::default(), |flaky| {
        *flaky.others.lock().unwrap() = vec!["0".into()];
    });
    bench
        .until(|bench| bench.limiter.shared.local.routers().is_some())
        .await;
    let local = plan(OnLoss::Local, requests_total(100));
    for _ in 0..60 {
        bench.limiter.reserve(wanted(&local, "acme")).await.unwrap();
    }
    bench.lose(Fault::Away).await;
    for (account, left) in [("acme", 20), ("new", 50)] {
        let mut held = Vec::new();
        let denied = loop {
            assert!(held.len() < 1_000);
            match bench.limiter.reserve(wanted(&local, account)).await {
                Ok(reservation) => held.push(reservation),
                Err(LimitError::Denied { statuses }) => break statuses,
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(held.len(), left, "{account}");
        assert_eq!(denied[0].limit, 50);
        assert_eq!(
            denied[0].denial,
            Some(Wait::ForOthers),
            "another router may have some"
        );
    }
    // Then the store decides again, including the usage of the outage.
    bench.find().await;
    bench
        .until(|bench| bench.limiter.shared.backlog.bytes() == 0)
        .await;
    let reservation = bench.limiter.reserve(wanted(&local, "acme")).await.unwrap();
    assert_eq!(reservation.statuses()[0].used, 81);
}

#[tokio::test(start_paused = true)]
async fn who_was_let_in_without_the_store_is_counted_by_it_from_when_it_is_back() {
    let mut bench = Bench::new(Setting::default()).await;
    let limits = Limits {
        concurrent_requests: NonZeroU64::new(2),
        tokens_per_day: NonZeroU64::new(1_000),
        ..Limits::default()
    };
    for (number, on_loss) in [(1, OnLoss::Local), (2, OnLoss::Open)] {
        let (plan, account) = (plan(on_loss, limits), format!("account-{number}"));
        bench.lose(Fault::Away).await;
        let reservation = bench
            .limiter
            .reserve(wanted(&plan, &account))
            .await
            .unwrap();
        reservation.progress(used(30, "router_lost"));
        bench.find().await;
        bench
            .until(|bench| bench.limiter.shared.registry.outside_the_store().is_empty())
            .await;
        let second = bench
            .limiter
            .reserve(wanted(&plan, &account))
            .await
            .unwrap();
        assert!(is_denied(
            &bench.limiter.reserve(wanted(&plan, &account)).await
        ));
        reservation.settle(used(50, "ok")).await;
        let (event, part) = bench.event().await;
        assert_eq!((event.completion_tokens, &*event.code, part), (50, "ok", 0));
        second.settle(used(0, "ok")).await;
        bench.event().await;
        let last = bench
            .limiter
            .reserve(wanted(&plan, &account))
            .await
            .unwrap();
        let read = last.statuses().iter().map(|status| status.used);
        assert_eq!(read.collect::<Vec<_>>(), [150, 1]);
        drop(last);
        bench.event().await;
    }
    assert!(bench.end().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn several_routers_together_admit_a_limit_and_not_more() {
    for (limit, routers) in [(10, 3), (2, 5), (1, 2), (7, 7)] {
        let local = plan(OnLoss::Local, requests_total(limit));
        let shared = Local::new(Routers::default());
        let names: Vec<_> = (0..routers).map(|number| number.to_string()).collect();
        let mut admitted = 0;
        for name in &names {
            shared.forget();
            shared.heard(&names, name);
            for _ in 0..2 * limit {
                let lifetime = Duration::from_secs(30);
                let admission = reserve::admission(&wanted(&local, "acme"), lifetime, 0);
                let (_, decision) = shared.admit(&admission, 0).await.unwrap();
                if decision.admitted {
                    admitted += 1;
                } else {
                    let denial = decision.statuses[0].denial;
                    assert_eq!(denial, Some(Wait::ForOthers));
                }
            }
        }
        assert_eq!(admitted, limit, "{routers} routers");
    }
}

#[tokio::test(start_paused = true)]
async fn a_router_that_does_not_know_its_share_waits_for_the_store() {
    let away = |flaky: &Flaky| flaky.set(Fault::Away);
    let bench = Bench::with(Setting::default(), away);
    bench.lose(Fault::Away).await;
    let limited = plan(OnLoss::Local, requests_total(10));
    assert!(is_unavailable(
        &bench.limiter.reserve(wanted(&limited, "acme")).await
    ));
    let unlimited = plan(OnLoss::Local, Limits::default());
    assert!(
        bench
            .limiter
            .reserve(wanted(&unlimited, "acme"))
            .await
            .is_ok()
    );

    let told = Setting {
        routers: Some(4),
        ..Setting::default()
    };
    let bench = Bench::with(told, away);
    bench.lose(Fault::Away).await;
    for _ in 0..2 {
        assert!(
            bench
                .limiter
                .reserve(wanted(&limited, "acme"))
                .await
                .is_ok()
        );
    }
    assert!(is_denied(
        &bench.limiter.reserve(wanted(&limited, "acme")).await
    ));
}

/// The number of routers may vary by autoscaling. A router that does not know it assumes the largest number; one that
/// knows it takes its own share.
#[tokio::test(start_paused = true)]
async fn a_router_that_has_heard_of_no_other_takes_the_share_of_the_most_there_can_be() {
    let limited = plan(OnLoss::Local, requests_total(20));
    let told = Setting {
        routers: Some(2),
        most_routers: Some(10),
        ..Setting::default()
    };
    let new = Bench::with(told, |flaky| flaky.set(Fault::Away));
    let known = Bench::with(told, |flaky| {
        *flaky.others.lock().unwrap() = (0..3).map(|name| name.to_string()).collect();
    });
    known
        .until(|bench| bench.limiter.shared.local.routers() == Some(4))
        .await;
    for (bench, share) in [(new, 2), (known, 5)] {
        bench.lose(Fault::Away).await;
        for _ in 0..share {
            let admitted = bench.limiter.reserve(wanted(&limited, "acme")).await;
            assert!(admitted.is_ok(), "{share}");
        }
        let more = bench.limiter.reserve(wanted(&limited, "acme")).await;
        assert!(is_denied(&more), "{share}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shadow_plan_denies_nothing_without_the_store_either() {
    let told = Setting {
        routers: Some(4),
        ..Setting::default()
    };
    let bench = Bench::new(told).await;
    let mut shadow = Plan::clone(&plan(OnLoss::Local, requests_total(1)));
    shadow.shadow = true;
    let shadow = Arc::new(shadow);
    bench.lose(Fault::Away).await;
    for _ in 0..5 {
        assert!(bench.limiter.reserve(wanted(&shadow, "acme")).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_store_admitted_without_an_answer_is_given_back_when_it_answers_again() {
    let limits = Limits {
        concurrent_requests: NonZeroU64::new(1),
        ..requests_total(1)
    };
    for fault in [Fault::NoAnswers, Fault::SilentAnswers] {
        let mut bench = Bench::new(Setting::default()).await;
        let closed = plan(OnLoss::Closed, limits);
        // The admission takes effect; later calls do not arrive.
        bench.flaky.set(fault);
        let reserved = bench.limiter.reserve(wanted(&closed, "acme")).await;
        assert!(is_unavailable(&reserved), "{fault:?}");
        bench.lose(Fault::Away).await;
        bench.find().await;
        let (event, part) = bench.event().await;
        let ended = (event.status, &*event.code, event.completion_tokens, part);
        assert_eq!(ended, (503, "limits_unavailable", 0, 0), "{fault:?}");
        let next = bench.limiter.reserve(wanted(&closed, "acme")).await;
        next.unwrap().settle(used(1, "ok")).await;
        bench.event().await;
        assert!(bench.end().await.is_empty(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_store_never_heard_of_leaves_no_event() {
    let bench = Bench::new(Setting::default()).await;
    let closed = plan(OnLoss::Closed, requests_total(1));
    bench.flaky.set(Fault::Away);
    let reserved = bench.limiter.reserve(wanted(&closed, "acme")).await;
    assert!(is_unavailable(&reserved));
    bench.lose(Fault::Away).await;
    bench.find().await;
    bench
        .until(|bench| bench.limiter.shared.backlog.bytes() == 0)
        .await;
    assert!(bench.limiter.reserve(wanted(&closed, "acme")).await.is_ok());
    let events = bench.end().await;
    let codes: Vec<_> = events.iter().map(|event| event.code.as_str()).collect();
    assert_eq!(
        codes,
        ["client_left"],
        "of the request that was admitted at last"
    );
}

/// Admits a request while the store cannot be reached; also returns what `rejoin` needs.
async fn let_in_without_the_store(
    bench: &Bench,
    plan: &Arc<Plan>,
) -> (Reservation, Arc<reservation::Running>, Admission) {
    bench.lose(Fault::Away).await;
    let wanted = wanted(plan, "acme");
    let shared = &bench.limiter.shared;
    let admission = reserve::admission(&wanted, shared.lease_time, shared.clock.now_us());
    let reservation = bench.limiter.reserve(wanted).await.unwrap();
    let running = shared.registry.outside_the_store().pop().unwrap();
    (reservation, running, admission)
}

#[tokio::test(start_paused = true)]
async fn the_usage_of_a_request_that_ends_while_it_rejoins_the_store_is_charged() {
    let mut bench = Bench::new(Setting::default()).await;
    let open = plan(OnLoss::Open, requests_total(1));
    let (reservation, running, admission) = let_in_without_the_store(&bench, &open).await;
    // Admitted before the charge, which has to wait for the store.
    bench.flaky.memory().admit(&admission).await.unwrap();
    reservation.settle(used(7, "ok")).await;
    bench.flaky.set(Fault::None);
    bench.limiter.shared.calls.breaker.close();
    rejoin::entered(&bench.limiter.shared, &running).await;
    let (event, part) = bench.event().await;
    assert_eq!((event.completion_tokens, &*event.code, part), (7, "ok", 0));
    assert!(bench.end().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_rejoins_the_store_after_its_end_holds_nothing() {
    let mut bench = Bench::new(Setting::default()).await;
    let limits = Limits {
        concurrent_requests: NonZeroU64::new(1),
        ..Limits::default()
    };
    let open = plan(OnLoss::Open, limits);
    let (reservation, running, admission) = let_in_without_the_store(&bench, &open).await;
    bench.flaky.set(Fault::None);
    bench.limiter.shared.calls.breaker.close();
    reservation.settle(used(7, "ok")).await;
    assert_eq!(bench.event().await.0.completion_tokens, 7, "charged first");
    bench.flaky.memory().admit(&admission).await.unwrap();
    rejoin::entered(&bench.limiter.shared, &running).await;
    let next = bench.limiter.reserve(wanted(&open, "acme")).await;
    assert_eq!(next.unwrap().statuses()[0].used, 1);
}
