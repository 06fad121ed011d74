//! The store of limits in Redis, shared by all routers: one script per call.

use std::time::Duration;

use inferyard_proto::outbox;
use inferyard_redis_link::{
    Address, Client, Script, Timeouts, concerns_keys, explain, is_unknown_script,
};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, cmd};

use super::clock::{Clock, month};
use super::store::{
    Admission, AdmissionDecision, Lease, Progressed, Settled, Store, StoreError, Used,
};

mod script;
mod wire;

use script::{ADMIT, PROGRESS, RAISE, REFUSE, SETTLE, SWEEP};
use wire::Numbers;

/// Timeout of connecting, which takes more round trips than a call, and even more with TLS.
const CONNECT: Duration = Duration::from_secs(2);

/// Leases that one sweep of a bucket ends at most, and fields that it reads at most.
const SWEPT: (u32, u32) = (256, 2_048);

/// Timeout of a sweep, which no request waits for.
const SWEEP_LIMIT: Duration = Duration::from_secs(3);

/// Scopes of a request at most (plan and key): the scripts have no loop over scopes.
const MOST_SCOPES: usize = 2;

/// Levels and leases in Redis. Connects on first use, and again after a failure.
pub(crate) struct Redis {
    client: Client,
    timeout: Duration,
    clock: Clock,
    #[cfg(test)]
    ahead_us: std::sync::atomic::AtomicU64,
}

// === impl Redis ===

