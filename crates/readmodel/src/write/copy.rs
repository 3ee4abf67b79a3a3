//! Rows that are new, by COPY in Postgres's binary format: no statement is parsed and no text is read per value.

use jiff::{
    Timestamp,
    civil::{Date, date},
};
use sqlx::PgConnection;

use crate::ReadModelError;

/// What every binary COPY begins with: signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with, in place of a count of columns.
const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
/// In place of a value's length.
const NULL: [u8; 4] = (-1i32).to_be_bytes();
/// Days and microseconds are counted from here.
const EPOCH_DAY: Date = date(2000, 1, 1);
const EPOCH_MICROSECOND: i64 = 946_684_800_000_000;
/// Bytes handed to the connection at once.
const CHUNK: usize = 256 << 10;

/// A value, in binary.
pub trait Value {
    /// Appends its length and itself.
    fn put(&self, out: &mut Vec<u8>);
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
        }
    )*};
}
numbers!(i16, i32, i64);

impl Value for bool {
    fn put(&self, out: &mut Vec<u8>) {
        put(&[u8::from(*self)], out);
    }
}

impl Value for &str {
    fn put(&self, out: &mut Vec<u8>) {
        put(self.as_bytes(), out);
    }
}

impl Value for &[u8] {
    fn put(&self, out: &mut Vec<u8>) {
        put(self, out);
    }
}

impl Value for Date {
    fn put(&self, out: &mut Vec<u8>) {
        // Within 32 bits for every day there is.
        ((self.duration_since(EPOCH_DAY).as_hours() / 24) as i32).put(out);
    }
}

impl Value for Timestamp {
    fn put(&self, out: &mut Vec<u8>) {
        (self.as_microsecond() - EPOCH_MICROSECOND).put(out);
    }
}

impl<V: Value> Value for Option<V> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.put(out),
            None => out.extend_from_slice(&NULL),
        }
    }
}

/// Rows of one table.
pub struct Copy {
    into: String,
    bytes: Vec<u8>,
    rows: u64,
}

impl Copy {
    /// Rows for a table of `schema`; `columns` are named as in a statement.
    pub fn into(schema: &str, table: &str, columns: &str) -> Self {
        let into = format!("COPY {schema}.{table} ({columns}) FROM STDIN (FORMAT binary)");
        Self { into, bytes: HEADER.to_vec(), rows: 0 }
    }

    /// Adds a row.
    pub fn row(&mut self, values: &[&dyn Value]) {
        self.bytes.extend_from_slice(&(values.len() as i16).to_be_bytes());
        values.iter().for_each(|value| value.put(&mut self.bytes));
        self.rows += 1;
    }

    /// Sends them.
    pub async fn send(mut self, connection: &mut PgConnection) -> Result<(), ReadModelError> {
        if self.rows == 0 {
            return Ok(());
        }
        self.bytes.extend_from_slice(&TRAILER);
        let mut copy = connection.copy_in_raw(&self.into).await?;
        for chunk in self.bytes.chunks(CHUNK) {
            copy.send(chunk).await?;
        }
        copy.finish().await?;
        Ok(())
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
