//! Checks at the start that Redis answers, so that a wrong address is an error and not an outage.

use std::time::Duration;

use inferyard_redis_link::{Address, Timeouts, explain};
use tokio::time::timeout;

use crate::failure::Failure;

/// How long Redis may take to answer; a server that is up does within milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Connects and sends PING.
///
/// # Errors
///
/// The server cannot be reached, refuses the connection or does not answer within 5 s.
pub(super) async fn ping(address: &Address) -> Result<(), Failure> {
    let timeouts = Timeouts {
        connect: TIMEOUT,
        response: None,
    };
    let ping = async {
        let mut connection = address.connect(timeouts).await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await
    };
    // The address is not repeated: it may hold a password.
    match timeout(TIMEOUT, ping).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::failed(format!(
            "the Redis of --redis cannot be used: {}",
            explain(&error)
        ))),
        Err(_) => Err(Failure::failed(format!(
            "the Redis of --redis did not answer within {} s",
            TIMEOUT.as_secs()
        ))),
    }
}
