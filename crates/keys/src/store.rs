//! Keys in Redis: one server or a cluster, as many keys as it has memory for.
//!
//! Routers read `iy:key:<hash>`, one for each text of a key, so that look-ups are spread over a
//! cluster. The truth about a key is `iy:key-id:<id>`; its changes are ordered by a revision, and
//! an entry never goes back to an older one. Lists and names only help to find ids.

use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use inferyard_proto::keys::v1::{KeyLimits, StoredKey};
use inferyard_redis_link::{Address, Client, Script, Timeouts, concerns_keys, explain, within};
use prost::Message;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, cmd};

mod change;
mod listing;
mod record;

pub use change::{LONGEST_OVERLAP, RotateError};
pub use listing::{LONGEST_PAGE, Page, ResolveError};

use crate::{KeyHash, KeyText, WantedKey};
use record::{KeyRecord, KeySecret, forget_at};

/// Bound for one attempt to connect, and for one answer.
const TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUTS: Timeouts = Timeouts {
    connect: TIMEOUT,
    response: Some(TIMEOUT),
};

/// Replaces a record if its revision is still the expected one.
static REPLACE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local revision = redis.call('HGET', KEYS[1], 'v') or '0'
if revision ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'k', ARGV[3], 't', ARGV[4])
if ARGV[5] == '0' then redis.call('PERSIST', KEYS[1])
else redis.call('EXPIREAT', KEYS[1], ARGV[5]) end
return 1",
    )
});

/// Writes an entry unless it has a later revision already.
static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local revision = redis.call('HGET', KEYS[1], 'v')
if revision and tonumber(revision) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'k', ARGV[2])
if ARGV[3] == '0' then redis.call('PERSIST', KEYS[1])
else redis.call('EXPIREAT', KEYS[1], ARGV[3]) end
return 1",
    )
});

/// The key store in Redis. Clones share one connection.
#[derive(Clone)]
pub struct KeyStore {
    client: Client,
}

/// A key that was created or rotated, with its text, which is stored nowhere.
#[derive(Debug)]
pub struct Issued {
    /// The key as it is stored.
    pub key: StoredKey,
    /// The secret, to be shown once.
    pub text: KeyText,
}

/// Why a request to the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or refused a command.
    #[error("the key store in Redis failed: {}", explain(.0))]
    Redis(RedisError),
    /// No answer in time.
    #[error("the key store in Redis did not answer in time")]
    TimedOut,
    /// A record cannot be decoded: something else wrote it.
    #[error("the key store in Redis holds something that is no key")]
    Damaged,
    /// Other writers changed the same key at every attempt.
    #[error("the key is being changed by somebody else: try again")]
    Contended,
}

// === impl KeyStore ===

