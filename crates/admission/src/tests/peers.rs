//! Tests of what routers exchange through a real Redis.

use inferyard_test_servers::needs;

use super::super::peers;
use super::server::Server;

#[tokio::test]
async fn routers_hear_of_each_other_until_they_leave() {
    needs!(Redis);
    let server = Server::start();
    let client = &server.client();
    assert_eq!(peers::beat(client, "b").await.unwrap(), ["b"]);
    assert_eq!(peers::beat(client, "a").await.unwrap(), ["a", "b"]);
    assert_eq!(peers::beat(client, "b").await.unwrap(), ["a", "b"]);
    peers::leave(client, "b").await.unwrap();
    assert_eq!(peers::beat(client, "a").await.unwrap(), ["a"]);
}

#[tokio::test]
async fn a_router_that_is_silent_is_taken_for_dead() {
    needs!(Redis);
    let server = Server::start();
    let client = &server.client();
    let mut connection = server.connection().await;
    let connection = &mut connection;
    peers::beat(client, "dead").await.unwrap();
    // Simulates that its lifetime has passed, by moving its end to its start.
    let life = i64::try_from(peers::LIFE_MS).unwrap();
    let ends: i64 = ::redis::cmd("ZINCRBY")
        .arg(peers::ROUTERS)
        .arg(-life)
        .arg("dead")
        .query_async(connection)
        .await
        .unwrap();
    let (seconds, micros): (i64, i64) = ::redis::cmd("TIME").query_async(connection).await.unwrap();
    assert!(ends <= seconds * 1_000 + micros / 1_000);
    let alive = peers::beat(client, "alive").await.unwrap();
    assert_eq!(alive, ["alive"]);
}

#[tokio::test]
async fn a_pool_is_the_sum_of_what_routers_add_on_a_day() {
    needs!(Redis);
    let server = Server::start();
    let client = &server.client();
    assert_eq!(peers::add(client, "preview", 7, 5).await.unwrap(), 5);
    assert_eq!(peers::add(client, "preview", 7, 0).await.unwrap(), 5);
    assert_eq!(peers::add(client, "preview", 7, 6).await.unwrap(), 11);
    assert_eq!(peers::add(client, "preview", 8, 1).await.unwrap(), 1);
    let left: i64 = ::redis::cmd("TTL")
        .arg(peers::pool("preview", 7))
        .query_async(&mut server.connection().await)
        .await
        .unwrap();
    assert!((86_400..=172_800).contains(&left));
}

#[tokio::test]
async fn the_eviction_of_redis_is_known() {
    needs!(Redis);
    let server = Server::start();
    let policy = peers::eviction(&server.client()).await.unwrap();
    assert_eq!(policy, "noeviction");
}
