//! The client on a real Redis, behind a proxy that stalls and cuts its connections.

use std::collections::HashSet;
use std::future::poll_fn;
use std::task::Poll;

use inferyard_test_servers::{Redis, needs};
use redis::cmd;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;

/// What the tests wait for comes within milliseconds; a slow machine has this long.
const BOUND: Duration = Duration::from_mins(5);
const TIMEOUTS: Timeouts = Timeouts {
    connect: BOUND,
    response: None,
};

/// What becomes of a connection through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Flows,
    Stalls,
    IsCut,
}

/// Before Redis. Every connection through it has a fate of its own.
struct Proxy {
    address: Address,
    fates: Arc<Mutex<Vec<watch::Sender<Fate>>>>,
    /// The fate of connections that come.
    first: Arc<Mutex<Fate>>,
}

impl Proxy {
    async fn start(server: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("redis://{}", listener.local_addr().unwrap());
        let fates = Arc::<Mutex<Vec<_>>>::default();
        let first = Arc::new(Mutex::new(Fate::Flows));
        let proxy = Self {
            address: address.parse().unwrap(),
            fates: Arc::clone(&fates),
            first: Arc::clone(&first),
        };
        let port = server.port();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (fate, mut its_fate) = watch::channel(*first.lock());
                fates.lock().push(fate);
                tokio::spawn(async move {
                    let mut redis = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    loop {
                        let fate = *its_fate.borrow_and_update();
                        match fate {
                            Fate::IsCut => return,
                            Fate::Stalls => its_fate.changed().await.unwrap(),
                            Fate::Flows => tokio::select! {
                                _ = copy_bidirectional(&mut stream, &mut redis) => return,
                                changed = its_fate.changed() => changed.unwrap(),
                            },
                        }
                    }
                });
            }
        });
        proxy
    }

    fn client(&self) -> Client {
        Client::new(self.address.clone(), TIMEOUTS)
    }

    fn connections(&self) -> usize {
        self.fates.lock().len()
    }

    fn set(&self, connection: usize, fate: Fate) {
        self.fates.lock()[connection].send(fate).unwrap();
    }
}

async fn ping(client: &Client, live: &Arc<Live>, limit: Duration) -> RedisResult<String> {
    let mut connection = live.connection();
    let ping = cmd("PING");
    client
        .answer(live, limit, ping.query_async(&mut connection))
        .await
}

#[tokio::test]
async fn a_late_failure_of_an_old_connection_leaves_the_new_one_alone() {
    needs!(Redis);
    let server = Redis::start();
    let proxy = Proxy::start(&server).await;
    let client = proxy.client();
    let old = client.live().await.unwrap();
    ping(&client, &old, BOUND).await.unwrap();
    proxy.set(0, Fate::Stalls);
    // One caller waits for long, another one gives the connection up.
    let late = {
        let (client, old) = (client.clone(), Arc::clone(&old));
        tokio::spawn(async move { ping(&client, &old, BOUND).await })
    };
    let silent = ping(&client, &old, Duration::from_millis(50)).await;
    assert!(silent.unwrap_err().is_timeout());
    let new = client.live().await.unwrap();
    ping(&client, &new, BOUND).await.unwrap();
    assert!(!Arc::ptr_eq(&old, &new));
    // Only now does the first one hear that its connection is gone.
    proxy.set(0, Fate::IsCut);
    assert!(late.await.unwrap().is_err());
    assert!(Arc::ptr_eq(&client.live().await.unwrap(), &new));
    let pong: String = client.ask(BOUND, &cmd("PING")).await.unwrap();
    assert_eq!(pong, "PONG");
    assert_eq!(proxy.connections(), 2);
    // A failure of the new one does lose it.
    proxy.set(1, Fate::IsCut);
    assert!(ping(&client, &new, BOUND).await.is_err());
    let third = client.live_after_pause().await.unwrap();
    assert!(!Arc::ptr_eq(&third, &new));
}

