//! Servers that tests start, each for one test, and the ports for them.

mod port;
mod redis;

pub use port::Port;
pub use redis::Redis;
