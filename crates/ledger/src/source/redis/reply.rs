//! Replies of Redis about entries of streams.

use bytes::Bytes;
use inferyard_proto::outbox::{BILLED, BUCKETS, EVENT, Entry, PART, stream};
use redis::{ErrorKind, RedisError, RedisResult, Value};

use crate::event::DeadLetter;

/// An entry that was delivered to this consumer.
pub(super) struct Delivered {
    pub(super) bucket: u16,
    pub(super) id: String,
    /// None: it has been deleted.
    pub(super) entry: Option<Result<Entry, DeadLetter>>,
}

/// The reply to `XREADGROUP`: streams with their entries, or nothing.
pub(super) fn read(reply: Value) -> RedisResult<Vec<Delivered>> {
    let streams = match reply {
        Value::Nil => return Ok(Vec::new()),
        Value::Map(pairs) => pairs,
        Value::Array(streams) => streams.into_iter().map(pair).collect::<RedisResult<_>>()?,
        _ => return Err(unexpected()),
    };
    let mut delivered = Vec::new();
    for (name, entries) in streams {
        let name = bytes(name)?;
        let bucket = (0..BUCKETS)
            .find(|bucket| stream(*bucket).as_bytes() == name)
            .ok_or_else(unexpected)?;
        delivered.extend(self::entries(bucket, entries)?);
    }
    Ok(delivered)
}

/// The reply to `XAUTOCLAIM`: a cursor, entries, and (since Redis 7) ids that were deleted.
pub(super) fn claimed(bucket: u16, reply: Value) -> RedisResult<Vec<Delivered>> {
    let Value::Array(parts) = reply else {
        return Err(unexpected());
    };
    let claimed = parts.into_iter().nth(1).ok_or_else(unexpected)?;
    entries(bucket, claimed)
}

/// The reply to `XINFO CONSUMERS`: names with how many entries are pending and how long they are idle.
pub(super) fn consumers(reply: Value) -> RedisResult<Vec<(String, u64, u64)>> {
    let list: Vec<std::collections::HashMap<String, Value>> = redis::from_redis_value(reply)?;
    list.into_iter()
        .map(|mut fields| {
            let mut field = |name: &str| fields.remove(name).ok_or_else(unexpected);
            Ok((
                redis::from_redis_value(field("name")?)?,
                redis::from_redis_value(field("pending")?)?,
                redis::from_redis_value(field("idle")?)?,
            ))
        })
        .collect()
}

fn entries(bucket: u16, list: Value) -> RedisResult<Vec<Delivered>> {
    let Value::Array(list) = list else {
        return Err(unexpected());
    };
    list.into_iter()
        .map(|item| {
            let (id, fields) = pair(item)?;
            let id = String::from_utf8(bytes(id)?).map_err(|_| unexpected())?;
            let entry = match fields {
                Value::Nil => None,
                Value::Array(fields) => Some(entry(fields)?),
                _ => return Err(unexpected()),
            };
            Ok(Delivered { bucket, id, entry })
        })
        .collect()
}

fn entry(fields: Vec<Value>) -> RedisResult<Result<Entry, DeadLetter>> {
    let mut event = None;
    let mut part: Option<Vec<u8>> = None;
    let mut billed = Vec::new();
    let mut others = Vec::new();
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let (name, value) = (bytes(name)?, bytes(value)?);
        if name == EVENT.as_bytes() {
            event = Some(value);
        } else if name == PART.as_bytes() {
            part = Some(value);
        } else if name == BILLED.as_bytes() {
            billed = value;
        } else {
            others.extend_from_slice(&name);
            others.push(b'=');
            others.extend_from_slice(&value);
            others.push(b'\n');
        }
    }
    let part_text = String::from_utf8_lossy(part.as_deref().unwrap_or(b"0")).into_owned();
    let letter = |reason: &str, event: Vec<u8>, billed: Vec<u8>| DeadLetter {
        reason: reason.to_owned(),
        // PostgreSQL's texts hold no U+0000.
        part: part_text.replace('\0', "\u{fffd}"),
        event: event.into(),
        billed: billed.into(),
    };
    Ok(match (event, part_text.parse()) {
        (None, _) => Err(letter("the entry holds no event", others, billed)),
        (Some(event), Err(_)) => Err(letter("the part is not a number", event, billed)),
        (Some(event), Ok(part)) => Ok(Entry {
            event: event.into(),
            part,
            billed: Bytes::from(billed),
        }),
    })
}

fn pair(value: Value) -> RedisResult<(Value, Value)> {
    let Value::Array(values) = value else {
        return Err(unexpected());
    };
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(first), Some(second)) => Ok((first, second)),
        _ => Err(unexpected()),
    }
}

fn bytes(value: Value) -> RedisResult<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> RedisError {
    (
        ErrorKind::UnexpectedReturnType,
        "a reply about a stream has an unknown shape",
    )
        .into()
}
