//! Connections of tests to their servers, which no slow machine breaks.

use std::time::Duration;

use inferyard_test_servers::Redis;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::time::{sleep, timeout};

/// What the tests wait for comes within seconds; a machine that is busy with other tests has this long.
const BOUND: Duration = Duration::from_mins(5);

/// Polls until `is` returns a value, and names what was waited for where it never does.
pub(crate) async fn eventually<T>(what: &str, mut is: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(value) = is().await {
                return value;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BOUND, wait)
        .await
        .unwrap_or_else(|_| panic!("{what}: never came"))
}

/// A connection to a server that accepts connections.
pub(crate) async fn connect(redis: &Redis) -> MultiplexedConnection {
    let client = redis::Client::open(redis.url()).unwrap();
    // The library's own limits are a second and half a second, which a busy machine exceeds.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(BOUND))
        .set_response_timeout(Some(BOUND));
    let connect = client.get_multiplexed_async_connection_with_config(&config);
    connect.await.unwrap()
}
