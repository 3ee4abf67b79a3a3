//! How a table, its columns and its public views are declared, and the SQL that follows from a declaration.

use std::fmt::Write as _;

use saldo_domain::account::Account;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text in an order that does not depend on the server's locale: ids, which pages are cut by.
    Id,
    /// Text.
    Text,
    /// Three letters of ISO 4217.
    Currency,
    /// 16 bits.
    Small,
    /// 32 bits.
    Int,
    /// 64 bits.
    Big,
    /// True or false.
    Bool,
    /// Bytes.
    Bytes,
    /// A day.
    Date,
    /// An instant, to the microsecond.
    Instant,
}

impl Kind {
    /// As a column's type.
    fn sql(self) -> &'static str {
        match self {
            Kind::Id => "text COLLATE \"C\"",
            Kind::Currency => "char(3)",
            other => other.element(),
        }
    }

    /// As the type of an array's elements. A value with a form of its own in the table is assigned from text.
    pub(super) fn element(self) -> &'static str {
        match self {
            Kind::Id | Kind::Text | Kind::Currency => "text",
            Kind::Small => "smallint",
            Kind::Int => "int",
            Kind::Big => "bigint",
            Kind::Bool => "bool",
            Kind::Bytes => "bytea",
            Kind::Date => "date",
            Kind::Instant => "timestamptz",
        }
    }
}

/// The effect of a changed row on a column of the row that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merge {
    /// The new value counts.
    Set,
    /// The new value counts unless it is null.
    SetIfKnown,
    /// The new value is added.
    Add,
    /// The value never changes.
    Never,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its content, for analysts: the comment of every column of `bi` that passes it through.
    pub comment: &'static str,
    nullable: bool,
    merge: Merge,
    wording: bool,
}

impl Column {
    /// A column without nulls, which a changed row sets.
    pub const fn new(name: &'static str, kind: Kind, comment: &'static str) -> Self {
        Self { name, kind, comment, nullable: false, merge: Merge::Set, wording: false }
    }

    /// The creditor.
    pub const fn tenant() -> Self {
        Self::new("tenant", Kind::Id, "The creditor")
    }

    /// The debtor's account.
    pub const fn account() -> Self {
        Self::new("account", Kind::Id, "The debtor's account; opaque id")
    }

    /// It may be null.
    pub const fn nullable(self) -> Self {
        Self { nullable: true, ..self }
    }

    /// A changed row sets it unless its value is null.
    pub const fn set_if_known(self) -> Self {
        Self { merge: Merge::SetIfKnown, ..self }
    }

    /// A changed row adds to it.
    pub const fn added(self) -> Self {
        Self { merge: Merge::Add, ..self }
    }

    /// It is a release's own wording: another release may say the same in other words.
    pub const fn wording(self) -> Self {
        Self { wording: true, ..self }
    }

    /// No changed row touches it.
    pub const fn never_changes(self) -> Self {
        Self { merge: Merge::Never, ..self }
    }
}

/// A table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns, in the order in which rows give their values.
    pub columns: &'static [Column],
    /// The columns of its primary key.
    pub key: &'static str,
    /// The text after `CREATE INDEX ON {table}`, for indexes that are made once a build is filled.
    pub indexes: &'static [&'static str],
    /// Rows only come, and nothing is looked up while a build is filled: the primary key is made at the end.
    pub only_grows: bool,
    /// Half of each page stays free: every commit of an account changes its row, and a new version on the same page
    /// needs no new index entry.
    pub half_empty: bool,
    /// A changed row knows only what changes of it, and so can make no row.
    pub partial_changes: bool,
    /// The column with personal data in the clear: its values come from the key store and not from the log alone.
    pub personal: Option<&'static str>,
}

impl Table {
    /// A table with these columns and this primary key.
    pub const fn new(name: &'static str, key: &'static str, columns: &'static [Column]) -> Self {
        Self {
            name,
            columns,
            key,
            indexes: &[],
            only_grows: false,
            half_empty: false,
            partial_changes: false,
            personal: None,
        }
    }

