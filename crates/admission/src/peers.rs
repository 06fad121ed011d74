//! What routers tell each other through Redis beside the limits: that they live, and what a pool has used.

use std::sync::LazyLock;
use std::time::Duration;

use inferyard_redis_link::{Client, Script};
use redis::{RedisResult, cmd};

/// A router that was not heard of for so long is taken for dead.
pub(super) const LIFE_MS: u64 = 5_000;
/// The set of all routers that live.
pub(super) const ROUTERS: &str = "{iy:routers}";

/// No request waits for these answers.
const PATIENCE: Duration = Duration::from_secs(1);

/// KEYS: the set of routers. ARGV: a name, and how long it lives in milliseconds. Returns the names of
/// all that live.
static BEAT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return redis.call('ZRANGE', KEYS[1], 0, -1)",
    )
});

/// KEYS: a pool on a day. ARGV: tokens to add. Returns the sum, which is forgotten after two days.
static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "\
local sum = redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], 172800)
return sum",
    )
});

/// Tells that a router lives, and returns the names of all that do, in order. It is how a router learns
/// that Redis is back: it waits for the next try to connect.
pub(super) async fn beat(client: &Client, router: &str) -> RedisResult<Vec<String>> {
    client.live_after_pause().await?;
    let beat = client.call(PATIENCE, &BEAT, |call| {
        call.arg(1).arg(ROUTERS).arg(router).arg(LIFE_MS);
    });
    let mut routers: Vec<String> = beat.await?;
    routers.sort_unstable();
    Ok(routers)
}

/// Tells that a router ends.
pub(super) async fn leave(client: &Client, router: &str) -> RedisResult<()> {
    let mut leave = cmd("ZREM");
    leave.arg(ROUTERS).arg(router);
    client.ask(PATIENCE, &leave).await
}

/// The key of a pool on a day.
pub(super) fn pool(pool: &str, day: u64) -> String {
    format!("{{iy:pool}}:{pool}:{day}")
}

/// Adds tokens to a pool, and returns how many all routers have added.
pub(super) async fn add(client: &Client, pool: &str, day: u64, tokens: u64) -> RedisResult<u64> {
    let add = client.call(PATIENCE, &ADD, |call| {
        call.arg(1).arg(self::pool(pool, day)).arg(tokens);
    });
    add.await
}

/// What Redis throws away when its memory is full. An access list may keep that secret.
pub(super) async fn eviction(client: &Client) -> RedisResult<String> {
    let mut get = cmd("CONFIG");
    get.arg("GET").arg("maxmemory-policy");
    let (_, policy): (String, String) = client.ask(PATIENCE, &get).await?;
    Ok(policy)
}
