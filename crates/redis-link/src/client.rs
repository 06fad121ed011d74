//! The one connection to Redis that all callers share: made when it is needed, and again when it is lost.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use backon::ExponentialBackoff;
use parking_lot::{Mutex, MutexGuard};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{Address, Connection, Script, Timeouts, backoff, within};

/// First and longest pause before the next try to connect, before jitter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));
/// A caller that does not wait for pauses still waits this long, which covers the first pause.
const SHORT: Duration = Duration::from_millis(50);
/// After the loss of a connection that lived this long, the pauses start from the shortest again.
const GOOD: Duration = Duration::from_secs(10);

/// Redis, over one connection. Clones share it.
///
/// A connection is lost when a caller says that a command on it failed so that it is of no more use.
/// The caller says which connection it used: a failure that comes late does not lose the next one.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    address: Address,
    timeouts: Timeouts,
    live: ArcSwapOption<Live>,
    /// The holder connects; other callers wait for the result.
    connecting: tokio::sync::Mutex<()>,
    pause: Mutex<Pause>,
}

/// A connection that works, as far as is known.
pub struct Live {
    connection: Connection,
    since: Instant,
}

/// Since when there is no connection, and until when none is tried.
struct Pause {
    backoff: ExponentialBackoff,
    until: Option<Instant>,
    /// Why the last connection was lost, or could not be made.
    error: Option<RedisError>,
    /// How many tries to connect have failed.
    failures: u64,
}

// === impl Client ===

impl Client {
    /// A client that connects when it is first asked something.
    #[must_use]
    pub fn new(address: Address, timeouts: Timeouts) -> Self {
        Self(Arc::new(Inner {
            address,
            timeouts,
            live: ArcSwapOption::empty(),
            connecting: tokio::sync::Mutex::new(()),
            pause: Mutex::new(Pause {
                backoff: backoff(PAUSES.0, PAUSES.1),
                until: None,
                error: None,
                failures: 0,
            }),
        }))
    }

    /// The connection. Where there is none, one caller makes it while the others wait. In a pause after
    /// a failure this fails at once with that failure; but for a short pause it waits.
    ///
    /// # Cancellation
    ///
    /// Where the caller that connects is dropped, the next one that waits connects.
    pub async fn live(&self) -> RedisResult<Arc<Live>> {
        self.get(false).await
    }

    /// The same, for callers that have time: a pause is waited for.
    pub async fn live_after_pause(&self) -> RedisResult<Arc<Live>> {
        self.get(true).await
    }

    async fn get(&self, waits: bool) -> RedisResult<Arc<Live>> {
        let inner = &*self.0;
        if let Some(live) = inner.live.load_full() {
            return Ok(live);
        }
        let failures = inner.pause().failures;
        let _connecting = inner.connecting.lock().await;
        if let Some(live) = inner.live.load_full() {
            return Ok(live);
        }
        if let Some(until) = inner.pause_for(failures, waits)? {
            sleep_until(until).await;
        }
        let connect = inner.address.connect(inner.timeouts);
        let connected = timeout(inner.timeouts.connect, connect).await;
        let connection = connected
            .unwrap_or_else(|_| Err(timed_out()))
            .inspect_err(|error| inner.fail(error))?;
        let live = Arc::new(Live {
            connection,
            since: Instant::now(),
        });
        inner.live.store(Some(Arc::clone(&live)));
        Ok(live)
    }

    /// Tells what became of a command on a connection. One that the error shows to be of no more use is
    /// not given to further callers.
    pub fn failed(&self, live: &Arc<Live>, error: &RedisError) {
        if is_lost(error) {
            self.0.lose(live, error);
        }
    }

    /// Waits for an answer on a connection for `limit`, and loses the connection where there is none.
    pub async fn answer<T>(
        &self,
        live: &Arc<Live>,
        limit: Duration,
        work: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        let answer = within(limit, work).await;
        // The server behind a silent connection may be gone.
        let answer = answer.unwrap_or_else(|| Err(timed_out()));
        answer.inspect_err(|error| self.failed(live, error))
    }

    /// Sends a command, and waits for its answer for `limit`; a connection is made first if there is
    /// none, which takes its own time.
    pub async fn ask<T: FromRedisValue>(&self, limit: Duration, command: &Cmd) -> RedisResult<T> {
        let live = self.live().await?;
        let mut connection = live.connection();
        let work = command.query_async(&mut connection);
        self.answer(&live, limit, work).await
    }

    /// Calls a script in the same way. `arguments` adds the number of keys, the keys and the arguments.
    pub async fn call<T: FromRedisValue>(
        &self,
        limit: Duration,
        script: &Script,
        arguments: impl Fn(&mut Cmd),
    ) -> RedisResult<T> {
        let live = self.live().await?;
        let mut connection = live.connection();
        let work = script.call(&mut connection, arguments);
        self.answer(&live, limit, work).await
    }
}

/// The address may hold a password.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client(…)")
    }
}

// === impl Live ===

impl Live {
    /// A handle to send commands by.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// No command there can wait on all nodes, and none can name keys of two slots.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.connection.is_cluster()
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live(…)")
    }
}

// === impl Inner ===

impl Inner {
    fn pause(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock()
    }

    /// Until when the next try to connect has to wait. An error: another caller has tried since
    /// `failures`, or the pause is longer than the caller waits.
    fn pause_for(&self, failures: u64, waits: bool) -> RedisResult<Option<Instant>> {
        let pause = self.pause();
        let long = pause
            .until
            .is_some_and(|until| until > Instant::now() + SHORT);
        match &pause.error {
            Some(error) if pause.failures != failures || (long && !waits) => Err(error.clone()),
            _ => Ok(pause.until),
        }
    }

    /// A try to connect has failed.
    fn fail(&self, error: &RedisError) {
        let mut pause = self.pause();
        pause.failures += 1;
        pause.begin(error.clone());
    }

    fn lose(&self, live: &Arc<Live>, error: &RedisError) {
        let before = self.live.compare_and_swap(Arc::as_ptr(live), None);
        if !before.as_ref().is_some_and(|it| Arc::ptr_eq(it, live)) {
            return;
        }
        let mut pause = self.pause();
        if live.since.elapsed() >= GOOD {
            pause.backoff = backoff(PAUSES.0, PAUSES.1);
        }
        pause.begin(error.clone());
    }
}

// === impl Pause ===

impl Pause {
    fn begin(&mut self, error: RedisError) {
        let pause = self.backoff.next().unwrap_or(PAUSES.1);
        self.until = Some(Instant::now() + pause);
        self.error = Some(error);
    }
}

/// Whether a connection is of no more use, or leads to a primary that has become a replica: its name may
/// stand for the new primary by now.
fn is_lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || error.is_timeout()
        || error.code() == Some("READONLY")
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

#[cfg(test)]
mod tests;
