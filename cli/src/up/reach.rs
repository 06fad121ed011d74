//! Asks at the start whether Redis is there, so that a wrong address is an error and not an outage.

use std::time::Duration;

use tokio::time::timeout;

use crate::failure::Failure;

/// A server that is there answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns once Redis has answered.
pub(super) async fn redis(url: &str) -> Result<(), Failure> {
    let client = redis::Client::open(url).map_err(|error| {
        Failure::usage(format!(
            "--redis: {error}; expected an address such as redis://127.0.0.1:6379 or \
             rediss://user:password@host:6379"
        ))
    })?;
    let ping = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await
    };
    // The address is not repeated: it may hold a password.
    match timeout(PATIENCE, ping).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::failed(format!(
            "the Redis of --redis cannot be used: {error}"
        ))),
        Err(_) => Err(Failure::failed(format!(
            "the Redis of --redis did not answer within {} s",
            PATIENCE.as_secs()
        ))),
    }
}
