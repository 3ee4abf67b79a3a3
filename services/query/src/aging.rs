//! Receivables by age, in pages. Each page computes the accounts that it shows and no others, so that all pages together cost one
//! pass over the accounts, however many they are. Totals cost a second pass: where they are asked for, the first page computes every
//! account.

use jiff_sqlx::ToSqlx;
use saldo_api::v1;
use saldo_facts::date_to_api;
use sqlx::{PgConnection, Row, postgres::PgRow};
use tonic::Status;

use crate::{
    Query, TenantRows,
    errors::database,
    paging::{self, PageToken, page_size},
    values::Axes,
};

impl Query for v1::GetAgingRequest {
    const MODELS: &'static [&'static str] = &["accounts", "ledger"];
    const OF_ONE_ACCOUNT: bool = false;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::GetAgingResponse, Status> {
        let axes = Axes::of(&rows, self.as_of, self.known_at).await?;
        let as_of = axes.as_of;
        let size = page_size(self.page_size)?;
        let after = PageToken::<2>::parse(&self.page_token)?;
        let mut snapshot = rows.snapshot().await?;
        let asked = Asked { axes, tenant: rows.tenant, account: &self.account_id };
        let (mut figures, totals) = match self.page_token.as_str() {
            "" if !self.without_totals => first_page(&mut snapshot, &asked, size).await,
            _ => page(&mut snapshot, &asked, (after.text(0), after.text(1)), size).await,
        }
        .map_err(database)?;
        let parked: i64 = sqlx::query_scalar("SELECT count(*) FROM bi.parked WHERE tenant = $1")
            .bind(rows.tenant)
            .fetch_one(&mut *snapshot)
            .await
            .map_err(database)?;
        let next_page_token = paging::cut(&mut figures, size, |row| PageToken::of([&row.account_id, &row.currency]));
        Ok(v1::GetAgingResponse {
            rows: figures,
            totals,
            next_page_token,
            parked_accounts: parked as u32,
            as_of: Some(date_to_api(as_of)),
        })
    }
}

/// The request, checked.
struct Asked<'a> {
    axes: Axes,
    tenant: &'a str,
    /// Empty: every account.
    account: &'a str,
}

/// The first accounts, and the totals of all, which stand under no account.
const FIRST: &str = "
    WITH figure AS MATERIALIZED (
      SELECT account COLLATE \"C\" AS account, currency::text COLLATE \"C\" AS currency,
             not_due, d1_30, d31_60, d61_90, d91_plus, unapplied, balance
      FROM bi.aging_as_of($1, coalesce($2, 'infinity'::timestamptz))
      WHERE tenant = $3 AND ($4 = '' OR account = $4))
    (SELECT * FROM figure ORDER BY account, currency LIMIT $5)
    UNION ALL
    (SELECT '', currency, sum(not_due)::bigint, sum(d1_30)::bigint, sum(d31_60)::bigint, sum(d61_90)::bigint,
            sum(d91_plus)::bigint, sum(unapplied)::bigint, sum(balance)::bigint
     FROM figure GROUP BY currency ORDER BY currency)";

/// The last of so many accounts from one on, and how many there are.
const RANGE: &str = "
    SELECT max(account), count(*) FROM (
      SELECT account COLLATE \"C\" AS account FROM bi.accounts
      WHERE tenant = $1 AND account COLLATE \"C\" >= $2 ORDER BY account COLLATE \"C\" LIMIT $3) AS range";

/// The figures of a range of accounts, behind a row of it.
const NEXT: &str = "
    SELECT account, currency::text, not_due, d1_30, d31_60, d61_90, d91_plus, unapplied, balance
    FROM bi.aging_as_of($1, coalesce($2, 'infinity'::timestamptz))
    WHERE tenant = $3 AND ($4 = '' OR account = $4) AND account COLLATE \"C\" >= $5 AND account COLLATE \"C\" <= $6
      AND (account COLLATE \"C\", currency::text COLLATE \"C\") > ($5, $7)
    ORDER BY account COLLATE \"C\", currency::text COLLATE \"C\" LIMIT $8";

/// A text that sorts after every account.
const BEHIND_ALL: &str = "\u{10FFFF}";

type Rows = Vec<v1::AgingRow>;

/// One row more than the page has, where there is one; and the totals.
async fn first_page(snapshot: &mut PgConnection, asked: &Asked<'_>, size: i64) -> Result<(Rows, Rows), sqlx::Error> {
    let found = sqlx::query(FIRST)
        .bind(asked.axes.as_of.to_sqlx())
        .bind(asked.axes.known_at.map(ToSqlx::to_sqlx))
        .bind(asked.tenant)
        .bind(asked.account)
        .bind(size + 1)
        .fetch_all(snapshot)
        .await?;
    let found: Rows = found.iter().map(row).collect::<Result<_, _>>()?;
    let (totals, rows) = found.into_iter().partition(|row| row.account_id.is_empty());
    Ok((rows, totals))
}

/// One row more than the page has, where there is one; without totals. Accounts that owe nothing fill no page: ranges grow
/// until the page is full.
async fn page(
    snapshot: &mut PgConnection,
    asked: &Asked<'_>,
    after: (&str, &str),
    size: i64,
) -> Result<(Rows, Rows), sqlx::Error> {
    let (mut from, mut currency) = (after.0.to_owned(), after.1.to_owned());
    let (mut rows, mut accounts) = (Rows::new(), size + 1);
    loop {
        let (last, count): (Option<String>, i64) =
            sqlx::query_as(RANGE).bind(asked.tenant).bind(&from).bind(accounts).fetch_one(&mut *snapshot).await?;
        // The last range is open: while the accounts are made anew, some owe that are not among them yet.
        let last = last.filter(|_| count == accounts);
        let found = sqlx::query(NEXT)
            .bind(asked.axes.as_of.to_sqlx())
            .bind(asked.axes.known_at.map(ToSqlx::to_sqlx))
            .bind(asked.tenant)
            .bind(asked.account)
            .bind(&from)
            .bind(last.as_deref().unwrap_or(BEHIND_ALL))
            .bind(&currency)
            .bind(size + 1 - rows.len() as i64)
            .fetch_all(&mut *snapshot)
            .await?;
        for found in &found {
            rows.push(row(found)?);
        }
        let Some(last) = last.filter(|_| rows.len() as i64 <= size) else { return Ok((rows, Rows::new())) };
        // The page goes on after every currency of the last account.
        (from, currency) = (last, "~".to_owned());
        accounts *= 2;
    }
}

fn row(row: &PgRow) -> Result<v1::AgingRow, sqlx::Error> {
    Ok(v1::AgingRow {
        account_id: row.try_get(0)?,
        currency: row.try_get(1)?,
        not_due: row.try_get(2)?,
        d1_30: row.try_get(3)?,
        d31_60: row.try_get(4)?,
        d61_90: row.try_get(5)?,
        d91_plus: row.try_get(6)?,
        unapplied: row.try_get(7)?,
        balance: row.try_get(8)?,
    })
}
