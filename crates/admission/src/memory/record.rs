//! The record of a lease: what an admitted request holds, and its usage so far.

use std::sync::Arc;

use bytes::Bytes;
use inferyard_proto::outbox::Entry;

use crate::clock::micros;
use crate::end::join;
use crate::levels::{Change, number};
use crate::store::{Admission, Used};

/// The record of a lease.
pub(super) struct LeaseRecord {
    /// When it expires; once expired, when it is dropped. In microseconds of the steady clock.
    pub(super) due_us: u64,
    /// Expired: it holds nothing, and is billed up to its last report.
    pub(super) is_expired: bool,
    /// Names of its scopes at admission; these hold its amounts, even if the plan has changed since.
    pub(super) scopes: Vec<Arc<str>>,
    granted: f64,
    tokens: u64,
    money: u64,
    held_tokens: f64,
    held_money: f64,
    /// The number of the next part of its usage event.
    part: u32,
    first: Bytes,
    last: Bytes,
    /// The second piece of the event up to which earlier parts were billed.
    billed: Bytes,
}

// === impl LeaseRecord ===

impl LeaseRecord {
    pub(super) fn new(wanted: &Admission, money: f64, now_us: u64) -> Self {
        let scopes = wanted.lease.scopes.iter();
        Self {
            due_us: now_us + micros(wanted.lease.lifetime),
            is_expired: false,
            scopes: scopes.map(|scope| Arc::clone(&scope.name)).collect(),
            granted: money,
            tokens: 0,
            money: 0,
            held_tokens: number(wanted.tokens),
            held_money: money,
            part: 0,
            first: wanted.event.clone(),
            last: Bytes::new(),
            billed: Bytes::new(),
        }
    }

    pub(super) fn granted(&self) -> f64 {
        self.granted
    }

    /// Nano-dollars that it holds; `None`: expired.
    pub(super) fn held_money(&self) -> Option<f64> {
        (!self.is_expired).then_some(self.held_money)
    }

    /// Sets the money that it holds.
    pub(super) fn raise(&mut self, money: f64) {
        self.granted = money;
        self.held_money = money;
    }

    /// Applies a report, and revives an expired lease. A report older than the last one changes nothing.
    pub(super) fn progress(&mut self, used: &Used) -> Change {
        let mut change = Change::default();
        if self.is_expired {
            self.is_expired = false;
            change.running = 1.0;
        }
        if used.tokens < self.tokens || used.money < self.money {
            return change;
        }
        change.tokens = number(used.tokens - self.tokens);
        change.money = number(used.money - self.money);
        change.held_tokens = number(used.held_tokens) - self.held_tokens;
        change.held_money = number(used.held_money) - self.held_money;
        self.tokens = used.tokens;
        self.money = used.money;
        self.held_tokens = number(used.held_tokens);
        self.held_money = number(used.held_money);
        self.last = used.event.clone();
        change
    }

    /// Ends it: returns what it releases and is charged, and its usage event.
    pub(super) fn end(self, used: &Used) -> (Change, Entry) {
        let more = |now: u64, before: u64| {
            let before = if used.refused {
                before
            } else {
                before.min(now)
            };
            number(now) - number(before)
        };
        let change = Change {
            requests: 0.0,
            lasting: if used.refused { -1.0 } else { 0.0 },
            tokens: more(used.tokens, self.tokens),
            money: more(used.money, self.money),
            held_tokens: -self.held_tokens,
            held_money: -self.held_money,
            running: if self.is_expired { 0.0 } else { -1.0 },
        };
        (change, self.entry(used.event.clone()))
    }

    /// Expires it: returns what it releases, and its usage event from the last report.
    pub(super) fn expire(&mut self) -> (Change, Entry) {
        let change = Change {
            held_tokens: -self.held_tokens,
            held_money: -self.held_money,
            running: -1.0,
            ..Change::default()
        };
        let entry = self.entry(join(&self.first, &self.last));
        self.is_expired = true;
        self.held_tokens = 0.0;
        self.held_money = 0.0;
        self.part += 1;
        self.billed = self.last.clone();
        (change, entry)
    }

    fn entry(&self, event: Bytes) -> Entry {
        let billed = match self.part {
            0 => Bytes::new(),
            _ => join(&self.first, &self.billed),
        };
        Entry {
            event,
            part: self.part,
            billed,
        }
    }
}

/// The charge and the usage event of a request that was not admitted here.
pub(super) fn unknown(used: &Used) -> (Change, Entry) {
    let change = Change {
        requests: 1.0,
        lasting: if used.refused { 0.0 } else { 1.0 },
        tokens: number(used.tokens),
        money: number(used.money),
        ..Change::default()
    };
    let entry = Entry {
        event: used.event.clone(),
        part: 0,
        billed: Bytes::new(),
    };
    (change, entry)
}
