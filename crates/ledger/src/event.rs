//! Converts an entry of the outbox into an event that the store can hold, or into a dead letter.

use bytes::Bytes;
use inferyard_proto::outbox::Entry;
use inferyard_proto::usage::v1::UsageEvent;
use prost::Message as _;

/// Longest name in bytes (of an account, a key, a plan, a model, …).
const LONGEST_NAME: usize = 1_024;
/// Most tokens of one request: no context is that long, and sums of millions of them fit 63 bits.
const MOST_TOKENS: u64 = 1 << 40;
/// The highest cost of one request, about a million dollars.
const HIGHEST_COST: u64 = 1 << 50;
/// The latest time that is accepted, in microseconds since the Unix epoch: in the year 2255.
const LAST_MOMENT: u64 = 1 << 53;

/// One part of what a request used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) request_id: String,
    pub(crate) part: i64,
    pub(crate) account: String,
    pub(crate) key: String,
    pub(crate) plan: String,
    pub(crate) model: String,
    pub(crate) endpoint: String,
    pub(crate) stream: bool,
    pub(crate) price: Price,
    /// Boot ID of the worker, 16 hexadecimal digits; empty: no worker produced tokens.
    pub(crate) worker_instance: String,
    /// The amounts of this part alone.
    pub(crate) amounts: Amounts,
    pub(crate) status: i64,
    pub(crate) code: String,
    pub(crate) admitted_us: i64,
    pub(crate) ended_us: i64,
    pub(crate) first_token_us: i64,
}

/// Prices in nano-dollars per token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Price {
    pub(crate) version: String,
    pub(crate) input: i64,
    pub(crate) cached_input: i64,
    pub(crate) output: i64,
}

/// Tokens and money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) prompt: i64,
    pub(crate) cached: i64,
    pub(crate) completion: i64,
    pub(crate) reasoning: i64,
    pub(crate) cost: i64,
}

/// An entry that cannot be read; its bytes are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub(crate) reason: String,
    pub(crate) part: String,
    pub(crate) event: Bytes,
    pub(crate) billed: Bytes,
}

/// Why an entry cannot be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the event is no UsageEvent")]
    Event(#[source] prost::DecodeError),
    #[error("what was billed before is no UsageEvent")]
    Billed(#[source] prost::DecodeError),
    #[error("request_id is not `req_` and 32 hexadecimal digits")]
    RequestId,
    #[error("account is empty")]
    NoAccount,
    #[error("{field} is longer than {LONGEST_NAME} bytes or holds control characters")]
    Name { field: &'static str },
    #[error("{field} is too large")]
    TooLarge { field: &'static str },
}

/// Reads an entry; one that cannot be read becomes a dead letter.
pub(crate) fn read(entry: Entry) -> Result<Event, DeadLetter> {
    parse(&entry).map_err(|error| DeadLetter {
        reason: error.to_string(),
        part: entry.part.to_string(),
        event: entry.event,
        billed: entry.billed,
    })
}

fn parse(entry: &Entry) -> Result<Event, ReadError> {
    let wire = UsageEvent::decode(entry.event.clone()).map_err(ReadError::Event)?;
    let mut amounts = amounts(&wire)?;
    if entry.part > 0 {
        let billed = UsageEvent::decode(entry.billed.clone()).map_err(ReadError::Billed)?;
        amounts = amounts.beyond(self::amounts(&billed)?);
    }
    if !is_request_id(&wire.request_id) {
        return Err(ReadError::RequestId);
    }
    if wire.account.is_empty() {
        return Err(ReadError::NoAccount);
    }
    let price = wire.price.unwrap_or_default();
    Ok(Event {
        part: entry.part.into(),
        account: name("account", wire.account)?,
        key: name("key", wire.key)?,
        plan: name("plan", wire.plan)?,
        model: name("model", wire.model)?,
        endpoint: name("endpoint", wire.endpoint)?,
        stream: wire.stream,
        price: Price {
            version: name("price.version", price.version)?,
            input: number("price.input", price.input, HIGHEST_COST)?,
            cached_input: number("price.cached_input", price.cached_input, HIGHEST_COST)?,
            output: number("price.output", price.output, HIGHEST_COST)?,
        },
        worker_instance: match wire.worker_instance {
            0 => String::new(),
            instance => instance_text(instance),
        },
        amounts,
        status: wire.status.into(),
        code: name("code", wire.code)?,
        admitted_us: number("admitted_us", wire.admitted_us, LAST_MOMENT)?,
        ended_us: number("ended_us", wire.ended_us, LAST_MOMENT)?,
        first_token_us: number("first_token_us", wire.first_token_us, LAST_MOMENT)?,
        request_id: wire.request_id,
    })
}

/// A worker's instance ID as the ledger writes it.
pub(crate) fn instance_text(instance: u64) -> String {
    format!("{instance:016x}")
}

fn amounts(wire: &UsageEvent) -> Result<Amounts, ReadError> {
    Ok(Amounts {
        prompt: number("prompt_tokens", wire.prompt_tokens, MOST_TOKENS)?,
        cached: number("cached_tokens", wire.cached_tokens, MOST_TOKENS)?,
        completion: number("completion_tokens", wire.completion_tokens, MOST_TOKENS)?,
        reasoning: number("reasoning_tokens", wire.reasoning_tokens, MOST_TOKENS)?,
        cost: number("cost_nanodollars", wire.cost_nanodollars, HIGHEST_COST)?,
    })
}

fn is_request_id(text: &str) -> bool {
    text.strip_prefix("req_").is_some_and(|digits| {
        digits.len() == 32
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn name(field: &'static str, text: String) -> Result<String, ReadError> {
    // PostgreSQL refuses U+0000, and names chosen by people hold no control characters.
    if text.len() > LONGEST_NAME || text.contains(char::is_control) {
        return Err(ReadError::Name { field });
    }
    Ok(text)
}

fn number(field: &'static str, value: u64, most: u64) -> Result<i64, ReadError> {
    if value > most {
        return Err(ReadError::TooLarge { field });
    }
    i64::try_from(value).map_err(|_| ReadError::TooLarge { field })
}

// === impl Event ===

impl Event {
    /// The time that it counts at, in microseconds: its end, or its admission if there was no end.
    pub(crate) fn time_us(&self) -> i64 {
        if self.ended_us > 0 {
            self.ended_us
        } else {
            self.admitted_us
        }
    }

    /// Number of requests that this part adds: only part 0 counts the request.
    pub(crate) fn requests(&self) -> i64 {
        i64::from(self.part == 0)
    }

    /// The dead letter of an event that the store refuses.
    pub(crate) fn refused(&self, reason: &str) -> DeadLetter {
        DeadLetter {
            reason: format!("the store refused it: {reason}"),
            part: self.part.to_string(),
            event: format!("{self:?}").into(),
            billed: Bytes::new(),
        }
    }
}

// === impl Amounts ===

impl Amounts {
    /// The amounts of these totals minus those that were billed before.
    fn beyond(self, billed: Self) -> Self {
        Self {
            prompt: (self.prompt - billed.prompt).max(0),
            cached: (self.cached - billed.cached).max(0),
            completion: (self.completion - billed.completion).max(0),
            reasoning: (self.reasoning - billed.reasoning).max(0),
            cost: (self.cost - billed.cost).max(0),
        }
    }
}

#[cfg(test)]
mod tests;
