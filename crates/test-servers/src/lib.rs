//! Servers that tests start, each for one test, and the ports for them.

mod port;
mod installed;
mod redis;
mod redis_cluster;
mod postgres;

pub use installed::{Server, skips};
pub use port::Port;
pub use postgres::Postgres;
pub use redis::Redis;
pub use redis_cluster::RedisCluster;

/// Returns from a test whose servers are not installed, and says so on standard error: `needs!(Redis, Postgres);`.
///
/// `make unit` installs them, so that no test is skipped there.
#[macro_export]
macro_rules! needs {
    ($($server:ident),+) => {
        if $crate::skips(&[$($crate::Server::$server),+]) {
            return;
        }
    };
}