impl KeyStore {
    /// A store at this address. It connects at the first request.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self {
            client: Client::new(address, TIMEOUTS),
        }
    }

    /// Finds a key by the hash of one of its texts. Texts that became invalid in the last 30 days are found too, with
    /// their end or `disabled` set.
    pub async fn find(&self, hash: &KeyHash) -> Result<Option<StoredKey>, StoreError> {
        let mut command = cmd("HGET");
        command.arg(entry_name(hash)).arg("k");
        let bytes: Option<Vec<u8>> = self.ask(command).await?;
        let key = bytes.map(|bytes| StoredKey::decode(&*bytes));
        key.transpose().map_err(|_| StoreError::Damaged)
    }

    /// Creates a key. Routers accept it as soon as this returns.
    pub async fn create(&self, wanted: WantedKey) -> Result<Issued, StoreError> {
        let text = KeyText::random();
        let fields = wanted.into_fields();
        let record = KeyRecord {
            revision: 1,
            key: StoredKey {
                id: new_id(),
                name: fields.name,
                account: fields.account,
                plan: fields.plan,
                created: now(),
                expires: fields.expires,
                disabled: false,
                redacted: text.redacted(),
                limits: Some(fields.limits).filter(|limits| *limits != KeyLimits::default()),
            },
            texts: vec![KeySecret {
                hash: text.hash(),
                until: None,
            }],
        };
        if !self.replace(0, &record).await? {
            return Err(StoreError::Contended);
        }
        // The entry comes last, because it makes the key usable: a crash before leaves no working key outside the lists.
        self.index(&record.key).await?;
        self.publish(&record).await?;
        let key = record.key;
        Ok(Issued { key, text })
    }

    /// The key of this id. A revoked or expired one is returned for 30 days.
    pub async fn get(&self, id: &str) -> Result<Option<StoredKey>, StoreError> {
        Ok(self.record(id).await?.map(|record| record.key))
    }

    async fn record(&self, id: &str) -> Result<Option<KeyRecord>, StoreError> {
        let mut command = cmd("HMGET");
        command.arg(record_name(id)).arg(&["v", "k", "t"]);
        KeyRecord::read(self.ask(command).await?)
    }

    /// Compare-and-set of a key's record by revision; `false`: another writer got there first.
    async fn replace(&self, revision: u64, record: &KeyRecord) -> Result<bool, StoreError> {
        let now = now();
        let call = self.client.call(TIMEOUT, &REPLACE, |call| {
            call.arg(1)
                .arg(record_name(&record.key.id))
                .arg(revision)
                .arg(record.revision)
                .arg(record.key.encode_to_vec())
                .arg(record.texts())
                .arg(record.forget_at(now));
        });
        in_time(call).await
    }

    /// Writes the entries that routers read, one for each secret of the key.
    async fn publish(&self, record: &KeyRecord) -> Result<(), StoreError> {
        let now = now();
        for text in &record.texts {
            let entry = record.entry(text);
            let call = self.client.call(TIMEOUT, &PUBLISH, |call| {
                call.arg(1)
                    .arg(entry_name(&text.hash))
                    .arg(record.revision)
                    .arg(entry.encode_to_vec())
                    .arg(forget_at(&entry, now));
            });
            let _newer: bool = in_time(call).await?;
        }
        Ok(())
    }

    /// Sends one command, after connecting if there is no connection.
    async fn ask<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        in_time(self.client.ask(TIMEOUT, &command)).await
    }
}

/// Bounds the time of a call, including that of the connection before it.
async fn in_time<T>(call: impl Future<Output = Result<T, RedisError>>) -> Result<T, StoreError> {
    match within(TIMEOUT, call).await {
        Some(answer) => answer.map_err(StoreError::from_redis),
        None => Err(StoreError::TimedOut),
    }
}

/// The address may hold a password.
impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyStore(…)")
    }
}

// === impl StoreError ===

impl StoreError {
    fn from_redis(error: RedisError) -> Self {
        if concerns_keys(&error) || error.kind() == ErrorKind::Parse {
            Self::Damaged
        } else if error.is_timeout() {
            Self::TimedOut
        } else {
            Self::Redis(error)
        }
    }
}

fn entry_name(hash: &KeyHash) -> String {
    format!("iy:key:{hash}")
}

fn record_name(id: &str) -> String {
    format!("iy:key-id:{id}")
}

/// Ids sort by the moment at which they were made: 12 digits of milliseconds, 12 random ones.
fn new_id() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random[2..]).expect("the system should have random numbers");
    let millis = u64::try_from(since_epoch().as_millis()).unwrap_or(0);
    format!("key_{millis:012x}{:012x}", u64::from_be_bytes(random))
}

/// Unix seconds.
fn now() -> u64 {
    since_epoch().as_secs()
}

fn since_epoch() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_different_and_sort_by_time() {
        let (first, second) = (new_id(), new_id());
        assert_eq!((first.len(), &first[..4]), (28, "key_"));
        assert!(first[..16] <= second[..16], "{first} {second}");
        assert_ne!(first, second);
    }
}
