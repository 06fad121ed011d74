//! Where usage events wait in Redis until the ledger has them: names that routers and ledgers share.

use bytes::Bytes;

/// Accounts are spread over this many buckets, each in one slot of a Redis Cluster. It is part of
/// the names of all keys, so another number would lose sight of what is stored.
pub const BUCKETS: u16 = 64;

/// The consumer group of the ledgers.
pub const GROUP: &str = "ledger";

/// Field of a stream entry: the serialized [`UsageEvent`](crate::usage::v1::UsageEvent).
pub const EVENT: &str = "e";
/// Field of a stream entry: which part of the request's event it is; absent: 0. A request has more
/// than one where its lease had expired before it ended.
pub const PART: &str = "p";
/// Field of a stream entry with a part above 0: the serialized event up to which the parts before it
/// have billed, so that this part bills the difference.
pub const BILLED: &str = "b";

/// The bucket of an account: FNV-1a of its name.
#[must_use]
pub fn bucket(account: &str) -> u16 {
    let hash = account
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    u16::try_from(hash % u64::from(BUCKETS)).expect("a remainder should be below its divisor")
}

/// The hash tag of a bucket, with which every key of its accounts begins.
#[must_use]
pub fn tag(bucket: u16) -> String {
    format!("{{iy:{bucket}}}")
}

/// The stream in which the events of a bucket wait.
#[must_use]
pub fn stream(bucket: u16) -> String {
    format!("{{iy:{bucket}}}:outbox")
}

/// One entry of an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The serialized event.
    pub event: Bytes,
    /// Which part of the request's event this is.
    pub part: u32,
    /// Up to which the parts before have billed; empty for part 0.
    pub billed: Bytes,
}
