//! One test suite for every store of limits.

mod subject;
mod cases;
mod billing;
mod sequences;
mod crowd;
mod cluster;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use inferyard_proto::usage::v1::UsageEvent;
use prost::Message;

use super::clock::month;
use super::store::{Admission, Lease, Scope, Used};
use inferyard_catalog::Limits;
use subject::Subject;

const LIFETIME: Duration = Duration::from_secs(30);

fn limits(set: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    set(&mut limits);
    limits
}

fn n(limit: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(limit)
}

fn scope(name: &str, limits: Limits) -> Scope {
    Scope {
        name: name.into(),
        limits,
    }
}

/// A request of `account` that holds 10 tokens and 100 nano-dollars.
fn request(account: &str, scopes: Vec<Scope>) -> Admission {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    let first = UsageEvent {
        request_id: format!("{:x}", u128::from_le_bytes(id)),
        account: account.to_owned(),
        code: "router_lost".to_owned(),
        ..UsageEvent::default()
    };
    Admission {
        lease: Lease {
            id,
            account: account.into(),
            scopes,
            lifetime: LIFETIME,
        },
        tokens: 10,
        money: 100,
        least_money: 100,
        shadow: false,
        month: (0, 0),
        event: first.encode_to_vec().into(),
    }
}

/// A request on the plan `p` with these limits.
fn on_plan(account: &str, set: impl FnOnce(&mut Limits)) -> Admission {
    request(account, vec![scope("plan:p", limits(set))])
}

/// The same request with another id.
fn again(request: &Admission) -> Admission {
    let other = self::request(&request.lease.account, request.lease.scopes.clone());
    Admission {
        tokens: request.tokens,
        money: request.money,
        least_money: request.least_money,
        shadow: request.shadow,
        ..other
    }
}

fn used(tokens: u64, money: u64) -> Used {
    Used {
        tokens,
        money,
        held_tokens: 0,
        held_money: 0,
        refused: false,
        event: piece(tokens, money, ""),
    }
}

fn piece(tokens: u64, money: u64, code: &str) -> Bytes {
    let piece = UsageEvent {
        completion_tokens: tokens,
        cost_nanodollars: money,
        code: code.to_owned(),
        ..UsageEvent::default()
    };
    piece.encode_to_vec().into()
}

/// The usage with the complete event, for `settle` and `charge`.
fn whole(request: &Admission, mut used: Used) -> Used {
    used.event = [&request.event[..], &used.event[..]].concat().into();
    used
}

fn event(bytes: &Bytes) -> UsageEvent {
    UsageEvent::decode(&bytes[..]).expect("it should be an event")
}

/// Runs every case on both stores.
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::$case($crate::conformance::subject::memory()).await;
            })*
        }
        mod redis {
            $(#[tokio::test]
            async fn $case() {
                inferyard_test_servers::needs!(Redis);
                super::$case($crate::conformance::subject::redis()).await;
            })*
        }
    };
}
use on_both;

#[tokio::test]
async fn the_month_is_that_of_the_subject() {
    let subject = subject::memory();
    subject.shift(Duration::from_hours(24 * 40));
    let (first, next) = subject.month();
    assert_eq!((first, next), month(first + 1));
}
