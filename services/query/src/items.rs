//! The open items of one account.

use jiff_sqlx::ToSqlx;
use saldo_api::v1;
use saldo_facts::date_to_api;
use sqlx::{Row, postgres::PgRow};
use tonic::Status;

use crate::{
    Query, TenantRows,
    errors::database,
    values::{Axes, date},
};

impl Query for v1::ListOpenItemsRequest {
    const MODELS: &'static [&'static str] = &["accounts", "ledger"];
    const OF_ONE_ACCOUNT: bool = true;

    /// The columns of a function have another collation than the indexes. The condition on those of `bi.items` reaches both sides
    /// of the join, so Postgres reads one account alone.
    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::ListOpenItemsResponse, Status> {
        let Axes { as_of, known_at } = Axes::of(&rows, self.as_of, self.known_at).await?;
        let found = sqlx::query(
            "SELECT i.kind, i.document, i.instalment, i.currency::text, i.issue_date, i.due_date, i.original_minor,
                    o.open_minor
             FROM bi.open_items_as_of($1, coalesce($2, 'infinity'::timestamptz)) o
             JOIN bi.items i USING (tenant, account, kind, document, instalment)
             WHERE i.tenant = $3 AND i.account = $4
             ORDER BY i.due_date NULLS LAST, i.issue_date, i.document, i.instalment",
        )
        .bind(as_of.to_sqlx())
        .bind(known_at.map(ToSqlx::to_sqlx))
        .bind(rows.tenant)
        .bind(&self.account_id)
        .fetch_all(rows.pool)
        .await
        .map_err(database)?;
        let items = found.iter().map(open_item).collect::<Result<_, _>>().map_err(database)?;
        Ok(v1::ListOpenItemsResponse { items, as_of: Some(date_to_api(as_of)) })
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
