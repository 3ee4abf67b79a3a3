//! Holds: what is not chased, from when until when, and why.

use saldo_api::v1;
use saldo_auth::Caller;
use sqlx::{PgPool, Row, postgres::PgRow};
use tonic::Status;

use crate::{
    date,
    errors::database,
    paging::{self, PageToken, page_size},
};

/// A page of holds, by account and id.
pub async fn holds(
    pool: &PgPool,
    caller: &Caller,
    request: &v1::ListHoldsRequest,
) -> Result<v1::ListHoldsResponse, Status> {
    let size = page_size(request.page_size)?;
    let after = PageToken::<2>::parse(&request.page_token)?;
    let rows = sqlx::query(
        "SELECT account, hold, invoices, from_date, until_date, reason, placed_on, released_on FROM bi.holds
         WHERE tenant = $1 AND ($2 = '' OR account = $2) AND ($3 OR released_on IS NULL) AND (account, hold) > ($4, $5)
         ORDER BY account, hold LIMIT $6",
    )
    .bind(&caller.tenant)
    .bind(&request.account_id)
    .bind(request.released)
    .bind(after.text(0))
    .bind(after.text(1))
    .bind(size + 1)
    .fetch_all(pool)
    .await
    .map_err(database)?;
    let mut holds: Vec<v1::HoldView> = rows.iter().map(hold).collect::<Result<_, _>>().map_err(database)?;
    let next_page_token = paging::cut(&mut holds, size, |last| PageToken::of([&last.account_id, &last.hold_id]));
    Ok(v1::ListHoldsResponse { holds, next_page_token })
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
