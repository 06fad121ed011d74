//! Releases before an API server in memory, on paused time.

use tokio::time;

use super::*;
use crate::lease::tests::Server;

const NAMESPACE: &str = "team";
const HOUR: Duration = Duration::from_hours(1);

/// Asks for the namespace, and waits until it is known whose it is.
async fn decided(claims: &Claims) -> Ownership {
    let changes = claims.changes();
    let mut changes = std::pin::pin!(changes);
    loop {
        match claims.owner(NAMESPACE) {
            Ownership::Undecided => assert_eq!(changes.next().await, Some(Some(NAMESPACE.into()))),
            known => return known,
        }
    }
}

/// Waits until a namespace has this owner.
async fn until(claims: &Claims, wanted: &Ownership) {
    let changes = claims.changes();
    let mut changes = std::pin::pin!(changes);
    let reached = async {
        while claims.owner(NAMESPACE) != *wanted {
            changes.next().await;
        }
    };
    let reached = time::timeout(HOUR, reached).await;
    reached.expect("it should come to be so");
}

#[tokio::test(start_paused = true)]
async fn the_first_release_has_the_namespace_as_long_as_it_lives() {
    let server = Server::default();
    let (first, keeping) = of(&server.client(), "a/first");
    let first_lives = tokio::spawn(keeping.keep());
    assert_eq!(decided(&first).await, Ownership::Ours);
    let (second, keeping) = of(&server.client(), "b/second");
    let second_lives = tokio::spawn(keeping.keep());
    let theirs = Ownership::Theirs("a/first".to_owned());
    assert_eq!(decided(&second).await, theirs);
    // However long it takes, nothing changes for either of them.
    let changes = second.changes();
    let mut changes = std::pin::pin!(changes);
    assert!(time::timeout(HOUR, changes.next()).await.is_err());
    assert_eq!(first.owner(NAMESPACE), Ownership::Ours);
    assert_eq!(second.owner(NAMESPACE), theirs);

    // It is gone: the second one takes over, but not before the Lease has run out.
    first_lives.abort();
    let gone = Instant::now();
    until(&second, &Ownership::Ours).await;
    let waited = gone.elapsed();
    assert!(waited >= DURATION.checked_sub(RENEW).unwrap(), "{waited:?}");
    assert!(waited <= DURATION + POLL, "{waited:?}");
    assert_eq!(server.holder(), "b/second");
    second_lives.abort();
}

#[tokio::test(start_paused = true)]
async fn a_release_that_comes_back_has_its_namespace_at_once() {
    let server = Server::default();
    let (old, keeping) = of(&server.client(), "a/first");
    let life = tokio::spawn(keeping.keep());
    assert_eq!(decided(&old).await, Ownership::Ours);
    life.abort();
    let began = Instant::now();
    let (new, keeping) = of(&server.client(), "a/first");
    let life = tokio::spawn(keeping.keep());
    assert_eq!(decided(&new).await, Ownership::Ours);
    assert!(began.elapsed() < RETRY);
    life.abort();
}

#[tokio::test(start_paused = true)]
async fn a_release_that_cannot_renew_stops_before_another_takes_over() {
    let server = Server::default();
    let (claims, keeping) = of(&server.client(), "a/first");
    let life = tokio::spawn(keeping.keep());
    assert_eq!(decided(&claims).await, Ownership::Ours);
    server.away(true);
    time::sleep(DURATION.checked_sub(Duration::from_secs(1)).unwrap()).await;
    assert_eq!(claims.owner(NAMESPACE), Ownership::Undecided);
    // What was turned away meanwhile hears of it.
    server.away(false);
    assert_eq!(decided(&claims).await, Ownership::Ours);
    life.abort();
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_leases_it_goes_on() {
    let server = Server::default();
    server.refusing(Some(403));
    let (claims, keeping) = of(&server.client(), "a/first");
    let life = tokio::spawn(keeping.keep());
    assert_eq!(decided(&claims).await, Ownership::Ours);
    time::sleep(HOUR).await;
    assert_eq!(claims.owner(NAMESPACE), Ownership::Ours);
    // It is granted, and from then on the claim is real.
    server.refusing(None);
    time::sleep(RENEW).await;
    assert_eq!(server.holder(), "a/first");
    life.abort();
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_gone_is_asked_for_anew() {
    let server = Server::default();
    server.refusing(Some(404));
    let (claims, keeping) = of(&server.client(), "a/first");
    let life = tokio::spawn(keeping.keep());
    assert_eq!(claims.owner(NAMESPACE), Ownership::Undecided);
    time::sleep(RENEW).await;
    server.refusing(None);
    time::sleep(HOUR).await;
    assert_eq!(server.holder(), "", "nobody asked for it");
    assert_eq!(decided(&claims).await, Ownership::Ours);
    life.abort();
}
