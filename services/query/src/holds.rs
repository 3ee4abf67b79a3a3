//! Holds: what is not chased, from when until when, and why.

use saldo_api::v1;
use sqlx::{Row, postgres::PgRow};
use tonic::Status;

use crate::{
    Query, TenantRows,
    errors::database,
    paging::{self, PageToken, page_size},
    values::date,
};

/// A page of holds, by account and id.
impl Query for v1::ListHoldsRequest {
    const MODELS: &'static [&'static str] = &["accounts", "holds"];
    const OF_ONE_ACCOUNT: bool = false;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::ListHoldsResponse, Status> {
        let size = page_size(self.page_size)?;
        let after = PageToken::<2>::parse(&self.page_token)?;
        let found = sqlx::query(
            "SELECT account, hold, invoices, from_date, until_date, reason, placed_on, released_on FROM bi.holds
             WHERE tenant = $1 AND ($2 = '' OR account = $2) AND ($3 OR released_on IS NULL)
               AND (account, hold) > ($4, $5)
             ORDER BY account, hold LIMIT $6",
        )
        .bind(rows.tenant)
        .bind(&self.account_id)
        .bind(self.released)
        .bind(after.text(0))
        .bind(after.text(1))
        .bind(size + 1)
        .fetch_all(rows.pool)
        .await
        .map_err(database)?;
        let mut holds: Vec<v1::HoldView> = found.iter().map(hold).collect::<Result<_, _>>().map_err(database)?;
        let next_page_token = paging::cut(&mut holds, size, |last| PageToken::of([&last.account_id, &last.hold_id]));
        Ok(v1::ListHoldsResponse { holds, next_page_token })
    }
}

fn hold(row: &PgRow) -> Result<v1::HoldView, sqlx::Error> {
    let terms =
        v1::HoldTerms { invoices: row.try_get(2)?, from: date(row, 3)?, until: date(row, 4)?, reason: row.try_get(5)? };
    Ok(v1::HoldView {
        account_id: row.try_get(0)?,
        hold_id: row.try_get(1)?,
        terms: Some(terms),
        placed_on: date(row, 6)?,
        released_on: date(row, 7)?,
    })
}
