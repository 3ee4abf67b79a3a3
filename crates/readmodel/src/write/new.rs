//! Rows that are new. Many go in by COPY in Postgres's binary format: no statement is parsed and no text is read per value.
//! A few go in as one statement's JSON: a COPY is three messages, and the last waits for the network's acknowledgement of
//! the one before (some 40 ms), since the driver leaves TCP's own delay on.

use std::io::Write as _;

use jiff::{
    Timestamp,
    civil::{Date, date},
};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::ReadModelError;

/// From so many rows on COPY is worth its wait.
const MANY: usize = 2_000;
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
        // As above.
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

/// Rows of one table.
pub struct New {
    table: String,
    columns: &'static str,
    bytes: Vec<u8>,
    many: bool,
    rows: u64,
}

impl New {
    /// Rows for a table of `schema`, at most so many; `columns` are named as in a statement.
    pub fn rows(schema: &str, table: &str, columns: &'static str, at_most: usize) -> Self {
        let many = at_most >= MANY;
        let bytes = if many { HEADER.to_vec() } else { Vec::new() };
        Self { table: format!("{schema}.{table}"), columns, bytes, many, rows: 0 }
    }

    /// Adds a row.
    pub fn row(&mut self, values: &[&dyn Value]) {
        let out = &mut self.bytes;
        if self.many {
            out.extend_from_slice(&(values.len() as i16).to_be_bytes());
            values.iter().for_each(|value| value.put(out));
        } else {
            for (index, (column, value)) in self.columns.split(',').zip(values).enumerate() {
                let before = match (self.rows, index) {
                    (0, 0) => "[{",
                    (_, 0) => "},{",
                    _ => ",",
                };
                write(out, format_args!("{before}\"{}\":", column.trim()));
                value.json(out);
            }
        }
        self.rows += 1;
    }

    /// Sends them.
    pub async fn send(self, connection: &mut PgConnection) -> Result<(), ReadModelError> {
        let Self { table, columns, mut bytes, many, rows } = self;
        if rows == 0 {
            return Ok(());
        }
        if !many {
            bytes.extend_from_slice(b"}]");
            sqlx::query(AssertSqlSafe(format!(
                "INSERT INTO {table} ({columns})
                 SELECT {columns} FROM json_populate_recordset(NULL::{table}, convert_from($1, 'UTF8')::json)"
            )))
            .bind(bytes)
            .execute(connection)
            .await?;
            return Ok(());
        }
        bytes.extend_from_slice(&TRAILER);
        let mut copy = connection.copy_in_raw(&format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)")).await?;
        for chunk in bytes.chunks(CHUNK) {
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

    #[test]
    fn a_few_rows_are_one_json_text() {
        let mut new = New::rows("rm_1", "t", "a, b,\n  c, d", 2);
        new.row(&[&"it's \"x\"", &None::<i64>, &date(2026, 3, 29), &[1u8, 255].as_slice()]);
        new.row(&[&"", &Some(-7i64), &date(2026, 3, 30), &[].as_slice()]);
        assert_eq!(
            String::from_utf8_lossy(&new.bytes) + "}]",
            r#"[{"a":"it's \"x\"","b":null,"c":"2026-03-29","d":"\\x01ff"},{"a":"","b":-7,"c":"2026-03-30","d":"\\x"}]"#
        );
    }
}
