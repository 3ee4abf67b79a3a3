//! Holds: what is not chased, from when until when, and why.

use jiff_sqlx::ToSqlx;
use saldo_api::v1;
use saldo_facts::date_to_api;
use sqlx::{Row, postgres::PgRow};
use tonic::Status;

use crate::{
    Query, TenantRows,
    errors::database,
    paging::{self, PageToken, page_size},
    values::{Axes, date},
};

/// A page of holds, by account and id. A hold that was released later still stood on an earlier day.
impl Query for v1::ListHoldsRequest {
    const MODELS: &'static [&'static str] = &["accounts", "holds"];
    const OF_ONE_ACCOUNT: bool = false;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::ListHoldsResponse, Status> {
        let Axes { as_of, .. } = Axes::of(&rows, self.as_of, None).await?;
        let size = page_size(self.page_size)?;
        let after = PageToken::<2>::parse(&self.page_token)?;
        let found = sqlx::query(
            "SELECT account, hold, invoices, from_date, until_date, reason, placed_on, released_on,
                    coalesce(from_date <= $7, true) AND coalesce(until_date >= $7, true)
                    AND coalesce(released_on > $7, true)
             FROM bi.holds
             WHERE tenant = $1 AND ($2 = '' OR account = $2) AND ($3 OR coalesce(released_on > $7, true))
               AND (account, hold) > ($4, $5)
             ORDER BY account, hold LIMIT $6",
        )
        .bind(rows.tenant)
        .bind(&self.account_id)
        .bind(self.released)
        .bind(after.text(0))
        .bind(after.text(1))
        .bind(size + 1)
        .bind(as_of.to_sqlx())
        .fetch_all(rows.pool)
        .await
        .map_err(database)?;
        let mut holds: Vec<v1::HoldView> = found.iter().map(hold).collect::<Result<_, _>>().map_err(database)?;
        let next_page_token = paging::cut(&mut holds, size, |last| PageToken::of([&last.account_id, &last.hold_id]));
        Ok(v1::ListHoldsResponse { holds, next_page_token, as_of: Some(date_to_api(as_of)) })
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
        stands: row.try_get(8)?,
    })
}
