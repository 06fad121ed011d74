//! JSON becomes values for templates, and these JSON again, with every number as it was written.
//!
//! The template engine has integers of 128 bits and doubles. A number that is neither is carried as its text: rounded
//! silently, an id of twenty digits would be another one for the model.

use std::fmt;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use memchr::memchr2;
use minijinja::Value;
use minijinja::value::{Object, ObjectRepr};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::decimal::Decimal;

/// A number of so many characters without an exponent is what it was after it was a double.
const SHORT: usize = 15;

/// A number that only its text holds.
#[derive(Debug)]
pub(super) struct Exact(Box<RawValue>);

/// A value, to be written as JSON.
pub(super) struct Json<'a>(pub(super) &'a Value);

/// Reads JSON.
pub(super) fn read(json: &[u8]) -> Result<Value, serde_json::Error> {
    let wide = wide(json);
    if wide.is_empty() {
        return serde_json::from_slice(json);
    }
    let mut numbers = Numbers {
        count: 0,
        wide: wide.into_iter().peekable(),
    };
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Reading(&mut numbers).deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Whether a value is a number.
pub(super) fn is_number(value: &Value) -> bool {
    value.is_number() || value.downcast_object_ref::<Exact>().is_some()
}

/// Whether a value is a whole number.
pub(super) fn is_integer(value: &Value) -> bool {
    let exact = value.downcast_object_ref::<Exact>();
    value.is_integer() || exact.is_some_and(|exact| is_whole(exact.0.get()))
}

/// Whether a value is a number with a point or an exponent.
pub(super) fn is_float(value: &Value) -> bool {
    is_number(value) && !is_integer(value)
}

/// The numbers of a text that a reader would round, each with its place among all numbers.
fn wide(json: &[u8]) -> Vec<(usize, Value)> {
    let mut found = Vec::new();
    let (mut at, mut count) = (0, 0);
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => at = behind_string(json, at + 1),
            b'-' | b'0'..=b'9' => {
                let length = json[at..]
                    .iter()
                    .take_while(|byte| {
                        matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
                    })
                    .count();
                let number = std::str::from_utf8(&json[at..at + length]);
                if let Some(value) = number.ok().and_then(kept) {
                    found.push((count, value));
                }
                count += 1;
                at += length;
            }
            _ => at += 1,
        }
    }
    found
}

/// Where a string ends that begins at `at`.
fn behind_string(json: &[u8], mut at: usize) -> usize {
    while let Some(found) = json.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if json[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

/// The value of a number that a reader would round; none: it reads it as it is, or refuses it.
fn kept(number: &str) -> Option<Value> {
    let is_whole = is_whole(number);
    if number.len() <= SHORT && (is_whole || !number.contains(['e', 'E'])) {
        return None;
    }
    if is_whole && (number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok()) {
        return None;
    }
    let read: f64 = serde_json::from_str(number).ok()?;
    if is_whole && let Ok(value) = number.parse::<i128>() {
        return Some(value.into());
    }
    if is_whole && let Ok(value) = number.parse::<u128>() {
        return Some(value.into());
    }
    // Of two shortest texts of a double, the two writers may choose different ones.
    let printed = [format!("{read:e}"), serde_json::to_string(&read).ok()?];
    let written = Decimal::parse(number);
    if printed
        .iter()
        .all(|printed| Decimal::parse(printed) == written)
    {
        return None;
    }
    let raw = RawValue::from_string(number.to_owned()).ok()?;
    Some(Value::from_object(Exact(raw)))
}

fn is_whole(number: &str) -> bool {
    !number.contains(['.', 'e', 'E'])
}

// === impl Exact ===

impl Object for Exact {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get())
    }
}

// === impl Json ===

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(object) = self.0.as_object() else {
            return self.0.serialize(serializer);
        };
        match (object.downcast_ref::<Exact>(), object.repr()) {
            (Some(exact), _) => exact.0.serialize(serializer),
            (None, ObjectRepr::Seq | ObjectRepr::Iterable) => {
                let mut list = serializer.serialize_seq(object.enumerator_len())?;
                for item in object.try_iter().into_iter().flatten() {
                    list.serialize_element(&Json(&item))?;
                }
                list.end()
            }
            (None, ObjectRepr::Map) => {
                let mut map = serializer.serialize_map(None)?;
                for (key, value) in object.try_iter_pairs().into_iter().flatten() {
                    map.serialize_entry(&key, &Json(&value))?;
                }
                map.end()
            }
            (None, _) => self.0.serialize(serializer),
        }
    }
}

/// The numbers of a text that is being read.
struct Numbers {
    count: usize,
    wide: Peekable<IntoIter<(usize, Value)>>,
}

/// Reads a value, in which the wide numbers take the place of what they were rounded to.
struct Reading<'n>(&'n mut Numbers);

// === impl Numbers ===

impl Numbers {
    fn next(&mut self, read: impl Into<Value>) -> Value {
        let count = self.count;
        self.count += 1;
        let wide = self.wide.next_if(|(place, _)| *place == count);
        wide.map_or_else(|| read.into(), |(_, value)| value)
    }
}

// === impl Reading ===

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::from(()))
    }

    fn visit_bool<E>(self, read: bool) -> Result<Value, E> {
        Ok(Value::from(read))
    }

    fn visit_u64<E>(self, read: u64) -> Result<Value, E> {
        Ok(self.0.next(read))
    }

    fn visit_i64<E>(self, read: i64) -> Result<Value, E> {
        Ok(self.0.next(read))
    }

    fn visit_f64<E>(self, read: f64) -> Result<Value, E> {
        Ok(self.0.next(read))
    }

    fn visit_str<E>(self, read: &str) -> Result<Value, E> {
        Ok(Value::from(read))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Reading(&mut *self.0))? {
            list.push(item);
        }
        Ok(Value::from(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(name) = fields.next_key::<String>()? {
            map.push((name, fields.next_value_seed(Reading(&mut *self.0))?));
        }
        Ok(map.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
