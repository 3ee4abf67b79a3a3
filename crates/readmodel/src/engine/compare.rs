//! Two builds, table by table.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Schema, Table};
use crate::ReadModelError;

impl Schema {
    /// Whether a table holds the same rows in both builds: as many, with the same digest of them all.
    pub async fn same_rows(
        &self,
        connection: &mut PgConnection,
        other: &Self,
        table: &str,
    ) -> Result<bool, ReadModelError> {
        let digest = |build: &Self| {
            let rows = self.compared_rows(build, table);
            format!("(SELECT (count(*), bit_xor(hash_record_extended(t, 0))) FROM ({rows}) t)")
        };
        let statement = format!("SELECT {} IS NOT DISTINCT FROM {}", digest(self), digest(other));
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(connection).await?)
    }

    /// The rows of a table in a build, as far as they are compared.
    fn compared_rows(&self, build: &Self, table: &str) -> String {
        let declared = self.tables().find(|one| one.name == table);
        format!("SELECT {} FROM {}.{table}", declared.map_or_else(|| "*".to_owned(), Table::compared), build.name())
    }

    /// Rows of personal data whose value in `other` is another one than here, or that stand in one of the two alone: the
    /// table of each, and whose it is. A value that is erased here says nothing about the value there.
    pub async fn personal_differences(
        &self,
        connection: &mut PgConnection,
        other: &Self,
    ) -> Result<Vec<(&'static str, String)>, ReadModelError> {
        let mut found = Vec::new();
        for table in self.personal(other) {
            let (name, value) = (table.name, table.personal.unwrap_or_default());
            let columns = table.columns.iter().map(|column| column.name).filter(|column| *column != value);
            let key = columns.collect::<Vec<_>>().join(", ");
            let statement = format!(
                "SELECT tenant || '/' || account
                 FROM (SELECT {key}, {value}, true AS stands FROM {}.{name}) h
                 FULL JOIN (SELECT {key}, {value} AS there, true AS stands_there FROM {}.{name}) o USING ({key})
                 WHERE stands IS NULL OR stands_there IS NULL OR ({value} IS NOT NULL AND {value} IS DISTINCT FROM there)",
                self.name(),
                other.name()
            );
            let owners: Vec<String> = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(&mut *connection).await?;
            found.extend(owners.into_iter().map(|owner| (name, owner)));
        }
        Ok(found)
    }

    /// Rows of a table that stand in this build and not in `other`: how many, and up to `listed` of them as text.
    pub async fn rows_beyond(
        &self,
        connection: &mut PgConnection,
        other: &Self,
        table: &str,
        listed: usize,
    ) -> Result<(u64, Vec<String>), ReadModelError> {
        let beyond = format!("{} EXCEPT ALL {}", self.compared_rows(self, table), self.compared_rows(other, table));
        let count = format!("SELECT count(*) FROM ({beyond}) AS b");
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut *connection).await?;
        if count == 0 {
            return Ok((0, Vec::new()));
        }
        let list = format!("SELECT b::text FROM ({beyond}) AS b ORDER BY 1 LIMIT {listed}");
        Ok((count as u64, sqlx::query_scalar(AssertSqlSafe(list)).fetch_all(connection).await?))
    }
}
