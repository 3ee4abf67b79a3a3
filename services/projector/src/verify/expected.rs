//! The comparison of the domain's state with the lines that a read model expects.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt;
use saldo_readmodel::Expected;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::accounts::Accounts;
use crate::{ProjectorError, compare::Differences};

/// The lines of an account's rows, and whether the domain may have forgotten what each says.
pub type Lines = BTreeMap<String, bool>;

/// Compares the accounts of the present slice.
pub async fn compare(
    connection: &mut PgConnection,
    schema: &str,
    expected: &Expected,
    accounts: &Accounts,
    found: &mut Differences,
) -> Result<(), ProjectorError> {
    let mut stream = sqlx::query(AssertSqlSafe(expected.rows.replace("{s}", schema))).fetch(connection);
    let mut rows: HashMap<String, Lines> = HashMap::new();
    while let Some(row) = stream.try_next().await? {
        let key: String = row.try_get(0)?;
        if accounts.compares(&key) {
            rows.entry(key).or_default().insert(row.try_get(1)?, row.try_get(2)?);
        }
    }
    accounts.differ(expected, rows, found);
    Ok(())
}
