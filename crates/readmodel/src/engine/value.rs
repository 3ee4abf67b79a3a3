//! Values as Postgres takes them: in binary, for COPY and for arrays, and as JSON.

use std::io::Write as _;

use jiff::{
    Timestamp,
    civil::{Date, date},
};
use sqlx::{
    Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo, types::Oid},
};

use super::Kind;

/// In place of a value's length.
const NULL: [u8; 4] = (-1i32).to_be_bytes();
/// Days and microseconds are counted from here.
const EPOCH_DAY: Date = date(2000, 1, 1);
const EPOCH_MICROSECOND: i64 = 946_684_800_000_000;
/// A value.
pub trait Value {
    /// Appends its length and itself, in binary.
    fn put(&self, out: &mut Vec<u8>);
    /// Appends it as JSON.
    fn json(&self, out: &mut Vec<u8>);
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Memory takes everything.
    let _ = out.write_fmt(text);
}

fn put(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Value for $number {
            fn put(&self, out: &mut Vec<u8>) {
                put(&self.to_be_bytes(), out);
            }

            fn json(&self, out: &mut Vec<u8>) {
                write(out, format_args!("{self}"));
            }
        }
    )*};
}
numbers!(i16, i32, i64);

impl Value for bool {
    fn put(&self, out: &mut Vec<u8>) {
        put(&[u8::from(*self)], out);
    }

    fn json(&self, out: &mut Vec<u8>) {
        write(out, format_args!("{self}"));
    }
}

impl Value for &str {
    fn put(&self, out: &mut Vec<u8>) {
        put(self.as_bytes(), out);
    }

    fn json(&self, out: &mut Vec<u8>) {
        // Memory takes everything.
        let _ = serde_json::to_writer(out, self);
    }
}

impl Value for &[u8] {
    fn put(&self, out: &mut Vec<u8>) {
        put(self, out);
    }

    fn json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#""\\x"#);
        self.iter().for_each(|byte| write(out, format_args!("{byte:02x}")));
        out.push(b'"');
    }
}

impl Value for Date {
    fn put(&self, out: &mut Vec<u8>) {
        // Within 32 bits for every day there is.
        ((self.duration_since(EPOCH_DAY).as_hours() / 24) as i32).put(out);
    }

    fn json(&self, out: &mut Vec<u8>) {
        write(out, format_args!("\"{self}\""));
    }
}

impl Value for Timestamp {
    fn put(&self, out: &mut Vec<u8>) {
        (self.as_microsecond() - EPOCH_MICROSECOND).put(out);
    }

    fn json(&self, out: &mut Vec<u8>) {
        write(out, format_args!("\"{self}\""));
    }
}

impl<V: Value> Value for Option<V> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.put(out),
            None => out.extend_from_slice(&NULL),
        }
    }

    fn json(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.json(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

/// The values of one column, as an array to bind. Its elements have the form they have in a COPY.
pub(super) struct Array {
    kind: Kind,
    elements: Vec<u8>,
    count: i32,
    has_null: bool,
}

impl Array {
    /// Without elements.
    pub(super) fn of(kind: Kind) -> Self {
        Self { kind, elements: Vec::new(), count: 0, has_null: false }
    }

    /// Adds an element.
    pub(super) fn push(&mut self, value: &dyn Value) {
        let at = self.elements.len();
        value.put(&mut self.elements);
        self.has_null |= self.elements[at..] == NULL;
        self.count += 1;
    }

    /// Object ids of the element's type and of the array's: fixed numbers of Postgres.
    fn oids(&self) -> (u32, u32) {
        match self.kind {
            Kind::Id | Kind::Text | Kind::Currency => (25, 1009),
            Kind::Small => (21, 1005),
            Kind::Int => (23, 1007),
            Kind::Big => (20, 1016),
            Kind::Bool => (16, 1000),
            Kind::Bytes => (17, 1001),
            Kind::Date => (1082, 1182),
            Kind::Instant => (1184, 1185),
        }
    }
}

impl Type<Postgres> for Array {
    fn type_info() -> PgTypeInfo {
        <Vec<String> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Array {
    fn encode_by_ref(&self, out: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // One dimension, whose first index is 1.
        for number in [1, i32::from(self.has_null), self.oids().0.cast_signed(), self.count, 1] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.elements);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.oids().1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &dyn Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.put(&mut out);
        out
    }

    #[test]
    fn days_and_instants_count_from_the_year_2000() {
        assert_eq!(bytes(&date(2000, 1, 2)), [0, 0, 0, 4, 0, 0, 0, 1]);
        assert_eq!(bytes(&date(1999, 12, 31)), [0, 0, 0, 4, 255, 255, 255, 255]);
        assert_eq!(bytes(&date(2026, 3, 29)), [&[0, 0, 0, 4][..], &9_584i32.to_be_bytes()].concat());
        let at: Timestamp = "2000-01-01T00:00:01Z".parse().expect("an instant");
        assert_eq!(bytes(&at), [&[0, 0, 0, 8][..], &1_000_000i64.to_be_bytes()].concat());
    }

    #[test]
    fn what_is_absent_is_null_and_what_is_empty_is_not() {
        assert_eq!(bytes(&None::<&str>), [255; 4]);
        assert_eq!(bytes(&Some("")), [0; 4]);
        assert_eq!(bytes(&true), [0, 0, 0, 1, 1]);
    }
}
