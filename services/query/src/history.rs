//! Everything that happened on one account.

use saldo_api::v1;
use sqlx::{Row, postgres::PgRow};
use tonic::Status;

use crate::{
    Query, TenantRows,
    errors::database,
    paging::{self, PageToken, page_size},
    values::{date, timestamp},
};

impl Query for v1::ListHistoryRequest {
    const MODELS: &'static [&'static str] = &["accounts", "history"];
    const OF_ONE_ACCOUNT: bool = true;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::ListHistoryResponse, Status> {
        let size = page_size(self.page_size)?;
        let after = PageToken::<2>::parse(&self.page_token)?;
        let found = sqlx::query(
            "SELECT version, index, type, effective_date, recorded_at, actor, summary FROM bi.debtor_history
             WHERE tenant = $1 AND account = $2 AND (version, index) > ($3, $4) ORDER BY version, index LIMIT $5",
        )
        .bind(rows.tenant)
        .bind(&self.account_id)
        .bind(after.number(0)?.unwrap_or(-1))
        .bind(after.number(1)?.unwrap_or(-1))
        .bind(size + 1)
        .fetch_all(rows.pool)
        .await
        .map_err(database)?;
        let mut entries: Vec<v1::HistoryEntry> = found.iter().map(entry).collect::<Result<_, _>>().map_err(database)?;
        let next_page_token = paging::cut(&mut entries, size, |entry| {
            PageToken::of([&entry.version.to_string(), &entry.index.to_string()])
        });
        Ok(v1::ListHistoryResponse { entries, next_page_token })
    }
}

fn entry(row: &PgRow) -> Result<v1::HistoryEntry, sqlx::Error> {
    Ok(v1::HistoryEntry {
        version: row.try_get::<i64, _>(0)? as u64,
        index: row.try_get::<i32, _>(1)? as u32,
        r#type: row.try_get(2)?,
        effective_date: date(row, 3)?,
        recorded_at: Some(timestamp(row, 4)?),
        actor: row.try_get(5)?,
        summary: row.try_get(6)?,
    })
}
