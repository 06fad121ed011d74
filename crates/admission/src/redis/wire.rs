//! Encodes the arguments of the scripts and decodes their results: names, and doubles packed into one string.

use crate::kind::by_kind;
use inferyard_proto::outbox;
use redis::Cmd;

use crate::levels::{Levels, Now, Outcome, SIZE, number, whole};
use crate::store::{Admission, AdmissionDecision, Scope};

/// The keys of an account and of its bucket, all in one slot of a cluster.
pub(super) struct Keys {
    /// The key of the account; for a bucket, the prefix of these keys.
    pub(super) account: String,
    pub(super) due: String,
    pub(super) outbox: String,
    pub(super) settled: String,
    pub(super) settled_before: String,
    pub(super) period: String,
}

/// The doubles that every script takes first: seven of its own, then seven limits per scope.
pub(super) struct Numbers(Vec<u8>);

// === impl Keys ===

impl Keys {
    pub(super) fn of_bucket(bucket: u16) -> Self {
        let tag = outbox::tag(bucket);
        Self {
            account: format!("{tag}:a:"),
            due: format!("{tag}:due"),
            outbox: outbox::stream(bucket),
            settled: format!("{tag}:settled"),
            settled_before: format!("{tag}:settled-before"),
            period: format!("{tag}:period"),
        }
    }

    pub(super) fn of(account: &str) -> Self {
        let mut keys = Self::of_bucket(outbox::bucket(account));
        keys.account.push_str(account);
        keys
    }
}

// === impl Numbers ===

impl Numbers {
    pub(super) fn new(scopes: &[Scope], own: [u64; 7]) -> Self {
        let mut bytes = Vec::with_capacity(56 * (1 + scopes.len()));
        let limits = scopes.iter().flat_map(|scope| by_kind(&scope.limits));
        let limits = limits.map(|(_, limit)| limit.map_or(0, Into::into));
        for value in own.into_iter().chain(limits) {
            bytes.extend_from_slice(&number(value).to_le_bytes());
        }
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The hash field of a lease.
pub(super) fn field(id: &[u8; 16]) -> [u8; 18] {
    let mut field = [0; 18];
    field[..2].copy_from_slice(b"l:");
    field[2..].copy_from_slice(id);
    field
}

/// The names of scopes, each followed by a zero byte, as leases store them.
pub(super) fn names(scopes: &[Scope]) -> String {
    let mut names = String::new();
    for scope in scopes {
        names.push_str(&scope.name);
        names.push('\0');
    }
    names
}

/// A new lease without its first three doubles, which the script adds (see `scopes.lua`).
pub(super) fn lease(wanted: &Admission) -> Vec<u8> {
    let names = names(&wanted.lease.scopes);
    let sizes = [names.len() as u64, wanted.event.len() as u64, 0];
    let mut lease = Vec::with_capacity(64 + names.len() + wanted.event.len());
    let numbers = [0, 0, 0, 0, wanted.tokens].into_iter().chain(sizes);
    for value in numbers {
        lease.extend_from_slice(&number(value).to_le_bytes());
    }
    lease.extend_from_slice(names.as_bytes());
    lease.extend_from_slice(&wanted.event);
    lease
}

/// Appends the fields of the scopes, which are the last arguments.
pub(super) fn scopes(call: &mut Cmd, scopes: &[Scope]) {
    for scope in scopes {
        call.arg(&*scope.name);
    }
}

/// Decodes the result of `raise.lua`; inner `None`: the lease does not exist.
#[expect(clippy::option_option, reason = "the outer one is a broken answer")]
pub(super) fn raised(bytes: &[u8], wanted: &Admission) -> Option<Option<AdmissionDecision>> {
    let found = f64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    if found < 0.0 {
        return Some(None);
    }
    decision(bytes, wanted).map(Some)
}

/// Decodes the result of `admit.lua` or `refuse.lua`. The script only decides; the statuses are computed here, with
/// the same code as for the store in memory.
pub(super) fn decision(bytes: &[u8], wanted: &Admission) -> Option<AdmissionDecision> {
    let (head, states) = bytes.split_at_checked(24)?;
    let mut head = head.chunks_exact(8);
    let mut double = || Some(f64::from_le_bytes(head.next()?.try_into().ok()?));
    let admitted = double()? != 0.0;
    let now = Now {
        us: double()?,
        month: (number(wanted.month.0), number(wanted.month.1)),
    };
    let outcome = Outcome {
        admitted,
        money: double()?,
    };
    let scopes = &wanted.lease.scopes;
    if states.len() != SIZE * scopes.len() {
        return None;
    }
    let mut statuses = Vec::new();
    for (scope, state) in scopes.iter().zip(states.chunks_exact(SIZE)) {
        let mut levels = Levels::decode(state)?;
        levels.leak(&scope.limits, now);
        levels.statuses(&scope.limits, wanted, outcome, now, &mut statuses);
    }
    Some(AdmissionDecision {
        admitted,
        money: whole(outcome.money),
        statuses,
    })
}
