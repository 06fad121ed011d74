//! The top level of a body: which fields there are, what becomes of each, and their values.

use std::ops::{Range, RangeInclusive};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::cursor::{Cursor, Kind, Raw};
use super::length::check_length;
use super::number::{decimal, integer, number_text};
use super::table::{self, Policy};
use super::text::decoded;
use super::walk::{Stop, members};
use super::{Api, Param, ReadError, StreamOptions, messages};

/// The fields of a body that are present and not null.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    body: &'a Bytes,
    table: &'static [(&'static str, Policy)],
    /// By place in the table.
    known: Vec<(usize, Field)>,
    /// `"key":value` of each unknown field.
    unknown: Vec<(Range<usize>, Range<usize>)>,
}

/// A value in the body.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// Walks the body: all of its grammar, the names of its fields, and its messages.
    pub(super) fn read(api: Api, body: &'a Bytes) -> Result<Self, ReadError> {
        let mut fields = Self {
            body,
            table: table::of(api),
            known: Vec::with_capacity(8),
            unknown: Vec::new(),
        };
        let mut cursor = Cursor::new(body);
        let walked = fields.walk(&mut cursor);
        walked
            .and_then(|()| Ok(cursor.finish()?))
            .map_err(|stop| stop.told(body))?;
        Ok(fields)
    }

    fn walk(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Stop> {
        let kind = cursor.kind()?;
        if kind != Kind::Object {
            cursor.skip()?;
            let got = kind.described();
            return Err(ReadError::NotAnObject { got }.into());
        }
        cursor.object::<Stop>(|cursor, key| {
            let Some(place) = self.place_of(key) else {
                self.unknown.push((key.quoted(), cursor.range()?));
                return Ok(());
            };
            let kind = cursor.kind()?;
            let start = cursor.position();
            match self.table[place].0 {
                "messages" if kind == Kind::Array => messages::walk(cursor)?,
                _ => cursor.skip()?,
            }
            let range = start..cursor.position();
            self.known.push((place, Field { kind, range }));
            Ok(())
        })
    }

    fn place_of(&self, key: Raw) -> Option<usize> {
        let key = key.name();
        let found = self
            .table
            .binary_search_by(|(name, _)| name.as_bytes().cmp(&key));
        found.ok()
    }

    /// Every field that is present and not null, with what becomes of it.
    pub(super) fn policies(&self) -> impl Iterator<Item = (&'static str, Policy, &Field)> {
        self.known
            .iter()
            .filter(|(_, field)| field.kind != Kind::Null)
            .map(|(place, field)| (self.table[*place].0, self.table[*place].1, field))
    }

    /// The field of this name, unless it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&Field> {
        self.known
            .iter()
            .find(|(place, field)| self.table[*place].0 == name && field.kind != Kind::Null)
            .map(|(_, field)| field)
    }

    /// The text of a value.
    pub(super) fn text(&self, field: &Field) -> &'a [u8] {
        &self.body[field.range.clone()]
    }

    /// The same bytes, shared.
    pub(super) fn slice(&self, range: Range<usize>) -> Bytes {
        self.body.slice(range)
    }

    /// Of a field that must be an array.
    pub(super) fn required_array(&self, name: &'static str) -> Result<Bytes, ReadError> {
        let Some((_, field)) = self
            .known
            .iter()
            .find(|(place, _)| self.table[*place].0 == name)
        else {
            let param = Param::new(name);
            return Err(ReadError::Missing { param });
        };
        match field.kind {
            Kind::Array => Ok(self.slice(field.range.clone())),
            got => Err(ReadError::wrong_type(name, "an array of objects", got)),
        }
    }

    /// A string of at most `longest` characters, unless absent.
    pub(super) fn string(
        &self,
        name: &'static str,
        longest: usize,
    ) -> Result<Option<String>, ReadError> {
        let Some(field) = self.get(name) else {
            return Ok(None);
        };
        if field.kind != Kind::String {
            return Err(ReadError::wrong_type(name, "a string", field.kind));
        }
        let text: String = decoded(self.text(field));
        check_length(name, &text, longest)?;
        Ok(Some(text))
    }

    /// `true` or `false`, unless absent.
    pub(super) fn boolean(&self, name: &'static str) -> Result<Option<bool>, ReadError> {
        match self.get(name) {
            None => Ok(None),
            Some(field) if field.kind == Kind::Bool => Ok(Some(self.text(field) == b"true")),
            Some(field) => Err(ReadError::wrong_type(name, "a boolean", field.kind)),
        }
    }

    /// A whole number within a range, unless absent.
    pub(super) fn integer<T>(
        &self,
        name: &'static str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, ReadError>
    where
        T: Copy + PartialOrd + TryFrom<i128> + Into<i128>,
    {
        let Some(field) = self.get(name) else {
            return Ok(None);
        };
        let text = number_text(name, "an integer", field.kind, self.text(field))?;
        integer(name, text, range).map(Some)
    }

    /// A number within a range, unless absent.
    pub(super) fn decimal(
        &self,
        name: &'static str,
        range: RangeInclusive<f32>,
    ) -> Result<Option<f32>, ReadError> {
        let Some(field) = self.get(name) else {
            return Ok(None);
        };
        let text = number_text(name, "a number", field.kind, self.text(field))?;
        decimal(name, text, range).map(Some)
    }

    /// `stream_options`, unless absent.
    pub(super) fn stream_options(&self) -> Result<Option<StreamOptions>, ReadError> {
        let Some(field) = self.get("stream_options") else {
            return Ok(None);
        };
        if field.kind != Kind::Object {
            return Err(ReadError::wrong_type(
                "stream_options",
                "an object",
                field.kind,
            ));
        }
        let mut options = StreamOptions::default();
        members(self.text(field), |cursor, key| {
            let kind = cursor.kind()?;
            let text = cursor.passed()?;
            // Others, such as OpenAI's `include_obfuscation`, change nothing that a client reads.
            if !key.is("include_usage") || kind == Kind::Null {
                return Ok(());
            }
            if kind != Kind::Bool {
                let param = "stream_options.include_usage";
                return Err(ReadError::wrong_type(param, "a boolean", kind).into());
            }
            options.include_usage = text == b"true";
            Ok(())
        })?;
        Ok(Some(options))
    }

    /// An object with the fields that the table does not know; empty: there are none.
    pub(super) fn unknown(&self) -> Bytes {
        if self.unknown.is_empty() {
            return Bytes::new();
        }
        let mut object = BytesMut::new();
        for (key, value) in &self.unknown {
            object.put_u8(if object.is_empty() { b'{' } else { b',' });
            object.put_slice(&self.body[key.clone()]);
            object.put_u8(b':');
            object.put_slice(&self.body[value.clone()]);
        }
        object.put_u8(b'}');
        object.freeze()
    }

    /// One of a set of strings, unless absent.
    pub(super) fn one_of(
        &self,
        name: &'static str,
        values: &[&str],
    ) -> Result<Option<String>, ReadError> {
        let value = self.string(name, usize::MAX)?;
        match &value {
            Some(text) if !values.contains(&text.as_str()) => {
                Err(ReadError::not_one_of(name, text, values))
            }
            Some(_) | None => Ok(value),
        }
    }
}