    fn is_key(&self, column: &str) -> bool {
        self.key.split(", ").any(|part| part == column)
    }

    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        names.join(", ")
    }

    /// The columns by which two builds are compared.
    pub(super) fn compared(&self) -> String {
        let compared = self.columns.iter().filter(|column| !column.wording);
        compared.map(|column| column.name).collect::<Vec<_>>().join(", ")
    }

    /// `CREATE TABLE`, without what is made once the build is filled. `{s}` is the build's schema.
    pub(super) fn create(&self) -> String {
        let column = |column: &Column| {
            let null = if column.nullable { "" } else { " NOT NULL" };
            format!("{} {}{null}", column.name, column.kind.sql())
        };
        let mut lines: Vec<String> = self.columns.iter().map(column).collect();
        if !self.only_grows {
            lines.push(format!("PRIMARY KEY ({})", self.key));
        }
        let pages = if self.half_empty { " WITH (fillfactor = 50)" } else { "" };
        format!("CREATE TABLE {{s}}.{} ({}){pages};\n", self.name, lines.join(", "))
    }

    /// Indexes and constraints that serve readers and guard single rows. They would only slow the filling.
    pub(super) fn index(&self) -> String {
        let mut sql = String::new();
        if self.only_grows {
            sql += &format!("ALTER TABLE {{s}}.{} ADD PRIMARY KEY ({});\n", self.name, self.key);
        }
        for index in self.indexes {
            sql += &format!("CREATE INDEX ON {{s}}.{} {index};\n", self.name);
        }
        sql
    }

    /// The statement that changes rows from `{rows}`, an `unnest` of one array a column.
    pub(super) fn change(&self) -> String {
        let incoming = if self.partial_changes { "c" } else { "excluded" };
        let sets: Vec<String> = self
            .columns
            .iter()
            .filter(|column| !self.is_key(column.name))
            .filter_map(|Column { name, merge, .. }| match merge {
                Merge::Set => Some(format!("{name} = {incoming}.{name}")),
                Merge::SetIfKnown => Some(format!("{name} = coalesce({incoming}.{name}, t.{name})")),
                Merge::Add => Some(format!("{name} = t.{name} + {incoming}.{name}")),
                Merge::Never => None,
            })
            .collect();
        let (name, key, sets) = (self.name, self.key, sets.join(", "));
        if self.partial_changes {
            let keys: Vec<String> = key.split(", ").map(|part| format!("t.{part} = c.{part}")).collect();
            format!("UPDATE {{s}}.{name} AS t SET {sets} FROM {{rows}} AS c WHERE {}", keys.join(" AND "))
        } else {
            let then = if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {sets}") };
            let names = self.names();
            format!("INSERT INTO {{s}}.{name} AS t ({names}) SELECT * FROM {{rows}} AS c ON CONFLICT ({key}) DO {then}")
        }
    }
}

/// A column of a view.
#[derive(Debug, Clone, Copy)]
pub enum Shown {
    /// A column of the view's table, with its comment.
    Column(&'static str),
    /// A column of the view's table under a comment of its own.
    Said(&'static str, &'static str),
    /// Bytes of the view's table in hex, with their comment.
    Hex(&'static str),
    /// A name, the expression behind it, and its comment.
    Computed(&'static str, &'static str, &'static str),
}

/// A view in `bi`.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Its name.
    pub name: &'static str,
    /// The meaning of one row.
    pub comment: &'static str,
    /// The table whose columns it shows.
    pub of: &'static Table,
    /// Its columns.
    pub columns: &'static [Shown],
    /// The text after the table's name: a condition, a grouping, or a second source. Empty where nothing does.
    pub rest: &'static str,
}

impl View {
    /// Name, expression and comment of each column; `None` in place of a comment where the table has no such column.
    pub(crate) fn shown(&self) -> Vec<(&'static str, String, Option<&'static str>)> {
        let of_table = |name: &str| self.of.columns.iter().find(|column| column.name == name);
        let shown = |shown: &Shown| match *shown {
            Shown::Column(name) => (name, name.to_owned(), of_table(name).map(|column| column.comment)),
            Shown::Said(name, comment) => (name, name.to_owned(), of_table(name).map(|_| comment)),
            Shown::Hex(name) => {
                (name, format!("encode({name}, 'hex') AS {name}"), of_table(name).map(|column| column.comment))
            }
            Shown::Computed(name, sql, comment) => (name, format!("{sql} AS {name}"), Some(comment)),
        };
        self.columns.iter().map(shown).collect()
    }

    /// Makes the view, or points it to another build.
    fn sql(&self) -> String {
        let shown = self.shown();
        let columns: Vec<&str> = shown.iter().map(|(_, sql, _)| sql.as_str()).collect();
        let mut sql = format!(
            "CREATE OR REPLACE VIEW bi.{} AS SELECT {} FROM {{s}}.{} {};\n",
            self.name,
            columns.join(", "),
            self.of.name,
            self.rest
        );
        let _ = writeln!(sql, "COMMENT ON VIEW bi.{} IS {};", self.name, quoted(self.comment));
        for (name, _, comment) in shown {
            sql += &comment_on_column(&format!("bi.{}.{name}", self.name), comment.unwrap_or_default());
        }
        sql
    }
}

/// The lines of each account that rows and the domain's own state must both have. `verify` compares both.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The subject of the comparison, for people.
    pub what: &'static str,
    /// The query of the rows: the account's key, a line, and whether the domain may have forgotten what the line says. `{s}` is
    /// the build's schema.
    pub rows: &'static str,
    /// The lines that an account's state gives.
    pub lines: fn(&Account) -> Vec<String>,
}

/// One read model: what stands in the database for it. How rows come about is its `Model`.
#[derive(Debug, Clone, Copy)]
pub struct Declaration {
    /// Its name, under which its version is kept.
    pub name: &'static str,
    /// Raised whenever its tables, or what stands in them, change. A database where it is lower gets this model anew.
    pub version: i32,
    /// Its tables.
    pub tables: &'static [Table],
    /// Its views.
    pub views: &'static [View],
    /// The lines that the domain's state must agree with. Empty where the state remembers nothing of it.
    pub expected: &'static [Expected],
    /// Further objects for analysts, as SQL that may run again; made after the views.
    pub more: fn() -> String,
}

impl Declaration {
    /// A model with these tables and views.
    pub const fn new(name: &'static str, version: i32, tables: &'static [Table], views: &'static [View]) -> Self {
        Self { name, version, tables, views, expected: &[], more: String::new }
    }

