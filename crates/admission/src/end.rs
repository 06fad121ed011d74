//! The end of a request, as it is sent to the store, or kept until the store can be reached.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use inferyard_catalog::Limits;

use super::clock::micros;
use super::store::{Lease, Scope, Used};

/// The final usage of a request.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) lease: Lease,
    pub(super) admitted: Admitted,
    pub(super) tokens: u64,
    /// Nano-dollars.
    pub(super) money: u64,
    /// It was refused; see [`Used`].
    pub(super) refused: bool,
    /// Its complete usage event.
    pub(super) event: Bytes,
}

/// Whether the store admitted a request, and therefore holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    /// Admitted without the store, which charges it now.
    No,
    Yes,
    /// The store gave no answer, and the request was refused: only what the store may hold is released.
    Unknown,
}

/// The encoding on disk. Field numbers are never reused.
#[derive(Clone, PartialEq, prost::Message)]
struct SettlementRecord {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    account: String,
    #[prost(message, repeated, tag = "3")]
    scopes: Vec<ScopeRecord>,
    #[prost(uint64, tag = "4")]
    lifetime_us: u64,
    #[prost(bool, tag = "5")]
    held: bool,
    #[prost(uint64, tag = "6")]
    tokens: u64,
    #[prost(uint64, tag = "7")]
    money: u64,
    #[prost(bytes = "bytes", tag = "8")]
    event: Bytes,
    #[prost(bool, tag = "9")]
    refused: bool,
    #[prost(bool, tag = "10")]
    unknown: bool,
}

/// A limit of 0 stands for none.
#[derive(Clone, PartialEq, prost::Message)]
struct ScopeRecord {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    requests_per_minute: u64,
    #[prost(uint64, tag = "3")]
    requests_per_day: u64,
    #[prost(uint64, tag = "4")]
    requests_total: u64,
    #[prost(uint64, tag = "5")]
    tokens_per_minute: u64,
    #[prost(uint64, tag = "6")]
    tokens_per_day: u64,
    #[prost(uint64, tag = "7")]
    concurrent_requests: u64,
    #[prost(uint64, tag = "8")]
    budget_per_month: u64,
}

/// The bytes are not an encoded end.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeEndError {
    #[error("it is no message")]
    Decode(#[source] prost::DecodeError),
    #[error("its id has {length} bytes instead of 16")]
    Id { length: usize },
}

// === impl End ===

impl End {
    pub(super) fn used(&self) -> Used {
        Used {
            tokens: self.tokens,
            money: self.money,
            held_tokens: 0,
            held_money: 0,
            refused: self.refused,
            event: self.event.clone(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let record = SettlementRecord {
            id: self.lease.id.to_vec(),
            account: self.lease.account.to_string(),
            scopes: self.lease.scopes.iter().map(ScopeRecord::from).collect(),
            lifetime_us: micros(self.lease.lifetime),
            held: self.admitted == Admitted::Yes,
            tokens: self.tokens,
            money: self.money,
            event: self.event.clone(),
            refused: self.refused,
            unknown: self.admitted == Admitted::Unknown,
        };
        record.encode_to_vec()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, DecodeEndError> {
        let record = SettlementRecord::decode(bytes).map_err(DecodeEndError::Decode)?;
        let id = record.id.as_slice().try_into();
        let id = id.map_err(|_| DecodeEndError::Id {
            length: record.id.len(),
        })?;
        Ok(Self {
            admitted: match record {
                SettlementRecord { unknown: true, .. } => Admitted::Unknown,
                SettlementRecord { held: true, .. } => Admitted::Yes,
                _ => Admitted::No,
            },
            tokens: record.tokens,
            money: record.money,
            refused: record.refused,
            event: record.event,
            lease: Lease {
                id,
                account: record.account.into(),
                scopes: record.scopes.into_iter().map(Scope::from).collect(),
                lifetime: Duration::from_micros(record.lifetime_us),
            },
        })
    }
}

// === impl ScopeRecord ===

impl From<&Scope> for ScopeRecord {
    fn from(scope: &Scope) -> Self {
        let number = |limit: Option<NonZeroU64>| limit.map_or(0, NonZeroU64::get);
        let Limits {
            requests_per_minute,
            requests_per_day,
            requests_total,
            tokens_per_minute,
            tokens_per_day,
            concurrent_requests,
            budget_per_month,
        } = scope.limits;
        Self {
            name: scope.name.to_string(),
            requests_per_minute: number(requests_per_minute),
            requests_per_day: number(requests_per_day),
            requests_total: number(requests_total),
            tokens_per_minute: number(tokens_per_minute),
            tokens_per_day: number(tokens_per_day),
            concurrent_requests: number(concurrent_requests),
            budget_per_month: number(budget_per_month),
        }
    }
}

impl From<ScopeRecord> for Scope {
    fn from(record: ScopeRecord) -> Self {
        Self {
            name: record.name.into(),
            limits: Limits {
                requests_per_minute: NonZeroU64::new(record.requests_per_minute),
                requests_per_day: NonZeroU64::new(record.requests_per_day),
                requests_total: NonZeroU64::new(record.requests_total),
                tokens_per_minute: NonZeroU64::new(record.tokens_per_minute),
                tokens_per_day: NonZeroU64::new(record.tokens_per_day),
                concurrent_requests: NonZeroU64::new(record.concurrent_requests),
                budget_per_month: NonZeroU64::new(record.budget_per_month),
            },
        }
    }
}

/// Joins two pieces of a usage event: concatenated protobuf messages are merged.
pub(super) fn join(first: &Bytes, second: &Bytes) -> Bytes {
    let mut joined = BytesMut::with_capacity(first.len() + second.len());
    joined.extend_from_slice(first);
    joined.extend_from_slice(second);
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{self, LimitKind};

    #[test]
    fn what_is_written_is_read_back() {
        let mut limits = Limits::default();
        for (index, (kind, _)) in kind::by_kind(&Limits::default()).into_iter().enumerate() {
            if kind != LimitKind::TokensPerDay {
                *kind::by_kind_mut(&mut limits, kind) = NonZeroU64::new(index as u64 + 1);
            }
        }
        let scope = |name: &str, limits| Scope {
            name: name.into(),
            limits,
        };
        let mut end = End {
            lease: Lease {
                id: *b"0123456789abcdef",
                account: "acme".into(),
                scopes: vec![scope("plan:p", limits), scope("key:k", Limits::default())],
                lifetime: Duration::from_millis(1_500),
            },
            admitted: Admitted::No,
            tokens: 11,
            money: 12,
            refused: true,
            event: Bytes::from_static(b"event"),
        };
        for admitted in [Admitted::No, Admitted::Yes, Admitted::Unknown] {
            end.admitted = admitted;
            let read = End::decode(end.encode().into()).unwrap();
            assert_eq!(format!("{read:?}"), format!("{end:?}"));
        }
    }

    #[test]
    fn other_bytes_are_no_end() {
        assert!(End::decode(Bytes::new()).is_err(), "no id");
        assert!(End::decode(Bytes::from_static(b"\xff\xff\xff")).is_err());
    }
}
