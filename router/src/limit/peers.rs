//! What routers tell each other through Redis beside the limits: that they live, and what a pool has used.

use redis::aio::ConnectionLike;
use redis::{RedisResult, cmd};

/// A router that was not heard of for so long is taken for dead.
const LIFE_MS: u64 = 5_000;
const ROUTERS: &str = "{iy:routers}";

/// KEYS: the set of routers. ARGV: a name, and how long it lives in milliseconds. Returns the names of
/// all that live.
const BEAT: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return redis.call('ZRANGE', KEYS[1], 0, -1)";

/// KEYS: a pool on a day. ARGV: tokens to add. Returns the sum, which is forgotten after two days.
const ADD: &str = "\
local sum = redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], 172800)
return sum";

/// Tells that a router lives, and returns the names of all that do, in order.
pub(super) async fn beat(
    connection: &mut impl ConnectionLike,
    router: &str,
) -> RedisResult<Vec<String>> {
    let mut beat = cmd("EVAL");
    beat.arg(BEAT).arg(1).arg(ROUTERS).arg(router).arg(LIFE_MS);
    let mut routers: Vec<String> = beat.query_async(connection).await?;
    routers.sort_unstable();
    Ok(routers)
}

/// Tells that a router ends.
pub(super) async fn leave(connection: &mut impl ConnectionLike, router: &str) -> RedisResult<()> {
    let mut leave = cmd("ZREM");
    leave.arg(ROUTERS).arg(router);
    leave.query_async(connection).await
}

/// Adds tokens to a pool, and returns how many all routers have added.
pub(super) async fn add(
    connection: &mut impl ConnectionLike,
    pool: &str,
    day: u64,
    tokens: u64,
) -> RedisResult<u64> {
    let mut add = cmd("EVAL");
    let key = format!("{{iy:pool}}:{pool}:{day}");
    add.arg(ADD).arg(1).arg(key).arg(tokens);
    add.query_async(connection).await
}

/// What Redis throws away when its memory is full. An access list may keep that secret.
pub(super) async fn eviction(connection: &mut impl ConnectionLike) -> RedisResult<String> {
    let mut get = cmd("CONFIG");
    get.arg("GET").arg("maxmemory-policy");
    let (_, policy): (String, String) = get.query_async(connection).await?;
    Ok(policy)
}