impl Redis {
    /// A store at `address`; calls must be answered within `timeout`.
    pub(crate) fn new(address: Address, timeout: Duration) -> Self {
        let timeouts = Timeouts {
            connect: CONNECT,
            // Every call has its own timeout.
            response: None,
        };
        Self {
            client: Client::new(address, timeouts),
            timeout,
            clock: Clock::start(),
            #[cfg(test)]
            ahead_us: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// The shared client, for calls that are not about limits.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Converts the error of a call that concerns this key.
    pub(super) fn failed(&self, key: &str, error: &RedisError) -> StoreError {
        let message = explain(error);
        if concerns_keys(error) {
            refused(key, message)
        } else if error.is_timeout() {
            StoreError::TooSlow {
                after: self.timeout,
            }
        } else if error.is_io_error() || error.is_connection_dropped() {
            StoreError::Unreachable { message }
        } else {
            StoreError::Failed { message }
        }
    }

    /// Microseconds that tests add to the clock.
    #[cfg(test)]
    fn ahead_us(&self) -> u64 {
        self.ahead_us.load(std::sync::atomic::Ordering::Relaxed)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests have a clock of their own")]
    fn ahead_us(&self) -> u64 {
        0
    }

    /// Shifts the clock; wraps around, so that it can go back.
    #[cfg(test)]
    pub(super) fn shift(&self, us: u64) {
        let ahead = &self.ahead_us;
        ahead.fetch_add(us, std::sync::atomic::Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn this_month(&self) -> (u64, u64) {
        month(self.clock.now_us() + self.ahead_us())
    }

    /// Start of this month by the router's clock, in microseconds. The scripts reset the month once the clock of
    /// Redis has reached it.
    fn month(&self) -> u64 {
        month(self.clock.now_us() + self.ahead_us()).0
    }

    async fn call<T: FromRedisValue>(
        &self,
        script: &Script,
        key: &str,
        arguments: impl Fn(&mut Cmd) + Send,
    ) -> Result<T, StoreError> {
        let answer = self.client.call(self.timeout, script, arguments).await;
        answer.map_err(|error| self.failed(key, &error))
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
                u64::from(used.refused),
                0,
                self.month(),
            ],
        );
        let names = wire::names(&lease.scopes);
        let field = wire::field(&lease.id);
        let answer = self.call(&SETTLE, &keys.account, |call| {
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
            other => Err(nonsense(&keys.account, other)),
        }
    }

    async fn sweep_bucket(&self, bucket: u16) -> Result<usize, StoreError> {
        let offset = self.ahead_us();
        let keys = wire::Keys::of_bucket(bucket);
        self.call(&SWEEP, &keys.due, |call| {
            sweep_arguments(call, &keys, offset);
        })
        .await
    }

    /// Sweeps all buckets in one pipeline; `None`: a cluster, where the buckets are on several servers.
    async fn sweep_at_once(
        &self,
        buckets: &[u16],
    ) -> Result<Option<Vec<RedisResult<usize>>>, RedisError> {
        let live = self.client.live_after_pause().await?;
        if live.is_cluster() {
            return Ok(None);
        }
        let mut connection = live.connection();
        let mut all = redis::pipe();
        all.ignore_errors();
        for &bucket in buckets {
            let mut call = SWEEP.by_hash();
            sweep_arguments(&mut call, &wire::Keys::of_bucket(bucket), self.ahead_us());
            all.add_command(call);
        }
        let answer = all.query_async(&mut connection);
        let answer = self.client.answer(&live, SWEEP_LIMIT, answer);
        answer.await.map(Some)
    }

    /// Writes the complete usage event of a request to the outbox without charging it.
    pub(super) async fn publish(&self, account: &str, event: &[u8]) -> Result<(), StoreError> {
        let outbox = outbox::stream(outbox::bucket(account));
        let mut add = cmd("XADD");
        add.arg(&outbox).arg("*").arg(outbox::EVENT).arg(event);
        let added = self.client.ask(self.timeout, &add).await;
        added.map_err(|error| self.failed(&outbox, &error))
    }
}

impl Store for Redis {
    async fn admit(&self, admission: &Admission) -> Result<AdmissionDecision, StoreError> {
        let lease = &admission.lease;
        if lease.scopes.len() > MOST_SCOPES {
            return Err(StoreError::Failed {
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
        let answer = self.call(&ADMIT, &keys.account, |call| {
            call.arg(2).arg(&keys.account).arg(&keys.due);
            call.arg(numbers.bytes()).arg(&record);
            call.arg(&*lease.account).arg(&field[..]);
            wire::scopes(call, &lease.scopes);
        });
        let answer: Vec<u8> = answer.await?;
        wire::decision(&answer, admission)
            .ok_or_else(|| nonsense(&keys.account, "a decision of another length"))
    }

    async fn raise(&self, admission: &Admission) -> Result<Option<AdmissionDecision>, StoreError> {
        let lease = &admission.lease;
        let keys = wire::Keys::of(&lease.account);
        let numbers = Numbers::new(
            &lease.scopes,
            [
                self.ahead_us(),
                0,
                0,
                admission.money,
                admission.least_money.min(admission.money),
                u64::from(admission.shadow),
                admission.month.0,
            ],
        );
        let field = wire::field(&lease.id);
        let answer = self.call(&RAISE, &keys.account, |call| {
            call.arg(1).arg(&keys.account);
            call.arg(numbers.bytes()).arg(&field[..]);
            wire::scopes(call, &lease.scopes);
        });
        let answer: Vec<u8> = answer.await?;
        wire::raised(&answer, admission)
            .ok_or_else(|| nonsense(&keys.account, "a decision of another length"))
    }

    async fn refuse(&self, admission: &Admission) -> Result<AdmissionDecision, StoreError> {
        let lease = &admission.lease;
        let keys = wire::Keys::of(&lease.account);
        let shadow = u64::from(admission.shadow);
        let own = [self.ahead_us(), 0, 0, 0, 0, shadow, admission.month.0];
        let numbers = Numbers::new(&lease.scopes, own);
        let answer = self.call(&REFUSE, &keys.account, |call| {
            call.arg(1).arg(&keys.account).arg(numbers.bytes());
            wire::scopes(call, &lease.scopes);
        });
        let answer: Vec<u8> = answer.await?;
        wire::decision(&answer, admission)
            .ok_or_else(|| nonsense(&keys.account, "a decision of another length"))
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
        let answer = self.call(&PROGRESS, &keys.account, |call| {
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
            other => Err(nonsense(&keys.account, other)),
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
        let mut swept = Swept::default();
        let at_once = self.sweep_at_once(&buckets).await;
        let at_once = at_once.map_err(|error| self.failed("", &error))?;
        let mut by_themselves = at_once.is_none();
        for (&bucket, one) in buckets.iter().zip(at_once.unwrap_or_default()) {
            match one {
                Err(error) if is_unknown_script(&error) => by_themselves = true,
                one => {
                    let due = || wire::Keys::of_bucket(bucket).due;
                    swept.add(one.map_err(|error| self.failed(&due(), &error)))?;
                }
            }
        }
        if by_themselves {
            for bucket in buckets {
                swept.add(self.sweep_bucket(bucket).await)?;
            }
        }
        swept.result()
    }
}

/// The result over all buckets. A refused bucket does not end the sweep of the others.
#[derive(Default)]
struct Swept {
    ended: usize,
    refused: Option<StoreError>,
}

// === impl Swept ===

impl Swept {
    fn add(&mut self, bucket: Result<usize, StoreError>) -> Result<(), StoreError> {
        match bucket {
            Ok(ended) => self.ended += ended,
            Err(refused @ StoreError::Refused { .. }) => self.refused = Some(refused),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn result(self) -> Result<usize, StoreError> {
        match self.refused {
            // While leases end, the sweep goes on; the refusal is reported once none do.
            Some(refused) if self.ended == 0 => Err(refused),
            _ => Ok(self.ended),
        }
    }
}

fn sweep_arguments(call: &mut Cmd, keys: &wire::Keys, offset: u64) {
    call.arg(5).arg(&keys.due).arg(&keys.outbox);
    call.arg(&keys.settled).arg(&keys.settled_before);
    call.arg(&keys.period);
    call.arg(&keys.account)
        .arg(offset)
        .arg(SWEPT.0)
        .arg(SWEPT.1);
}

/// All buckets in random order, so that routers do not all sweep the same one. An odd step visits every bucket,
/// because their number is a power of two.
fn in_random_order() -> Vec<u16> {
    let mut random = [0; 4];
    // If there is no randomness, any order works.
    let _ = getrandom::fill(&mut random);
    let start = u16::from_le_bytes([random[0], random[1]]) % outbox::BUCKETS;
    let step = u16::from(random[2]) | 1;
    let place = |n: u16| start.wrapping_add(n.wrapping_mul(step)) % outbox::BUCKETS;
    (0..outbox::BUCKETS).map(place).collect()
}

fn nonsense(key: &str, answer: impl std::fmt::Display) -> StoreError {
    refused(key, format!("it answered {answer}"))
}

fn refused(key: &str, message: String) -> StoreError {
    StoreError::Refused {
        key: key.to_owned(),
        message,
    }
}
