//! Tests of what a request holds, and how that is released.

use super::*;

fn concurrent(limit: u64) -> Limits {
    Limits {
        concurrent_requests: NonZeroU64::new(limit),
        ..Limits::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_let_in_counted_and_settled_once() {
    let mut bench = Bench::new(Setting::default()).await;
    let plan = plan(OnLoss::Local, requests_total(1));
    let wanted = wanted(&plan, "acme");
    let reservation = bench.limiter.reserve(wanted.clone()).await.unwrap();
    assert_eq!(reservation.statuses()[0].used, 1);
    assert!(is_denied(
        &bench.limiter.reserve(super::wanted(&plan, "acme")).await
    ));
    assert!(
        bench
            .limiter
            .reserve(super::wanted(&plan, "other"))
            .await
            .is_ok()
    );
    reservation.settle(used(7, "ok")).await;
    let (left, _) = bench.event().await;
    assert_eq!(left.account, "other", "dropped at once");
    let (event, part) = bench.event().await;
    assert_eq!((event.completion_tokens, &*event.code, part), (7, "ok", 0));
    assert_eq!(event.account, "acme");
    assert!(bench.end().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_reservation_is_that_of_a_client_that_left() {
    let mut bench = Bench::new(Setting::default()).await;
    let plan = plan(OnLoss::Local, concurrent(1));
    let reservation = bench.limiter.reserve(wanted(&plan, "acme")).await.unwrap();
    reservation.progress(used(40, "router_lost"));
    drop(reservation);
    let (event, _) = bench.event().await;
    assert_eq!(event.completion_tokens, 40);
    assert_eq!((&*event.code, event.status), ("client_left", 499));
    assert!(event.ended_us > 0);
    assert!(bench.limiter.reserve(wanted(&plan, "acme")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_before_the_answer_of_the_store_holds_nothing() {
    let mut bench = Bench::new(Setting::default()).await;
    let plan = plan(OnLoss::Local, concurrent(1));
    bench.flaky.set(Fault::SilentAnswers);
    let before = bench.flaky.calls();
    {
        let reserve = bench.limiter.reserve(wanted(&plan, "acme"));
        tokio::pin!(reserve);
        let asked = bench.until(|bench| bench.flaky.calls() > before);
        tokio::select! {
            biased;
            _ = &mut reserve => unreachable!("nobody answers"),
            () = asked => {}
        }
        bench.flaky.set(Fault::None);
    }
    let (event, _) = bench.event().await;
    assert_eq!((event.completion_tokens, &*event.code), (0, "client_left"));
    assert!(bench.limiter.reserve(wanted(&plan, "acme")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn progress_is_due_by_tokens_and_is_billed_if_the_router_dies() {
    let setting = Setting {
        lease_time: Duration::from_millis(400),
        ..Setting::default()
    };
    let mut bench = Bench::new(setting).await;
    let plan = plan(OnLoss::Local, Limits::default());
    let reservation = bench.limiter.reserve(wanted(&plan, "acme")).await.unwrap();
    assert!(reservation.is_due(512));
    reservation.progress(used(512, "router_lost"));
    assert!(!reservation.is_due(513) && reservation.is_due(1_024));
    let before = bench.flaky.calls();
    bench.until(|bench| bench.flaky.calls() > before).await;

    // The router dies: its requests are no longer reported, and another router sweeps.
    bench.running.abort();
    let memory = bench.flaky.memory();
    let swept = async {
        while memory.sweep().await.unwrap() == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, swept).await.unwrap();
    let (event, _) = bench.event().await;
    assert_eq!(
        (event.completion_tokens, &*event.code),
        (512, "router_lost")
    );
    std::mem::forget(reservation);
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_request_that_waits_in_silence_is_renewed() {
    let lease_time = Duration::from_secs(30);
    let setting = Setting {
        lease_time,
        ..Setting::default()
    };
    let bench = Bench::new(setting).await;
    let plan = plan(OnLoss::Local, concurrent(1));
    let reservation = bench.limiter.reserve(wanted(&plan, "acme")).await.unwrap();
    sleep(3 * lease_time).await;
    assert_eq!(bench.flaky.memory().sweep().await.unwrap(), 0);
    assert!(is_denied(
        &bench.limiter.reserve(wanted(&plan, "acme")).await
    ));
    reservation.settle(used(1, "ok")).await;
    let events = bench.end().await;
    assert_eq!(events.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_preview_has_a_pool_for_all_its_callers() {
    let bench = Bench::new(Setting::default()).await;
    let mut plan = Plan::unrestricted("preview");
    plan.preview = Some(inferyard_catalog::Preview {
        sign_up: None,
        tokens_per_day: NonZeroU64::new(100),
    });
    let plan = Arc::new(plan);
    assert!(bench.limiter.pool(&plan));
    for account in ["one", "two"] {
        assert!(bench.limiter.pool(&plan));
        let reservation = bench.limiter.reserve(wanted(&plan, account)).await.unwrap();
        reservation.settle(used(50, "ok")).await;
    }
    assert!(!bench.limiter.pool(&plan));
}
