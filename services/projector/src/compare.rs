//! Two builds, row by row.

use saldo_readmodel::Schema;
use serde::Serialize;
use sqlx::PgConnection;

use crate::ProjectorError;

/// Differences listed; beyond it they are only counted.
const LISTED: usize = 100;

/// Something that is not as the log says.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// `tenant/account`.
    pub account: String,
    /// The subject of the difference.
    pub what: String,
    /// The text by the log.
    pub log: String,
    /// The text by the rows.
    pub rows: String,
}

/// Everything that is not as the log says.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Differences {
    /// How many there are.
    pub differences: u64,
    /// The first of them.
    pub examples: Vec<Difference>,
}

impl Differences {
    /// One more.
    pub fn differ(&mut self, account: &str, what: &str, log: impl ToString, rows: impl ToString) {
        self.differences += 1;
        if self.examples.len() < LISTED {
            let (log, rows) = (log.to_string(), rows.to_string());
            self.examples.push(Difference { account: account.to_owned(), what: what.to_owned(), log, rows });
        }
    }
}

/// These tables of both. A table whose digest is the same is not looked at row by row.
pub async fn rows(
    connection: &mut PgConnection,
    log: &Schema,
    live: &Schema,
    tables: impl IntoIterator<Item = &'static str>,
    found: &mut Differences,
) -> Result<(), ProjectorError> {
    for table in tables {
        if log.same_rows(connection, live, table).await? {
            continue;
        }
        let (missing, said) = log.rows_beyond(connection, live, table, LISTED).await?;
        let (extra, stand) = live.rows_beyond(connection, log, table, LISTED).await?;
        let listed = said.len() + stand.len();
        for row in said {
            found.differ("", table, row, "no such row");
        }
        for row in stand {
            found.differ("", table, "no such row", row);
        }
        found.differences += missing + extra - listed as u64;
    }
    Ok(())
}

/// The personal tables, whose values are not repeated.
pub async fn personal(
    connection: &mut PgConnection,
    log: &Schema,
    live: &Schema,
    found: &mut Differences,
) -> Result<(), ProjectorError> {
    for (table, account) in log.personal_differences(connection, live).await? {
        found.differ(&account, table, "another value", "not shown");
    }
    Ok(())
}
