//! Protobuf, field by field: how a value stands in a stored body. [`values`] has the types of the domain.
//!
//! Absent scalars are written as proto3 writes them: not at all. Fields that a reader does not know are passed over.

mod values;

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use crate::DecodeError;

/// The result of reading.
pub type Decoded<T> = Result<T, DecodeError>;

/// A field's bytes.
#[derive(Debug, Clone, Copy)]
enum Value<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// A body taken apart: its fields in the order they stand.
pub struct Fields<'b>(Vec<(u32, Value<'b>)>);

impl<'b> Fields<'b> {
    /// Takes a body apart.
    pub fn parse(mut body: &'b [u8]) -> Decoded<Self> {
        let mut fields = Vec::new();
        let cut = |_| DecodeError::malformed("field", "cut short");
        while !body.is_empty() {
            let (tag, wire_type) = decode_key(&mut body).map_err(cut)?;
            let value = match wire_type {
                WireType::Varint => Value::Number(decode_varint(&mut body).map_err(cut)?),
                WireType::LengthDelimited => {
                    let length = decode_varint(&mut body).map_err(cut)?;
                    let end = usize::try_from(length).ok().filter(|length| *length <= body.len());
                    let (bytes, rest) = body.split_at(end.ok_or_else(|| DecodeError::malformed("field", "cut short"))?);
                    body = rest;
                    Value::Bytes(bytes)
                }
                // No stored message has a fixed-width field.
                _ => return Err(DecodeError::malformed("field", "of an unknown wire type")),
            };
            fields.push((tag, value));
        }
        Ok(Self(fields))
    }

    /// A scalar, of which the last one counts.
    fn number(&self, tag: u32, name: &str) -> Decoded<Option<u64>> {
        match self.0.iter().rfind(|(one, _)| *one == tag) {
            None => Ok(None),
            Some((_, Value::Number(number))) => Ok(Some(*number)),
            Some(_) => Err(DecodeError::malformed(name, "not a number")),
        }
    }

    fn bytes(&self, tag: u32, name: &str) -> Decoded<Option<&'b [u8]>> {
        self.all(tag, name).next_back().transpose()
    }

    fn all(&self, tag: u32, name: &str) -> impl DoubleEndedIterator<Item = Decoded<&'b [u8]>> {
        self.0.iter().filter(move |(one, _)| *one == tag).map(move |(_, value)| match value {
            Value::Bytes(bytes) => Ok(*bytes),
            Value::Number(_) => Err(DecodeError::malformed(name, "a number")),
        })
    }
}

/// A value that stands in a body at a tag, or at two.
pub trait Field<Tag = u32>: Sized {
    /// Appends the value.
    fn put(&self, tag: Tag, out: &mut Vec<u8>);
    /// Reads the value; `name` is for errors.
    fn get(fields: &Fields<'_>, tag: Tag, name: &'static str) -> Decoded<Self>;
    /// A value for golden files and fuzzing, whose every field is present.
    fn sample() -> Self;
    /// Whether the value says anything; a field of a later version is written only then.
    fn is_present(&self) -> bool {
        true
    }
}

/// A message inside a body.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no stored form",
    note = "declare its fields with `message!`, or with `fact!` where it is a fact, in crates/facts/src/<subject>.rs"
)]
pub trait Message: Sized {
    /// Appends its fields.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads its fields.
    fn read(fields: &Fields<'_>) -> Decoded<Self>;
    /// One whose every field is present.
    fn sample() -> Self;
}

impl<M: Message> Field for M {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        self.write(&mut body);
        put_bytes(tag, &body, out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        Option::<M>::get(fields, tag, name)?.ok_or_else(|| DecodeError::malformed(name, "absent"))
    }

    fn sample() -> Self {
        M::sample()
    }
}

impl<M: Message> Field for Option<M> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        if let Some(message) = self {
            message.put(tag, out);
        }
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        fields.bytes(tag, name)?.map(|body| M::read(&Fields::parse(body)?)).transpose()
    }

    fn sample() -> Self {
        Some(M::sample())
    }

    fn is_present(&self) -> bool {
        self.is_some()
    }
}

impl<M: Message> Field for Vec<M> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        self.iter().for_each(|message| message.put(tag, out));
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        fields.all(tag, name).map(|body| M::read(&Fields::parse(body?)?)).collect()
    }

    fn sample() -> Self {
        vec![M::sample()]
    }

    fn is_present(&self) -> bool {
        !self.is_empty()
    }
}

fn put_number(tag: u32, number: u64, out: &mut Vec<u8>) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(number, out);
}

