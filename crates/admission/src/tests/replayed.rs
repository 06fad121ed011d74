//! Tests that usage from an outage of the store is replayed to it once.

use super::*;

fn on_disk(folder: &Path) -> Setting<'_> {
    Setting {
        spool: Some(folder),
        ..Setting::default()
    }
}

fn unlimited() -> Arc<Plan> {
    plan(OnLoss::Open, Limits::default())
}

async fn total(bench: &mut Bench, count: usize) -> u64 {
    let mut total = 0;
    for _ in 0..count {
        let (event, part) = bench.event().await;
        assert_eq!((part, &*event.code), (0, "ok"));
        total += event.completion_tokens;
    }
    total
}

#[tokio::test(start_paused = true)]
async fn ends_that_the_store_does_not_take_are_on_disk_when_the_answer_ends() {
    let folder = tempfile::tempdir().unwrap();
    for fault in [Fault::Away, Fault::Silent, Fault::NoAnswers] {
        let mut bench = Bench::new(on_disk(folder.path())).await;
        let plan = unlimited();
        let mut running = Vec::new();
        for _ in 0..20 {
            running.push(bench.limiter.reserve(wanted(&plan, "acme")).await.unwrap());
        }
        bench.flaky.set(fault);
        let mut settling = tokio::task::JoinSet::new();
        for (number, reservation) in (0_u64..).zip(running) {
            settling.spawn(reservation.settle(used(number, "ok")));
        }
        settling.join_all().await;
        let spool = bench.limiter.shared.backlog.spool.as_ref().unwrap();
        assert!(spool.bytes() > 0, "{fault:?}");
        bench.find().await;
        bench
            .until(|bench| bench.limiter.shared.backlog.bytes() == 0)
            .await;
        assert_eq!(total(&mut bench, 20).await, 190, "{fault:?}");
        assert!(bench.end().await.is_empty(), "{fault:?}: each one once");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_router_left_is_brought_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let plan = unlimited();
    let dead = Bench::new(on_disk(folder.path())).await;
    dead.lose(Fault::Away).await;
    for number in 0..10 {
        let reservation = dead.limiter.reserve(wanted(&plan, "acme")).await.unwrap();
        reservation.settle(used(number, "ok")).await;
    }
    dead.running.abort();
    assert!(dead.running.await.unwrap_err().is_cancelled());
    drop(dead.limiter);

    let mut next = Bench::new(on_disk(folder.path())).await;
    assert_eq!(total(&mut next, 10).await, 45);
    next.until(|bench| bench.limiter.shared.backlog.bytes() == 0)
        .await;
    assert!(next.end().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_folder_they_wait_in_memory() {
    let mut bench = Bench::new(Setting::default()).await;
    bench.lose(Fault::Away).await;
    let reservation = bench
        .limiter
        .reserve(wanted(&unlimited(), "acme"))
        .await
        .unwrap();
    reservation.settle(used(5, "ok")).await;
    assert!(bench.limiter.shared.backlog.has_in_memory());
    bench.find().await;
    assert_eq!(total(&mut bench, 1).await, 5);
    assert!(!bench.limiter.shared.backlog.has_in_memory());
}

#[tokio::test(start_paused = true)]
async fn ends_that_are_under_way_are_awaited_at_shutdown() {
    let bench = Bench::new(Setting::default()).await;
    let plan = unlimited();
    for number in 0..50 {
        let reservation = bench.limiter.reserve(wanted(&plan, "acme")).await.unwrap();
        drop(reservation.settle(used(number, "ok")));
    }
    let events = bench.end().await;
    assert_eq!(events.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_lost_its_data_is_told_everything() {
    let mut bench = Bench::new(Setting::default()).await;
    let limited = plan(OnLoss::Local, requests_total(10));
    let reservation = bench
        .limiter
        .reserve(wanted(&limited, "acme"))
        .await
        .unwrap();
    let (sender, outbox) = mpsc::channel(100);
    bench.flaky.lose_data(Some(sender));
    bench.outbox = outbox;
    reservation.settle(used(9, "ok")).await;
    let (event, _) = bench.event().await;
    assert_eq!((event.completion_tokens, &*event.account), (9, "acme"));
    let next = bench
        .limiter
        .reserve(wanted(&limited, "acme"))
        .await
        .unwrap();
    assert_eq!(next.statuses()[0].used, 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_in_whose_use_there_is_no_room_to_keep() {
    let folder = tempfile::tempdir().unwrap();
    let setting = Setting {
        backlog: 200,
        ..on_disk(folder.path())
    };
    let mut bench = Bench::new(setting).await;
    let plan = unlimited();
    bench.lose(Fault::Away).await;
    let mut kept = 0;
    while let Ok(reservation) = bench.limiter.reserve(wanted(&plan, "acme")).await {
        reservation.settle(used(1, "ok")).await;
        kept += 1;
        assert!(kept < 100);
    }
    assert!(kept >= 1);
    bench.find().await;
    assert_eq!(total(&mut bench, kept).await, kept as u64);
    bench
        .until(|bench| bench.limiter.shared.backlog.bytes() == 0)
        .await;
    assert!(bench.limiter.reserve(wanted(&plan, "acme")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_entry_costs_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let plan = unlimited();
    let dead = Bench::new(on_disk(folder.path())).await;
    dead.lose(Fault::Away).await;
    for _ in 0..3 {
        let reservation = dead.limiter.reserve(wanted(&plan, "acme")).await.unwrap();
        reservation.settle(used(5, "ok")).await;
    }
    dead.running.abort();
    let _ = dead.running.await;
    drop(dead.limiter);
    let segments = std::fs::read_dir(folder.path()).unwrap();
    let mut segments = segments.map(|file| file.unwrap().path());
    let segment = segments.find(|path| path.extension().is_some()).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[30] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let mut next = Bench::new(on_disk(folder.path())).await;
    assert_eq!(total(&mut next, 2).await, 10);
    next.until(|bench| bench.limiter.shared.backlog.bytes() == 0)
        .await;
    let metrics = &next.limiter.shared.metrics;
    assert_eq!(metrics.unreadable.get(), 1);
    assert_eq!(metrics.replayed.get(), 2);
}

/// Makes the store forget settled ids, as it does after ten to twenty minutes.
async fn forget_settled(memory: &Memory) {
    // The first sweep only starts the first period.
    for _ in 0..3 {
        memory.shift(clock::micros(Duration::from_mins(11)));
        memory.sweep().await.unwrap();
    }
}

/// The store answers 90 calls, and then fails again.
async fn lose_in_the_middle(bench: &Bench) {
    bench.flaky.answers_left.store(90, Ordering::SeqCst);
    bench.flaky.set(Fault::None);
    let is_lost = |bench: &Bench| {
        let shared = &bench.limiter.shared;
        shared.metrics.replayed.get() > 0 && shared.calls.breaker.is_open()
    };
    bench.until(is_lost).await;
}

#[tokio::test]
async fn a_loss_in_the_middle_of_a_segment_charges_nothing_twice() {
    const ENDS: u64 = 150;
    let folder = tempfile::tempdir().unwrap();
    for without_disk in [false, true] {
        let setting = if without_disk {
            Setting::default()
        } else {
            on_disk(folder.path())
        };
        let mut bench = Bench::new(setting).await;
        let plan = plan(OnLoss::Open, requests_total(1_000));
        bench.lose(Fault::Away).await;
        for _ in 0..ENDS {
            let reservation = bench.limiter.reserve(wanted(&plan, "acme")).await.unwrap();
            reservation.settle(used(1, "ok")).await;
        }
        // The store takes some of them, fails, and has forgotten their ids when it is back.
        lose_in_the_middle(&bench).await;
        let taken = bench.limiter.shared.metrics.replayed.get();
        assert!((1..ENDS).contains(&taken), "{taken}");
        forget_settled(&bench.flaky.memory()).await;
        bench.find().await;
        bench
            .until(|bench| bench.limiter.shared.backlog.bytes() == 0)
            .await;
        let levels = bench.flaky.memory().levels("acme", "plan:p");
        assert_eq!(levels.requests_total.to_bits(), 150_f64.to_bits());
        assert_eq!(total(&mut bench, 150).await, ENDS);
        assert!(bench.end().await.is_empty(), "each one once");
    }
}

#[tokio::test]
async fn what_a_process_has_brought_is_not_brought_again_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(OnLoss::Open, requests_total(1_000));
    let mut dead = Bench::new(on_disk(folder.path())).await;
    dead.lose(Fault::Away).await;
    for _ in 0..150 {
        let reservation = dead.limiter.reserve(wanted(&plan, "acme")).await.unwrap();
        reservation.settle(used(1, "ok")).await;
    }
    lose_in_the_middle(&dead).await;
    let taken = dead.limiter.shared.metrics.replayed.get();
    assert_eq!(
        total(&mut dead, usize::try_from(taken).unwrap()).await,
        taken
    );
    dead.running.abort();
    let _ = dead.running.await;
    drop(dead.limiter);

    // Another store, which knows none of them.
    let mut next = Bench::new(on_disk(folder.path())).await;
    let left = 150 - taken;
    assert_eq!(total(&mut next, usize::try_from(left).unwrap()).await, left);
    next.until(|bench| bench.limiter.shared.backlog.bytes() == 0)
        .await;
    assert!(next.end().await.is_empty());
}