    /// `verify` holds these rows against the domain's state.
    pub const fn expecting(self, expected: &'static [Expected]) -> Self {
        Self { expected, ..self }
    }

    /// `CREATE TABLE` of them all.
    pub(super) fn create(&self) -> String {
        self.tables.iter().map(Table::create).collect()
    }

    /// Indexes of them all.
    pub(super) fn index(&self) -> String {
        self.tables.iter().map(Table::index).collect()
    }

    /// Makes the public face show the build `{s}`. Tables of personal data get a view under the same name in `saldo`, which
    /// analysts cannot read: queries need not know which build is in force.
    pub(super) fn face(&self) -> String {
        let mut sql: String = self.views.iter().map(View::sql).collect();
        for table in self.tables.iter().filter(|table| table.personal.is_some()) {
            sql += &table.served();
        }
        sql + &(self.more)()
    }
}

impl Table {
    /// A view of all of it in `saldo`.
    pub(super) fn served(&self) -> String {
        format!("CREATE OR REPLACE VIEW saldo.{0} AS SELECT {1} FROM {{s}}.{0};\n", self.name, self.names())
    }
}

/// The statement that comments a column.
pub fn comment_on_column(column: &str, comment: &str) -> String {
    format!("COMMENT ON COLUMN {column} IS {};\n", quoted(comment))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::tenant(),
        Column::new("number", Kind::Big, "Which"),
        Column::new("day", Kind::Date, "When").nullable().never_changes(),
        Column::new("name", Kind::Text, "What it's called").set_if_known(),
        Column::new("sum", Kind::Big, "How much").added(),
    ];
    const TABLE: Table = Table { half_empty: true, ..Table::new("made_up", "tenant, number", COLUMNS) };

    #[test]
    fn a_table_follows_from_its_columns() {
        assert_eq!(
            TABLE.create(),
            "CREATE TABLE {s}.made_up (tenant text COLLATE \"C\" NOT NULL, number bigint NOT NULL, day date, \
             name text NOT NULL, sum bigint NOT NULL, PRIMARY KEY (tenant, number)) WITH (fillfactor = 50);\n"
        );
        assert_eq!(TABLE.index(), "");
        let grows = Table { only_grows: true, indexes: &["(day)"], ..TABLE };
        assert!(!grows.create().contains("PRIMARY KEY"));
        assert_eq!(
            grows.index(),
            "ALTER TABLE {s}.made_up ADD PRIMARY KEY (tenant, number);\nCREATE INDEX ON {s}.made_up (day);\n"
        );
    }

    #[test]
    fn a_changed_row_does_what_each_column_says() {
        assert_eq!(
            TABLE.change(),
            "INSERT INTO {s}.made_up AS t (tenant, number, day, name, sum) SELECT * FROM {rows} AS c \
             ON CONFLICT (tenant, number) DO UPDATE SET name = coalesce(excluded.name, t.name), sum = t.sum + excluded.sum"
        );
        assert_eq!(
            Table { partial_changes: true, ..TABLE }.change(),
            "UPDATE {s}.made_up AS t SET name = coalesce(c.name, t.name), sum = t.sum + c.sum FROM {rows} AS c \
             WHERE t.tenant = c.tenant AND t.number = c.number"
        );
    }

    #[test]
    fn a_view_passes_columns_through_with_their_comments() {
        let columns =
            &[Shown::Column("tenant"), Shown::Said("name", "Its name"), Shown::Computed("half", "sum / 2", "Half")];
        let view = View { name: "seen", comment: "One row each", of: &TABLE, columns, rest: "WHERE sum > 0" };
        assert_eq!(
            view.sql(),
            "CREATE OR REPLACE VIEW bi.seen AS SELECT tenant, name, sum / 2 AS half FROM {s}.made_up WHERE sum > 0;\n\
             COMMENT ON VIEW bi.seen IS 'One row each';\n\
             COMMENT ON COLUMN bi.seen.tenant IS 'The creditor';\n\
             COMMENT ON COLUMN bi.seen.name IS 'Its name';\n\
             COMMENT ON COLUMN bi.seen.half IS 'Half';\n"
        );
    }
}
