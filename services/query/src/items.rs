//! What is open on one account.

use saldo_api::v1;
use sqlx::{Row, postgres::PgRow};
use tonic::Status;

use crate::{Query, TenantRows, errors::database, values::date};

impl Query for v1::ListOpenItemsRequest {
    const MODELS: &'static [&'static str] = &["accounts", "ledger"];
    const OF_ONE_ACCOUNT: bool = true;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::ListOpenItemsResponse, Status> {
        let found = sqlx::query(
            "SELECT kind, document, instalment, currency::text, issue_date, due_date, original_minor, open_minor
             FROM bi.open_items WHERE tenant = $1 AND account = $2
             ORDER BY due_date NULLS LAST, issue_date, document, instalment",
        )
        .bind(rows.tenant)
        .bind(&self.account_id)
        .fetch_all(rows.pool)
        .await
        .map_err(database)?;
        let items = found.iter().map(open_item).collect::<Result<_, _>>().map_err(database)?;
        Ok(v1::ListOpenItemsResponse { items })
    }
}

/// An item of a row: kind, document, instalment, currency, issue date, due date, original and open amount.
pub fn open_item(row: &PgRow) -> Result<v1::OpenItem, sqlx::Error> {
    let kind: String = row.try_get(0)?;
    Ok(v1::OpenItem {
        kind: match kind.as_str() {
            "invoice" => v1::open_item::Kind::Invoice,
            _ => v1::open_item::Kind::Unapplied,
        }
        .into(),
        document: row.try_get(1)?,
        instalment: row.try_get::<i32, _>(2)? as u32,
        currency: row.try_get(3)?,
        issue_date: date(row, 4)?,
        due_date: date(row, 5)?,
        original_minor: row.try_get(6)?,
        open_minor: row.try_get(7)?,
    })
}
