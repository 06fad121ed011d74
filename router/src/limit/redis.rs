//! The store of limits in Redis, which all routers share: one script per call.

use std::time::Duration;

use inferyard_proto::outbox;
use inferyard_redis_link::{Address, Connection, explain};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, cmd};

use super::clock::{Clock, month};
use super::store::{Admission, Decision, Lease, Progressed, Settled, Store, StoreError, Used};

mod link;
mod script;
mod wire;

use link::Link;
use script::Script;
use wire::Numbers;

/// In one sweep of a bucket so many leases end, and so many fields are looked at.
const SWEPT: (u32, u32) = (256, 2_048);

/// A plan's and a key's: the scripts have no loop for more.
const MOST_SCOPES: usize = 2;

/// Meters and leases in Redis. It connects when it is first needed, and again after a loss.
pub(crate) struct Redis {
    link: Link,
    timeout: Duration,
    clock: Clock,
    #[cfg(test)]
    ahead_us: std::sync::atomic::AtomicU64,
}

// === impl Redis ===

impl Redis {
    /// A store at `url` (`redis://…`, `rediss://…`, `redis+unix://…`), which must answer within
    /// `timeout`.
    pub(crate) fn new(address: Address, timeout: Duration) -> Self {
        Self {
            link: Link::new(address, timeout),
            timeout,
            clock: Clock::start(),
            #[cfg(test)]
            ahead_us: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// The connection that all calls share, for what is not a limit.
    pub(super) async fn connection(&self) -> Result<Connection, StoreError> {
        let live = self.link.live().await;
        let live = live.map_err(|error| self.failed(&error))?;
        Ok(live.connection.clone())
    }

    /// What became of a call on [`connection`](Self::connection).
    pub(super) fn failed(&self, error: &RedisError) -> StoreError {
        self.link.failed(error);
        let message = explain(error);
        if error.is_timeout() {
            StoreError::TooSlow {
                after: self.timeout,
            }
        } else if error.is_io_error() || error.is_connection_dropped() {
            StoreError::Unreachable { message }
        } else {
            StoreError::Refused { message }
        }
    }

    /// Tests live faster. It is 0 elsewhere.
    #[cfg(test)]
    fn ahead_us(&self) -> u64 {
        self.ahead_us.load(std::sync::atomic::Ordering::Relaxed)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests have a clock of their own")]
    fn ahead_us(&self) -> u64 {
        0
    }

    /// Turns the clock; wraps, so that it can go back.
    #[cfg(test)]
    pub(super) fn shift(&self, us: u64) {
        let ahead = &self.ahead_us;
        ahead.fetch_add(us, std::sync::atomic::Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn this_month(&self) -> (u64, u64) {
        month(self.clock.now_us() + self.ahead_us())
    }

    /// First moment of this month. It is the router's; Redis takes it once its own clock is there.
    fn month(&self) -> u64 {
        month(self.clock.now_us() + self.ahead_us()).0
    }

    async fn call<T: FromRedisValue>(
        &self,
        script: Script,
        arguments: impl Fn(&mut Cmd) + Send,
    ) -> Result<T, StoreError> {
        let live = self.link.live().await;
        let live = live.map_err(|error| self.failed(&error))?;
        let mut connection = live.connection.clone();
        let work = async {
            let mut by_hash = cmd("EVALSHA");
            by_hash.arg(live.hash(script));
            arguments(&mut by_hash);
            match by_hash.query_async(&mut connection).await {
                Err(error) if is_unknown_script(&error) => {
                    let mut by_text = cmd("EVAL");
                    by_text.arg(script.text());
                    arguments(&mut by_text);
                    by_text.query_async(&mut connection).await
                }
                other => other,
            }
        };
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => {
                // Whoever is behind a connection that is silent may be gone: the next call asks anew.
                self.link.drop_live();
                Err(StoreError::TooSlow {
                    after: self.timeout,
                })
            }
        }
    }

    async fn end(&self, lease: &Lease, used: &Used, anyway: bool) -> Result<Settled, StoreError> {
        let keys = wire::Keys::of(&lease.account);
        let numbers = Numbers::new(
            &lease.scopes,
            [
                self.ahead_us(),
                u64::from(anyway),
                used.tokens,
                used.money,
                0,
                0,
                self.month(),
            ],
        );
        let names = wire::names(&lease.scopes);
        let field = wire::field(&lease.id);
        let answer = self.call(Script::Settle, |call| {
            call.arg(4).arg(&keys.account).arg(&keys.outbox);
            call.arg(&keys.settled).arg(&keys.settled_before);
            call.arg(numbers.bytes()).arg(&used.event[..]);
            call.arg(&names).arg(&field[..]);
            wire::scopes(call, &lease.scopes);
        });
        match answer.await? {
            0 => Ok(Settled::Unknown),
            1 => Ok(Settled::Done),
            2 => Ok(Settled::Already),
            other => Err(nonsense(other)),
        }
    }

    async fn sweep_bucket(&self, bucket: u16) -> Result<usize, StoreError> {
        let offset = self.ahead_us();
        let ended: usize = self
            .call(Script::Sweep, |call| sweep_arguments(call, bucket, offset))
            .await?;
        Ok(ended)
    }

    /// Sweeps all buckets in one message.
    async fn sweep_at_once(&self, buckets: &[u16]) -> Result<Vec<usize>, RedisError> {
        let live = self.link.live().await?;
        let mut connection = live.connection.clone();
        let mut all = redis::pipe();
        for &bucket in buckets {
            let one = all.cmd("EVALSHA").arg(live.hash(Script::Sweep));
            let mut call = Cmd::new();
            sweep_arguments(&mut call, bucket, self.ahead_us());
            for argument in call.args_iter() {
                if let redis::Arg::Simple(argument) = argument {
                    one.arg(argument);
                }
            }
        }
        all.query_async(&mut connection).await
    }
}

impl Store for Redis {
    async fn admit(&self, admission: &Admission) -> Result<Decision, StoreError> {
        let lease = &admission.lease;
        if lease.scopes.len() > MOST_SCOPES {
            return Err(StoreError::Refused {
                message: format!("a request has at most {MOST_SCOPES} sets of limits"),
            });
        }
        let keys = wire::Keys::of(&lease.account);
        let numbers = Numbers::new(
            &lease.scopes,
            [
                self.ahead_us(),
                super::clock::micros(lease.lifetime),
                admission.tokens,
                admission.money,
                admission.least_money.min(admission.money),
                u64::from(admission.shadow),
                admission.month.0,
            ],
        );
        let record = wire::lease(admission);
        let field = wire::field(&lease.id);
        let answer = self.call(Script::Admit, |call| {
            call.arg(2).arg(&keys.account).arg(&keys.due);
            call.arg(numbers.bytes()).arg(&record);
            call.arg(&*lease.account).arg(&field[..]);
            wire::scopes(call, &lease.scopes);
        });
        let answer: Vec<u8> = answer.await?;
        wire::decision(&answer, admission).ok_or_else(|| nonsense("a decision of another length"))
    }

    async fn progress(&self, lease: &Lease, used: &Used) -> Result<Progressed, StoreError> {
        let keys = wire::Keys::of(&lease.account);
        let numbers = Numbers::new(
            &lease.scopes,
            [
                self.ahead_us(),
                super::clock::micros(lease.lifetime),
                used.tokens,
                used.money,
                used.held_tokens,
                used.held_money,
                self.month(),
            ],
        );
        let names = wire::names(&lease.scopes);
        let field = wire::field(&lease.id);
        let answer = self.call(Script::Progress, |call| {
            call.arg(4).arg(&keys.account).arg(&keys.due);
            call.arg(&keys.settled).arg(&keys.settled_before);
            call.arg(numbers.bytes()).arg(&used.event[..]);
            call.arg(&*lease.account).arg(&names).arg(&field[..]);
            wire::scopes(call, &lease.scopes);
        });
        match answer.await? {
            0 => Ok(Progressed::Unknown),
            1 => Ok(Progressed::Renewed),
            2 => Ok(Progressed::Ended),
            3 => Ok(Progressed::Revived),
            other => Err(nonsense(other)),
        }
    }

    async fn settle(&self, lease: &Lease, used: &Used) -> Result<Settled, StoreError> {
        self.end(lease, used, false).await
    }

    async fn charge(&self, lease: &Lease, used: &Used) -> Result<Settled, StoreError> {
        self.end(lease, used, true).await
    }

    async fn sweep(&self) -> Result<usize, StoreError> {
        let buckets = in_random_order();
        let connection = self.connection().await?;
        if !connection.is_cluster() {
            match self.sweep_at_once(&buckets).await {
                Ok(ended) => return Ok(ended.into_iter().sum()),
                Err(error) if is_unknown_script(&error) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        let mut ended = 0;
        for bucket in buckets {
            ended += self.sweep_bucket(bucket).await?;
        }
        Ok(ended)
    }
}

fn sweep_arguments(call: &mut Cmd, bucket: u16, offset: u64) {
    let keys = wire::Keys::of_bucket(bucket);
    call.arg(5).arg(&keys.due).arg(&keys.outbox);
    call.arg(&keys.settled).arg(&keys.settled_before);
    call.arg(&keys.period);
    call.arg(&keys.account)
        .arg(offset)
        .arg(SWEPT.0)
        .arg(SWEPT.1);
}

/// So that routers do not all sweep the same bucket: any start, and any odd step, meet all of them.
fn in_random_order() -> Vec<u16> {
    let mut random = [0; 4];
    // Without randomness any order will do.
    let _ = getrandom::fill(&mut random);
    let start = u16::from_le_bytes([random[0], random[1]]) % outbox::BUCKETS;
    let step = u16::from(random[2]) | 1;
    let place = |n: u16| start.wrapping_add(n.wrapping_mul(step)) % outbox::BUCKETS;
    (0..outbox::BUCKETS).map(place).collect()
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn nonsense(answer: impl std::fmt::Display) -> StoreError {
    StoreError::Refused {
        message: format!("it answered {answer}"),
    }
}
