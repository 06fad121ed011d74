//! What routers exchange through Redis besides limits: that they are alive, and how much of a pool is used.

use std::sync::LazyLock;
use std::time::Duration;

use inferyard_redis_link::{Client, Script};
use redis::{RedisResult, cmd};

/// Milliseconds after its last beat after which a router counts as dead.
pub(super) const LIFE_MS: u64 = 5_000;
/// The sorted set of live routers.
pub(super) const ROUTERS: &str = "{iy:routers}";

/// Timeout of these calls, which no request waits for.
const PATIENCE: Duration = Duration::from_secs(1);

/// KEYS: the set of routers. ARGV: a name, and its lifetime in milliseconds. Returns the names of all live routers.
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

/// KEYS: a pool on a day. ARGV: tokens to add. Returns the sum; the key expires after two days.
static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "\
local sum = redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], 172800)
return sum",
    )
});

/// Reports that a router is alive, and returns the names of all live routers, sorted. Also detects that Redis is
/// back: it waits for the next attempt to connect.
pub(super) async fn beat(client: &Client, router: &str) -> RedisResult<Vec<String>> {
    client.live_after_pause().await?;
    let beat = client.call(PATIENCE, &BEAT, |call| {
        call.arg(1).arg(ROUTERS).arg(router).arg(LIFE_MS);
    });
    let mut routers: Vec<String> = beat.await?;
    routers.sort_unstable();
    Ok(routers)
}

/// Removes a router that shuts down.
pub(super) async fn leave(client: &Client, router: &str) -> RedisResult<()> {
    let mut leave = cmd("ZREM");
    leave.arg(ROUTERS).arg(router);
    client.ask(PATIENCE, &leave).await
}

/// The key of a pool on a day.
pub(super) fn pool(pool: &str, day: u64) -> String {
    format!("{{iy:pool}}:{pool}:{day}")
}

/// Adds tokens to a pool, and returns the sum over all routers.
pub(super) async fn add(client: &Client, pool: &str, day: u64, tokens: u64) -> RedisResult<u64> {
    let add = client.call(PATIENCE, &ADD, |call| {
        call.arg(1).arg(self::pool(pool, day)).arg(tokens);
    });
    add.await
}

/// The `maxmemory-policy` of Redis. An ACL may forbid the call.
pub(super) async fn eviction(client: &Client) -> RedisResult<String> {
    let mut get = cmd("CONFIG");
    get.arg("GET").arg("maxmemory-policy");
    let (_, policy): (String, String) = client.ask(PATIENCE, &get).await?;
    Ok(policy)
}
