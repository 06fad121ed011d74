//! Asks at the start whether Redis is there, so that a wrong address is an error and not an outage.

use std::time::Duration;

use inferyard_redis_link::{Address, Timeouts, explain};
use tokio::time::timeout;

use crate::failure::Failure;

/// A server that is there answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns once Redis has answered.
pub(super) async fn redis(address: &Address) -> Result<(), Failure> {
    let timeouts = Timeouts {
        connect: PATIENCE,
        response: None,
    };
    let ping = async {
        let mut connection = address.connect(timeouts).await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await
    };
    // The address is not repeated: it may hold a password.
    match timeout(PATIENCE, ping).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::failed(format!(
            "the Redis of --redis cannot be used: {}",
            explain(&error)
        ))),
        Err(_) => Err(Failure::failed(format!(
            "the Redis of --redis did not answer within {} s",
            PATIENCE.as_secs()
        ))),
    }
}