pub(crate) fn put_bytes(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Whole numbers, by how each stands in a varint.
macro_rules! numbers {
    ($($type:ty: $to:expr, $from:expr;)+) => {$(
        impl Field for $type {
            fn put(&self, tag: u32, out: &mut Vec<u8>) {
                if *self != <$type>::default() {
                    let to: fn($type) -> u64 = $to;
                    put_number(tag, to(*self), out);
                }
            }

            fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
                let from: fn(u64) -> $type = $from;
                Ok(fields.number(tag, name)?.map(from).unwrap_or_default())
            }

            fn sample() -> Self {
                <$type>::try_from(1u8).unwrap_or_default()
            }
        }
    )+};
}
// int64 as two's complement; sint32 by zigzag (the protobuf encoding's own rule).
numbers! {
    u32: |number| number.into(), |stored| stored as u32;
    u64: |number| number, |stored| stored;
    i64: |number| number as u64, |stored| stored as i64;
    i32: |number| u64::from(((number << 1) ^ (number >> 31)) as u32), |stored| {
        let stored = stored as u32;
        ((stored >> 1) as i32) ^ -((stored & 1) as i32)
    };
}

/// 0 stands for none: of numbers that count from 1.
impl Field for Option<u64> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        self.unwrap_or_default().put(tag, out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        Ok(Some(u64::get(fields, tag, name)?).filter(|number| *number != 0))
    }

    fn sample() -> Self {
        Some(1)
    }
}

/// `optional sint32`: 0 is a value.
impl Field for Option<i32> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        match self {
            Some(0) => put_number(tag, 0, out),
            Some(number) => number.put(tag, out),
            None => {}
        }
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        fields.number(tag, name)?.map(|_| i32::get(fields, tag, name)).transpose()
    }

    fn sample() -> Self {
        Some(-3)
    }
}

fn text(bytes: &[u8], name: &str) -> Decoded<String> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::malformed(name, "not UTF-8"))?;
    if text.contains('\0') {
        return Err(DecodeError::malformed(name, "holds NUL, which no database keeps"));
    }
    Ok(text.to_owned())
}

impl Field for String {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            put_bytes(tag, self.as_bytes(), out);
        }
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        text(fields.bytes(tag, name)?.unwrap_or_default(), name)
    }

    fn sample() -> Self {
        "text".to_owned()
    }
}

/// `optional string`: an empty text is a value.
impl Field for Option<String> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        if let Some(text) = self {
            put_bytes(tag, text.as_bytes(), out);
        }
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        fields.bytes(tag, name)?.map(|bytes| text(bytes, name)).transpose()
    }

    fn sample() -> Self {
        Some("text".to_owned())
    }

    fn is_present(&self) -> bool {
        self.is_some()
    }
}

impl Field for Vec<String> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        self.iter().for_each(|text| put_bytes(tag, text.as_bytes(), out));
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        fields.all(tag, name).map(|bytes| text(bytes?, name)).collect()
    }

    fn sample() -> Self {
        vec!["text".to_owned()]
    }
}

impl Field for bool {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        u32::from(*self).put(tag, out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        Ok(u32::get(fields, tag, name)? != 0)
    }

    fn sample() -> Self {
        true
    }

    fn is_present(&self) -> bool {
        *self
    }
}

impl<const N: usize> Field for [u8; N] {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        put_bytes(tag, self, out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        let bytes = fields.bytes(tag, name)?.unwrap_or_default();
        bytes.try_into().map_err(|_| DecodeError::malformed(name, format!("not {N} bytes")))
    }

    fn sample() -> Self {
        [7; N]
    }
}

/// A sample of whatever type stands at a tag.
pub(crate) fn sample_at<Tag, F: Field<Tag>>(_: Tag) -> F {
    F::sample()
}

/// Enums that are stored by the stable names of their values.
macro_rules! named {
    ($($name:ident),+) => {$(
        impl $crate::wire::Field for $name {
            fn put(&self, tag: u32, out: &mut Vec<u8>) {
                $crate::wire::put_bytes(tag, self.name().as_bytes(), out);
            }

            fn get(
                fields: &$crate::wire::Fields<'_>,
                tag: u32,
                name: &'static str,
            ) -> $crate::wire::Decoded<Self> {
                let stored = <String as $crate::wire::Field>::get(fields, tag, name)?;
                Self::parse(&stored).ok_or_else(|| $crate::DecodeError::malformed(name, "unknown"))
            }

            fn sample() -> Self {
                Self::ALL[0]
            }
        }
    )+};
}
pub(crate) use named;