#[tokio::test]
async fn clients_that_lose_their_connections_together_do_not_come_back_together() {
    const CLIENTS: usize = 50;
    needs!(Redis);
    let server = Redis::start();
    let proxy = Proxy::start(&server).await;
    let clients: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
    let mut lives = Vec::new();
    for client in &clients {
        lives.push(client.live().await.unwrap());
    }
    for connection in 0..CLIENTS {
        proxy.set(connection, Fate::IsCut);
    }
    let begun = Instant::now();
    let mut pauses = HashSet::new();
    for (client, live) in clients.iter().zip(&lives) {
        assert!(ping(client, live, BOUND).await.is_err());
        let before = client.0.pause().until.unwrap();
        assert!(before >= begun + PAUSES.0);
        // However long this loop takes: what differs is the random part.
        let error = timed_out();
        let mut pause = client.0.pause();
        let now = Instant::now();
        pause.begin(error);
        pauses.insert((pause.until.unwrap() - now).as_millis());
    }
    assert!(pauses.len() > CLIENTS / 5, "{pauses:?}");
    let mut back = JoinSet::new();
    for client in clients {
        back.spawn(async move { client.live_after_pause().await.is_ok() });
    }
    assert!(back.join_all().await.into_iter().all(|is_back| is_back));
    assert_eq!(proxy.connections(), 2 * CLIENTS);
}

#[tokio::test]
async fn who_comes_in_a_pause_fails_at_once_and_tries_nothing() {
    needs!(Redis);
    let server = Redis::start();
    let proxy = Proxy::start(&server).await;
    *proxy.first.lock() = Fate::IsCut;
    let client = proxy.client();
    for _ in 0..2_000 {
        assert!(client.live().await.is_err());
    }
    let tries = proxy.connections();
    assert!((1..100).contains(&tries), "{tries}");
    *proxy.first.lock() = Fate::Flows;
    let live = client.live_after_pause().await.unwrap();
    assert_eq!(ping(&client, &live, BOUND).await.unwrap(), "PONG");
}

#[tokio::test]
async fn callers_that_come_together_make_one_connection() {
    needs!(Redis);
    let server = Redis::start();
    let proxy = Proxy::start(&server).await;
    let client = proxy.client();
    let mut together = JoinSet::new();
    for _ in 0..100 {
        let client = client.clone();
        together.spawn(async move { client.ask::<String>(BOUND, &cmd("PING")).await });
    }
    // A caller that gives up while it connects leaves that to the others. It is polled once: within a
    // bound in time, however short, a slow machine can connect.
    let mut connects = Box::pin(client.live());
    let first = poll_fn(|context| Poll::Ready(connects.as_mut().poll(context))).await;
    assert!(first.is_pending());
    drop(connects);
    assert!(together.join_all().await.into_iter().all(|it| it.is_ok()));
    assert!(proxy.connections() <= 2);
}

#[tokio::test]
async fn a_server_that_forgot_a_script_learns_it_again() {
    needs!(Redis);
    let server = Redis::start();
    let client = Proxy::start(&server).await.client();
    let script = Script::new("return tonumber(ARGV[1]) + 1");
    for number in 0..3 {
        let next: u64 = client
            .call(BOUND, &script, |call| {
                call.arg(0).arg(number);
            })
            .await
            .unwrap();
        assert_eq!(next, number + 1);
        if number == 1 {
            let mut flush = cmd("SCRIPT");
            let () = client.ask(BOUND, flush.arg("FLUSH")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_key_of_another_type_costs_the_connection_nothing() {
    needs!(Redis);
    let server = Redis::start();
    let proxy = Proxy::start(&server).await;
    let client = proxy.client();
    let mut set = cmd("SET");
    let () = client.ask(BOUND, set.arg("a").arg("text")).await.unwrap();
    let mut get = cmd("HGET");
    get.arg("a").arg("b");
    let scripts = [
        Script::new("return redis.call('HGET', KEYS[1], 'b')"),
        Script::new("return struct.unpack('<d', redis.call('GET', KEYS[1]))"),
    ];
    let mut errors = vec![client.ask::<String>(BOUND, &get).await.unwrap_err()];
    for script in &scripts {
        let call = client.call::<String>(BOUND, script, |call| {
            call.arg(1).arg("a");
        });
        errors.push(call.await.unwrap_err());
    }
    for error in errors {
        assert!(crate::concerns_keys(&error), "{error}");
    }
    assert_eq!(proxy.connections(), 1);
}
