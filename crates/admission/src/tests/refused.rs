//! Tests with an account whose key in Redis is damaged, and with other accounts beside it.

use ::redis::AsyncCommands as _;
use inferyard_proto::outbox;
use inferyard_test_servers::needs;

use super::on_redis::{Live, Router};
use super::server::Server;
use super::*;
use crate::levels::Levels;

const LEASE: Duration = Duration::from_secs(30);

fn key(account: &str) -> String {
    format!("{}:a:{account}", outbox::tag(outbox::bucket(account)))
}

impl Server {
    async fn damage(&self, account: &str) {
        let mut connection = self.connection().await;
        let _: usize = connection.del(key(account)).await.unwrap();
        let () = connection.set(key(account), "damaged").await.unwrap();
    }

    async fn repair(&self, account: &str) {
        let mut connection = self.connection().await;
        let _: usize = connection.del(key(account)).await.unwrap();
    }

    /// How many requests Redis has charged to an account.
    async fn charged(&self, account: &str) -> u64 {
        let mut connection = self.connection().await;
        let state: Option<Vec<u8>> = connection.hget(key(account), "plan:p").await.unwrap();
        let levels = state.map_or_else(Levels::default, |it| Levels::decode(&it).unwrap());
        crate::levels::whole(levels.requests_total)
    }
}

impl Live {
    /// Makes Redis forget settled ids, as it does after ten to twenty minutes.
    async fn forget_settled(&self) {
        let Backing::Redis(redis) = &self.limiter.shared.calls.backing else {
            panic!("it should be Redis");
        };
        // The first sweep only starts the first period.
        for _ in 0..3 {
            redis.shift(clock::micros(Duration::from_mins(11)));
            redis.sweep().await.unwrap();
        }
    }

