//! Tests of the limiter with a real Redis, which is killed, stopped and restarted.

use std::collections::HashMap;

use inferyard_test_servers::needs;
use rustix::process::Signal;
use tokio::task::JoinSet;

use super::server::Server;
use super::*;

/// Timeout of a call. A running Redis answers much sooner, even on a busy machine; a Redis that hangs costs a test
/// this time.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A router's limiter, before it runs.
pub(super) struct Router {
    limiter: Limiter,
    shutdown: CancellationToken,
}

/// A running limiter.
pub(super) struct Live {
    pub(super) limiter: Arc<Limiter>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Router {
    pub(super) fn new(server: &Server, spool: Option<&Path>, lease_time: Duration) -> Self {
        let config = LimitsConfig {
            store: LimitStore::Redis {
                address: server.url().parse().unwrap(),
                spool: spool.map(Path::to_owned),
                timeout: TIMEOUT,
            },
            lease_time,
            routers: Routers::default(),
        };
        Self {
            limiter: Limiter::new(config, metrics()).unwrap(),
            shutdown: CancellationToken::new(),
        }
    }

    /// Runs it, and waits until it knows `routers` routers.
    pub(super) async fn run(self, routers: u64) -> Live {
        let (limiter, shutdown) = (Arc::new(self.limiter), self.shutdown);
        let running = {
            let (limiter, shutdown) = (Arc::clone(&limiter), shutdown.clone());
            tokio::spawn(async move { limiter.run(shutdown).await })
        };
        let live = Live {
            limiter,
            shutdown,
            running,
        };
        live.until(|shared| shared.local.routers() == Some(routers))
            .await;
        live.until(|shared| !shared.calls.breaker.is_open()).await;
        live
    }
}

impl Live {
    pub(super) async fn until(&self, is: impl Fn(&Shared) -> bool) {
        let wait = async {
            while !is(&self.limiter.shared) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(BOUND, wait).await.expect("it should come");
    }

    /// Makes calls until the breaker opens.
    pub(super) async fn lose(&self) {
        let calls = &self.limiter.shared.calls;
        while !calls.breaker.is_open() {
            let _ = calls.sweep().await;
        }
    }

    /// Ends it like `kill -9`, without any cleanup.
    pub(super) async fn die(self) {
        self.running.abort();
        assert!(self.running.await.unwrap_err().is_cancelled());
    }

    pub(super) async fn end(self) {
        self.shutdown.cancel();
        timeout(BOUND, self.running).await.unwrap().unwrap();
    }
}

fn by_request(events: &[(UsageEvent, u32)]) -> HashMap<&str, u64> {
    let mut sums = HashMap::new();
    for (event, part) in events {
        assert_eq!(*part, 0);
        let before = sums.insert(&*event.request_id, event.completion_tokens);
        assert_eq!(before, None, "an event came twice");
    }
    sums
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_in_a_burst_has_every_end_once_afterwards() {
    needs!(Redis);
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let router = Router::new(&server, Some(folder.path()), Duration::from_secs(30));
    let router = router.run(1).await;
    let open = plan(OnLoss::Open, requests_total(1_000_000));
    let mut expected = HashMap::new();
    let mut burst = JoinSet::new();
    for number in 0..600_u64 {
        let wanted = wanted(&open, &format!("account-{}", number % 20));
        let id = format!("req_{:032x}", u128::from_be_bytes(wanted.id.bits()));
        expected.insert(id, number);
        let limiter = Arc::clone(&router.limiter);
        burst.spawn(async move {
            let reservation = limiter.reserve(wanted).await.unwrap();
            reservation.progress(used(number / 2, "router_lost"));
            reservation.settle(used(number, "ok")).await;
        });
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
        if number == 300 {
            server.kill();
        }
    }
    timeout(BOUND, burst.join_all()).await.unwrap();
    server.start_again();
    router.until(|shared| !shared.calls.breaker.is_open()).await;
    router.until(|shared| shared.backlog.bytes() == 0).await;
    router.end().await;
    let events = server.events().await;
    assert!(events.iter().all(|(event, _)| event.code == "ok"));
    let sums = by_request(&events);
    assert_eq!(sums.len(), expected.len());
    for (id, tokens) in &expected {
        assert_eq!(sums.get(&**id), Some(tokens));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_holds_nobody_up_and_is_found_again() {
    needs!(Redis);
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let router = Router::new(&server, Some(folder.path()), Duration::from_secs(30));
    let router = router.run(1).await;
    let closed = plan(OnLoss::Closed, requests_total(10));
    let reservation = router
        .limiter
        .reserve(wanted(&closed, "acme"))
        .await
        .unwrap();
    server.signal(Signal::STOP);
    let mut waiting = JoinSet::new();
    for _ in 0..5 {
        let (limiter, wanted) = (Arc::clone(&router.limiter), wanted(&closed, "acme"));
        waiting.spawn(async move { limiter.reserve(wanted).await });
    }
    assert!(waiting.join_all().await.iter().all(is_unavailable));
    assert!(router.limiter.shared.calls.breaker.is_open());
    reservation.settle(used(7, "ok")).await;
    assert!(router.limiter.shared.backlog.bytes() > 0);

    server.signal(Signal::CONT);
    router.until(|shared| !shared.calls.breaker.is_open()).await;
    router.until(|shared| shared.backlog.bytes() == 0).await;
    assert!(
        router
            .limiter
            .reserve(wanted(&closed, "acme"))
            .await
            .is_ok()
    );
    let events = server.events().await;
    let ended = events.iter().filter(|(event, _)| event.code == "ok");
    assert_eq!(ended.count(), 1);
    router.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_router_held_is_free_and_billed_by_the_sweep_of_another() {
    needs!(Redis);
    let server = Server::start();
    let lease_time = Duration::from_secs(2);
    let dead = Router::new(&server, None, lease_time).run(1).await;
    // The other router starts before this one dies, so that hardly any of the lease time passes before it sweeps.
    let other = Router::new(&server, None, lease_time).run(2).await;
    let limits = Limits {
        concurrent_requests: NonZeroU64::new(20),
        ..Limits::default()
    };
    let local = plan(OnLoss::Local, limits);
    let mut running = Vec::new();
    for _ in 0..20 {
        let reservation = dead.limiter.reserve(wanted(&local, "acme")).await.unwrap();
        reservation.progress(used(600, "router_lost"));
        running.push(reservation);
    }
    dead.until(|shared| shared.metrics.calls("progress", "ok") >= 20)
        .await;
    dead.die().await;

    assert!(is_denied(
        &other.limiter.reserve(wanted(&local, "acme")).await
    ));
    let free = async {
        while other.limiter.reserve(wanted(&local, "acme")).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BOUND, free)
        .await
        .expect("the holds should come back");
    let swept = async {
        loop {
            let events = server.events().await;
            let swept = events
                .iter()
                .filter(|(event, _)| event.code == "router_lost");
            if swept.clone().count() == 20 {
                assert!(
                    swept
                        .clone()
                        .all(|(event, _)| event.completion_tokens == 600)
                );
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BOUND, swept)
        .await
        .expect("the events should be written");
    running.into_iter().for_each(std::mem::forget);
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_routers_without_redis_admit_one_limit_together() {
    needs!(Redis);
    let mut server = Server::start();
    let mut starting = JoinSet::new();
    for _ in 0..3 {
        starting.spawn(Router::new(&server, None, Duration::from_secs(30)).run(3));
    }
    let routers = starting.join_all().await;
    let local = plan(OnLoss::Local, requests_total(100));
    server.kill();
    let mut admitted = 0;
    for router in &routers {
        let mut asked = 0;
        while asked < 200 {
            match router.limiter.reserve(wanted(&local, "acme")).await {
                Ok(reservation) => {
                    admitted += 1;
                    reservation.settle(used(1, "ok")).await;
                }
                Err(error) => assert!(is_denied::<()>(&Err(error))),
            }
            asked += 1;
        }
    }
    assert_eq!(admitted, 100);
    server.start_again();
    for router in &routers {
        router.until(|shared| !shared.calls.breaker.is_open()).await;
        router.until(|shared| shared.backlog.bytes() == 0).await;
    }
    for router in routers {
        assert!(is_denied(
            &router.limiter.reserve(wanted(&local, "acme")).await
        ));
        router.end().await;
    }
    assert_eq!(by_request(&server.events().await).len(), 100);
}

/// Single-threaded, as in the binary.
#[tokio::test]
async fn time_in_which_the_routers_own_thread_is_busy_is_no_silence_of_redis() {
    needs!(Redis);
    let server = Server::start();
    let router = Router::new(&server, None, Duration::from_secs(30))
        .run(1)
        .await;
    let closed = plan(OnLoss::Closed, requests_total(1_000));
    for _ in 0..5 {
        let asking = {
            let (limiter, wanted) = (Arc::clone(&router.limiter), wanted(&closed, "acme"));
            tokio::spawn(async move { limiter.reserve(wanted).await })
        };
        // Runs after the call was made and before it can be sent.
        let busy = tokio::spawn(async {
            let begun = std::time::Instant::now();
            while begun.elapsed() < TIMEOUT + TIMEOUT / 2 {
                std::thread::park_timeout(TIMEOUT);
            }
        });
        busy.await.unwrap();
        assert!(asking.await.unwrap().is_ok());
    }
    let shared = &router.limiter.shared;
    assert!(!shared.calls.breaker.is_open());
    assert_eq!(shared.metrics.calls("admit", "too_slow"), 0);
    router.end().await;
}
