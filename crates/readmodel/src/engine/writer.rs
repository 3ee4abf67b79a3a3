//! Writing rows of any table. New rows go in by COPY where there are many: no statement is parsed and no text is read per
//! value. A few go in as one statement's JSON. A COPY is three messages, and the last one waits some 40 ms for the network's
//! acknowledgement of the one before, since the driver leaves TCP's own delay on. Rows that change go in as one array a column.

use std::io::Write as _;

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Kind, Table, Value, value::Array};
use crate::{Opened, ReadModelError};

/// From so many rows on COPY is worth its wait.
const MANY: usize = 2_000;
/// The header of every binary COPY: signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The end of a binary COPY, in place of a count of columns.
const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
/// Bytes handed to the connection at once.
const CHUNK: usize = 256 << 10;

/// Writes one batch into one build, in the caller's transaction.
pub struct Writer<'c> {
    pub(super) connection: &'c mut PgConnection,
    schema: &'c str,
    /// The batch's personal values.
    pub opened: &'c Opened,
}

impl<'c> Writer<'c> {
    /// Into the tables of `schema`.
    pub(super) fn new(connection: &'c mut PgConnection, schema: &'c str, opened: &'c Opened) -> Self {
        Self { connection, schema, opened }
    }

    /// Writes rows that were put together before.
    pub async fn write(&mut self, rows: TableRows) -> Result<(), ReadModelError> {
        let TableRows { table, new, changed } = rows;
        new.send(self.connection, &format!("{}.{}", self.schema, table.name)).await?;
        if changed.is_empty() { Ok(()) } else { self.run(&table.change(), changed).await.map(|_| ()) }
    }

    /// Runs a statement over rows: `{s}` is the build's schema, `{rows}` the rows. How many rows it touched.
    pub async fn run(&mut self, statement: &str, rows: Arrays) -> Result<u64, ReadModelError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let statement = statement.replace("{s}", self.schema).replace("{rows}", &rows.unnest());
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for array in rows.arrays {
            query = query.bind(array);
        }
        Ok(query.execute(&mut *self.connection).await?.rows_affected())
    }
}

/// Rows of one table.
pub struct TableRows {
    table: &'static Table,
    new: New,
    changed: Arrays,
}

impl TableRows {
    /// At most so many.
    pub fn of(table: &'static Table, at_most: usize) -> Self {
        let columns = table.columns.iter().map(|column| (column.name, column.kind));
        Self { table, new: New::rows(table, at_most), changed: Arrays::of(columns) }
    }

    /// Adds a row that the batch makes: nobody else can have made it.
    pub fn insert(&mut self, values: &[&dyn Value]) {
        self.new.row(values);
    }

    /// Adds a row that stands already, as the table's columns say it changes.
    pub fn change(&mut self, values: &[&dyn Value]) {
        self.changed.row(values);
    }

    /// One or the other.
    pub fn put(&mut self, is_new: bool, values: &[&dyn Value]) {
        if is_new { self.insert(values) } else { self.change(values) }
    }
}

/// Rows as one array a column.
pub struct Arrays {
    names: Vec<&'static str>,
    kinds: Vec<Kind>,
    arrays: Vec<Array>,
    rows: usize,
}

impl Arrays {
    /// Arrays of these columns, which need not be a table's.
    pub fn of(columns: impl IntoIterator<Item = (&'static str, Kind)>) -> Self {
        let (names, kinds): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let arrays = kinds.iter().copied().map(Array::of).collect();
        Self { names, kinds, arrays, rows: 0 }
    }

    /// Adds a row.
    pub fn row(&mut self, values: &[&dyn Value]) {
        debug_assert_eq!(values.len(), self.arrays.len(), "a value for each of {:?}", self.names);
        self.arrays.iter_mut().zip(values).for_each(|(array, value)| array.push(*value));
        self.rows += 1;
    }

    fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The function that makes rows of the arrays, with an alias still to come: its columns have the names given.
    fn unnest(&self) -> String {
        let array = |(number, kind): (usize, &Kind)| format!("${}::{}[]", number + 1, kind.element());
        let arrays: Vec<String> = self.kinds.iter().enumerate().map(array).collect();
        format!("(SELECT * FROM unnest({}) AS r({}))", arrays.join(", "), self.names.join(", "))
    }
}

/// New rows.
struct New {
    columns: Vec<&'static str>,
    bytes: Vec<u8>,
    many: bool,
    rows: u64,
}

impl New {
    fn rows(table: &Table, at_most: usize) -> Self {
        let many = at_most >= MANY;
        let bytes = if many { HEADER.to_vec() } else { Vec::new() };
        Self { columns: table.columns.iter().map(|column| column.name).collect(), bytes, many, rows: 0 }
    }

    fn row(&mut self, values: &[&dyn Value]) {
        debug_assert_eq!(values.len(), self.columns.len(), "a value for each of {:?}", self.columns);
        let out = &mut self.bytes;
        if self.many {
            out.extend_from_slice(&(values.len() as i16).to_be_bytes());
            values.iter().for_each(|value| value.put(out));
        } else {
            for (index, (column, value)) in self.columns.iter().zip(values).enumerate() {
                let before = match (self.rows, index) {
                    (0, 0) => "[{",
                    (_, 0) => "},{",
                    _ => ",",
                };
                // Memory takes everything.
                let _ = write!(out, "{before}\"{column}\":");
                value.json(out);
            }
        }
        self.rows += 1;
    }

    async fn send(self, connection: &mut PgConnection, table: &str) -> Result<(), ReadModelError> {
        let Self { columns, mut bytes, many, rows } = self;
        if rows == 0 {
            return Ok(());
        }
        let columns = columns.join(", ");
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
    use jiff::civil::date;

    use super::*;
    use crate::engine::Column;

    const COLUMNS: &[Column] = &[
        Column::new("a", Kind::Text, "Text"),
        Column::new("b", Kind::Big, "A number").nullable(),
        Column::new("c", Kind::Date, "A day"),
        Column::new("d", Kind::Bytes, "Bytes"),
    ];
    const TABLE: Table = Table::new("t", "a", COLUMNS);

    #[test]
    fn a_few_rows_are_one_json_text() {
        let mut new = New::rows(&TABLE, 2);
        new.row(&[&"it's \"x\"", &None::<i64>, &date(2026, 3, 29), &[1u8, 255].as_slice()]);
        new.row(&[&"", &Some(-7i64), &date(2026, 3, 30), &[].as_slice()]);
        assert_eq!(
            String::from_utf8_lossy(&new.bytes) + "}]",
            r#"[{"a":"it's \"x\"","b":null,"c":"2026-03-29","d":"\\x01ff"},{"a":"","b":-7,"c":"2026-03-30","d":"\\x"}]"#
        );
    }

    #[test]
    fn changed_rows_are_one_array_a_column() {
        let rows = Arrays::of([("a", Kind::Id), ("at", Kind::Instant)]);
        assert_eq!(rows.unnest(), "(SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS r(a, at))");
    }
}
