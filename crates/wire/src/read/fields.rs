//! The top level of a body: its fields, their policies and their values.

use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::cursor::{Cursor, Kind, Raw};
use super::length::check_length;
use super::number::{decimal, integer, number_text};
use super::table::{self, FieldSpec, FieldType};
use super::text::decoded;
use super::walk::{Stop, members};
use super::{Api, Param, ReadError, StreamOptions, messages};

/// The fields of a body that are present and not null.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    body: &'a Bytes,
    table: &'static [FieldSpec],
    /// By position in the table.
    known: Vec<(usize, Field)>,
    /// Ranges of the key and the value of each unknown field.
    unknown: Vec<(Range<usize>, Range<usize>)>,
}

/// The type and the range of a value in the body.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// Walks the whole body: checks its grammar, finds its fields, and checks its messages.
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
            match self.table[place].name {
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
            .binary_search_by(|field| field.name.as_bytes().cmp(&key));
        found.ok()
    }

    /// All known fields that are present and not null.
    pub(super) fn present(&self) -> impl Iterator<Item = (&'static FieldSpec, &Field)> {
        let known = self.known.iter();
        let present = known.filter(|(_, field)| field.kind != Kind::Null);
        present.map(|(place, field)| (&self.table[*place], field))
    }

    /// The field with this name and its type, unless absent or null.
    fn typed(&self, name: &str) -> Option<(FieldType, &Field)> {
        let mut present = self.present();
        let found = present.find(|(spec, _)| spec.name == name);
        found.map(|(spec, field)| (spec.kind, field))
    }

    /// The field with this name, unless absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&Field> {
        self.typed(name).map(|(_, field)| field)
    }

    /// The text of a value.
    pub(super) fn text(&self, field: &Field) -> &'a [u8] {
        &self.body[field.range.clone()]
    }

    /// The same bytes, shared with the body.
    pub(super) fn slice(&self, range: Range<usize>) -> Bytes {
        self.body.slice(range)
    }

    /// The text of a field that must be an array.
    pub(super) fn required_array(&self, name: &'static str) -> Result<Bytes, ReadError> {
        let Some((_, field)) = self
            .known
            .iter()
            .find(|(place, _)| self.table[*place].name == name)
        else {
            let param = Param::new(name);
            return Err(ReadError::Missing { param });
        };
        match field.kind {
            Kind::Array => Ok(self.slice(field.range.clone())),
            got => Err(ReadError::wrong_type(name, "an array of objects", got)),
        }
    }

    /// A string within its maximum length; `None`: absent.
    pub(super) fn string(&self, name: &'static str) -> Result<Option<String>, ReadError> {
        let Some((kind, field)) = self.typed(name) else {
            return Ok(None);
        };
        if field.kind != Kind::String {
            return Err(ReadError::wrong_type(name, "a string", field.kind));
        }
        let text: String = decoded(self.text(field));
        if let FieldType::Text(longest) = kind {
            check_length(name, &text, longest)?;
        }
        Ok(Some(text))
    }

    /// A boolean; `None`: absent.
    pub(super) fn boolean(&self, name: &'static str) -> Result<Option<bool>, ReadError> {
        match self.get(name) {
            None => Ok(None),
            Some(field) if field.kind == Kind::Bool => Ok(Some(self.text(field) == b"true")),
            Some(field) => Err(ReadError::wrong_type(name, "a boolean", field.kind)),
        }
    }

    /// An integer within its bounds; `None`: absent.
    pub(super) fn integer<T>(&self, name: &'static str) -> Result<Option<T>, ReadError>
    where
        T: Copy + PartialOrd + TryFrom<i128> + Into<i128>,
    {
        let Some((kind, field)) = self.typed(name) else {
            return Ok(None);
        };
        let text = number_text(name, "an integer", field.kind, self.text(field))?;
        let FieldType::Integer(least, most) = kind else {
            unreachable!("`{name}` should be an integer in its table");
        };
        let bound = |bound| T::try_from(bound).ok().expect("a bound should fit");
        integer(name, text, bound(least)..=bound(most)).map(Some)
    }

    /// A number within its bounds; `None`: absent.
    pub(super) fn decimal(&self, name: &'static str) -> Result<Option<f32>, ReadError> {
        let Some((kind, field)) = self.typed(name) else {
            return Ok(None);
        };
        let text = number_text(name, "a number", field.kind, self.text(field))?;
        let FieldType::Decimal(least, most) = kind else {
            unreachable!("`{name}` should be a number in its table");
        };
        decimal(name, text, least..=most).map(Some)
    }

    /// `stream_options`; `None`: absent.
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
            // Other options, for example OpenAI's `include_obfuscation`, do not change what a client reads.
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

    /// An object of all fields that are not in the table; empty bytes if there are none.
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

    /// One of the allowed strings; `None`: absent.
    pub(super) fn one_of(&self, name: &'static str) -> Result<Option<String>, ReadError> {
        let value = self.string(name)?;
        let kind = self.typed(name).map(|(kind, _)| kind);
        match (&value, kind) {
            (Some(text), Some(FieldType::OneOf(values))) if !values.contains(&text.as_str()) => {
                Err(ReadError::not_one_of(name, text, values))
            }
            _ => Ok(value),
        }
    }
}