    async fn serve(&self, plan: &Arc<Plan>, account: &str) {
        let reservation = self.limiter.reserve(wanted(plan, account)).await.unwrap();
        reservation.settle(used(1, "ok")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_redis_refuses_is_set_aside_and_no_other_is_charged_again() {
    needs!(Redis);
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let router = Router::new(&server, Some(folder.path()), LEASE)
        .run(1)
        .await;
    let open = plan(OnLoss::Open, requests_total(1_000_000));
    server.damage("bad").await;
    server.kill();
    router.lose().await;
    for number in 0..20 {
        router.serve(&open, "alice").await;
        if number % 2 == 0 {
            router.serve(&open, "bad").await;
        }
    }
    server.start_again();
    let limits = |shared: &Shared| {
        let limits = &shared.metrics;
        (limits.replayed.get(), limits.refused.get())
    };
    router.until(|shared| limits(shared).0 >= 20).await;
    assert_eq!(server.charged("alice").await, 20);

    // No more calls for a while, and Redis forgets the settled ids.
    router.forget_settled().await;
    router.limiter.shared.answers_again.notify_one();
    router.until(|shared| shared.backlog.bytes() == 0).await;
    assert_eq!(server.charged("alice").await, 20);
    assert_eq!(limits(&router.limiter.shared), (20, 10));
    assert!(!router.limiter.shared.calls.breaker.is_open());
    let closed = plan(OnLoss::Closed, Limits::default());
    router.serve(&closed, "alice").await;
    router.die().await;

    // The key is repaired: the next process replays all of it.
    server.repair("bad").await;
    let next = Router::new(&server, Some(folder.path()), LEASE)
        .run(1)
        .await;
    next.until(|shared| shared.backlog.bytes() == 0).await;
    assert_eq!(limits(&next.limiter.shared), (10, 0));
    assert_eq!(server.charged("bad").await, 10);
    assert_eq!(server.charged("alice").await, 21);
    // The ledger takes each event once.
    let events = server.events().await;
    let requests: std::collections::HashSet<_> =
        events.iter().map(|(event, _)| &event.request_id).collect();
    assert_eq!(requests.len(), 31);
    next.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_in_memory_that_redis_refuses_hold_up_nobody() {
    needs!(Redis);
    let mut server = Server::start();
    let router = Router::new(&server, None, LEASE).run(1).await;
    let open = plan(OnLoss::Open, requests_total(1_000_000));
    server.damage("bad").await;
    server.kill();
    router.lose().await;
    for _ in 0..70 {
        router.serve(&open, "bad").await;
    }
    router.serve(&open, "alice").await;
    server.start_again();
    router.until(|shared| shared.backlog.bytes() == 0).await;
    assert_eq!(server.charged("alice").await, 1);
    assert_eq!(router.limiter.shared.metrics.refused.get(), 70);
    // Their usage is in the outbox anyway.
    assert_eq!(server.events().await.len(), 71);
    router.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_account_is_refused_and_no_other() {
    needs!(Redis);
    let server = Server::start();
    let router = Router::new(&server, None, LEASE).run(1).await;
    let closed = plan(OnLoss::Closed, requests_total(1_000_000));
    // Its key is damaged while one of its requests runs.
    let running = router
        .limiter
        .reserve(wanted(&closed, "bad"))
        .await
        .unwrap();
    server.damage("bad").await;
    for on_loss in [OnLoss::Closed, OnLoss::Local, OnLoss::Open] {
        let plan = plan(on_loss, requests_total(1_000_000));
        for _ in 0..6 {
            let refused = router.limiter.reserve(wanted(&plan, "bad")).await;
            assert!(matches!(refused, Err(LimitError::Refused)), "{on_loss:?}");
        }
        router.serve(&closed, "good").await;
    }
    running.settle(used(7, "ok")).await;
    let shared = &router.limiter.shared;
    assert!(!shared.calls.breaker.is_open());
    assert_eq!(shared.metrics.store_lost.get(), 0);
    let limits = &shared.metrics;
    assert_eq!((limits.refused.get(), limits.kept.get()), (1, 0));
    let events = server.events().await;
    assert!(events.iter().any(|(event, _)| event.completion_tokens == 7));
    // A key of the right type, without valid levels.
    server.repair("bad").await;
    let mut connection = server.connection().await;
    let _: usize = connection
        .hset(key("bad"), "plan:p", "short")
        .await
        .unwrap();
    let refused = router.limiter.reserve(wanted(&closed, "bad")).await;
    assert!(matches!(refused, Err(LimitError::Refused)));
    server.repair("bad").await;
    router.serve(&closed, "bad").await;
    router.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_account_does_not_hold_up_the_sweep_of_its_bucket() {
    needs!(Redis);
    let server = Server::start();
    let router = Router::new(&server, None, LEASE).run(1).await;
    let plan = plan(OnLoss::Closed, requests_total(1_000_000));
    let bucket = outbox::bucket("bad");
    let mut names = (0..).map(|number| format!("good-{number}"));
    let good = names.find(|name| outbox::bucket(name) == bucket).unwrap();
    let half = names.find(|name| outbox::bucket(name) == bucket).unwrap();
    for account in ["bad", &half, &good] {
        let reservation = router
            .limiter
            .reserve(wanted(&plan, account))
            .await
            .unwrap();
        std::mem::forget(reservation);
    }
    let router = {
        // The router stops renewing leases.
        let limiter = Arc::clone(&router.limiter);
        router.die().await;
        limiter
    };
    server.damage("bad").await;
    let mut connection = server.connection().await;
    let lease = [b"l:".as_slice(), &[7; 16]].concat();
    let _: usize = connection.hset(key(&half), lease, "short").await.unwrap();
    let Backing::Redis(redis) = &router.shared.calls.backing else {
        panic!("it should be Redis");
    };
    redis.shift(clock::micros(LEASE * 2));
    let mut ended = 0;
    for _ in 0..4 {
        ended += redis.sweep().await.unwrap();
    }
    assert_eq!(
        ended, 2,
        "the lease of the good account, and the good one of the other"
    );
}
