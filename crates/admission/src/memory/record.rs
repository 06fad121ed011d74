//! A request that is in: what it holds, and how far it is.

use std::sync::Arc;

use bytes::Bytes;
use inferyard_proto::outbox::Entry;

use crate::clock::micros;
use crate::end::join;
use crate::meters::{Change, number};
use crate::store::{Admission, Used};

/// The record of a lease.
pub(super) struct Record {
    /// When it expires; when it is dropped, if it has expired.
    pub(super) due_us: u64,
    /// It holds nothing, and is billed up to what it told.
    pub(super) is_expired: bool,
    /// Names of its scopes: what they hold for it is given back whatever plan there is by then.
    pub(super) scopes: Vec<Arc<str>>,
    granted: f64,
    tokens: u64,
    money: u64,
    held_tokens: f64,
    held_money: f64,
    /// Which part of its event comes next.
    part: u32,
    first: Bytes,
    last: Bytes,
    /// The second piece up to which the parts before have billed.
    billed: Bytes,
}

// === impl Record ===

impl Record {
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

    /// Nano-dollars that it holds; `None`: it has expired.
    pub(super) fn held_money(&self) -> Option<f64> {
        (!self.is_expired).then_some(self.held_money)
    }

    /// Holds another amount of money.
    pub(super) fn raise(&mut self, money: f64) {
        self.granted = money;
        self.held_money = money;
    }

    /// Moves it on, and back to life. What is older than what is known changes nothing.
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

    /// Ends it: what it gives back and is charged, and its event.
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

    /// Its time is over: what it gives back, and its event as far as it told.
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

/// The charge and the event of a request that was never admitted here.
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
