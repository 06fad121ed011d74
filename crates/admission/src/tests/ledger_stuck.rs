//! Tests with a ledger in this process that takes no events: nothing waits for it, and no request is admitted.

use super::*;

/// A limiter in memory with an outbox of this capacity in events, which only the test reads.
fn limiter(capacity: usize) -> (Limiter, mpsc::Receiver<Entry>) {
    let (outbox, entries) = mpsc::channel(capacity);
    let config = LimitsConfig {
        store: LimitStore::Memory {
            outbox: Some(outbox),
        },
        ..LimitsConfig::default()
    };
    let limiter = Limiter::new(config, metrics());
    (limiter.unwrap(), entries)
}

fn is_full<T>(result: &Result<T, LimitError>) -> bool {
    let why = NoRoom::Ledger;
    matches!(result, Err(LimitError::NoRoom { why: found, .. }) if *found == why)
}

#[tokio::test]
async fn who_runs_is_settled_at_once_and_nobody_else_is_let_in() {
    let (limiter, mut entries) = limiter(8);
    let plan = plan(OnLoss::Open, Limits::default());
    let mut running = Vec::new();
    for _ in 0..8 {
        running.push(limiter.reserve(wanted(&plan, "acme")).await.unwrap());
    }
    for (number, reservation) in running.into_iter().enumerate() {
        assert_eq!(limiter.room().is_err(), number >= 4);
        let settling = reservation.settle(used(1, "ok"));
        assert!(matches!(settling, Settling::Safe), "number {number} waits");
    }
    assert!(is_full(&limiter.reserve(wanted(&plan, "acme")).await));
    assert_eq!(limiter.shared.calls.backing.waiting(), 8);

    // The ledger takes half of them.
    for _ in 0..5 {
        entries.try_recv().unwrap();
    }
    assert!(limiter.room().is_ok());
    assert!(limiter.reserve(wanted(&plan, "acme")).await.is_ok());
}

#[tokio::test]
async fn what_finds_no_room_at_all_is_told_later() {
    let (limiter, mut entries) = limiter(2);
    let limiter = Arc::new(limiter);
    let plan = plan(OnLoss::Open, Limits::default());
    let mut running = Vec::new();
    for _ in 0..5 {
        running.push(limiter.reserve(wanted(&plan, "acme")).await.unwrap());
    }
    for reservation in running {
        timeout(BOUND, reservation.settle(used(1, "ok")))
            .await
            .unwrap();
    }
    let shutdown = CancellationToken::new();
    let life = {
        let (limiter, shutdown) = (Arc::clone(&limiter), shutdown.clone());
        tokio::spawn(async move { limiter.run(shutdown).await })
    };
    let mut ids = std::collections::HashSet::new();
    for _ in 0..5 {
        let entry = timeout(BOUND, entries.recv()).await.unwrap().unwrap();
        ids.insert(UsageEvent::decode(entry.event).unwrap().request_id);
    }
    assert_eq!(ids.len(), 5);
    shutdown.cancel();
    timeout(BOUND, life).await.unwrap().unwrap();
    assert!(entries.try_recv().is_err());
}
