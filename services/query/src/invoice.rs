//! One invoice: its instalments, what was applied to them and when, and the messages that listed it.

use jiff_sqlx::ToSqlx;
use saldo_api::v1;
use saldo_facts::date_to_api;
use sqlx::{Row, postgres::PgRow};
use tonic::Status;

use crate::{
    Query, TenantRows,
    errors::{database, unknown},
    values::{Axes, date, timestamp},
};

const INVOICE: &str = "
    SELECT amount_minor, currency::text, day,
           CASE WHEN ended_known_at <= coalesce($5, 'infinity'::timestamptz) AND ended_on <= $4 THEN ended_on END
    FROM bi.documents
    WHERE tenant = $1 AND account = $2 AND kind = 'invoice' AND document = $3
      AND known_at <= coalesce($5, 'infinity'::timestamptz)";

/// The first change of an instalment is its issue.
const INSTALMENTS: &str = "
    SELECT instalment, min(due_date), (array_agg(amount_minor ORDER BY partition, record_offset, line))[1],
           coalesce(sum(amount_minor) FILTER (WHERE effective_date <= $4), 0)::bigint
    FROM bi.ledger
    WHERE tenant = $1 AND account = $2 AND kind = 'invoice' AND document = $3
      AND known_at <= coalesce($5, 'infinity'::timestamptz)
    GROUP BY instalment ORDER BY instalment";

const ALLOCATIONS: &str = "
    SELECT kind, document, invoice, instalment, amount_minor, effective_date, known_at, version FROM bi.allocations
    WHERE tenant = $1 AND account = $2 AND invoice = $3 AND effective_date <= $4
      AND known_at <= coalesce($5, 'infinity'::timestamptz)
    ORDER BY version, line";

/// An attempt whose outcome was not known yet was under way.
const LISTED_IN: &str = "
    SELECT l.reminder, l.attempt, a.step, a.channel,
           CASE WHEN a.ended_at > coalesce($4, 'infinity'::timestamptz) THEN 'started' ELSE a.status END,
           a.started_at, l.instalment, l.open_minor
    FROM bi.listed_items l JOIN bi.contact_attempts a USING (tenant, account, reminder, attempt)
    WHERE tenant = $1 AND account = $2 AND l.invoice = $3 AND a.started_at <= coalesce($4, 'infinity'::timestamptz)
    ORDER BY l.reminder, l.attempt, l.instalment";

impl Query for v1::GetInvoiceRequest {
    const REASONS: &'static [&'static str] = &["INVOICE_UNKNOWN"];
    const MODELS: &'static [&'static str] =
        &["accounts", "ledger", "documents", "attempts", "reminders", "listed_items"];
    const OF_ONE_ACCOUNT: bool = true;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::GetInvoiceResponse, Status> {
        let Axes { as_of, known_at } = Axes::of(&rows, self.as_of, self.known_at).await?;
        let known_at = known_at.map(ToSqlx::to_sqlx);
        let mut snapshot = rows.snapshot().await?;
        let on_both_axes = |statement: &'static str| {
            let statement = sqlx::query(statement).bind(rows.tenant).bind(&self.account_id).bind(&self.number);
            statement.bind(as_of.to_sqlx()).bind(known_at)
        };
        let invoice = on_both_axes(INVOICE).fetch_optional(&mut *snapshot).await.map_err(database)?;
        let Some(invoice) = invoice else {
            let message = format!("the account has no invoice {}", self.number);
            return Err(unknown("INVOICE_UNKNOWN", &message));
        };
        let instalments = on_both_axes(INSTALMENTS).fetch_all(&mut *snapshot).await.map_err(database)?;
        let allocations = on_both_axes(ALLOCATIONS).fetch_all(&mut *snapshot).await.map_err(database)?;
        let listed_in = sqlx::query(LISTED_IN)
            .bind(rows.tenant)
            .bind(&self.account_id)
            .bind(&self.number)
            .bind(known_at)
            .fetch_all(&mut *snapshot)
            .await
            .map_err(database)?;
        let answer = || -> Result<v1::GetInvoiceResponse, sqlx::Error> {
            Ok(v1::GetInvoiceResponse {
                account_id: self.account_id.clone(),
                number: self.number.clone(),
                total: Some(v1::Money { minor_units: invoice.try_get(0)?, currency: invoice.try_get(1)? }),
                issue_date: date(&invoice, 2)?,
                voided_on: date(&invoice, 3)?,
                instalments: instalments.iter().map(instalment).collect::<Result<_, _>>()?,
                allocations: allocations.iter().map(allocation).collect::<Result<_, _>>()?,
                listed_in: listed_in.iter().map(listed).collect::<Result<_, _>>()?,
                as_of: Some(date_to_api(as_of)),
            })
        };
        answer().map_err(database)
    }
}

fn instalment(row: &PgRow) -> Result<v1::InstalmentView, sqlx::Error> {
    Ok(v1::InstalmentView {
        instalment: row.try_get::<i32, _>(0)? as u32,
        due_date: date(row, 1)?,
        amount_minor: row.try_get(2)?,
        open_minor: row.try_get(3)?,
    })
}

/// Kind, document, invoice, instalment, amount, day, instant and version.
pub fn allocation(row: &PgRow) -> Result<v1::AllocationView, sqlx::Error> {
    Ok(v1::AllocationView {
        kind: row.try_get(0)?,
        document: row.try_get(1)?,
        invoice_number: row.try_get(2)?,
        instalment: row.try_get::<i32, _>(3)? as u32,
        amount_minor: row.try_get(4)?,
        effective_date: date(row, 5)?,
        known_at: Some(timestamp(row, 6)?),
        version: row.try_get::<i64, _>(7)? as u64,
    })
}

fn listed(row: &PgRow) -> Result<v1::ListedInView, sqlx::Error> {
    Ok(v1::ListedInView {
        reminder: row.try_get::<i64, _>(0)? as u64,
        attempt: row.try_get::<i32, _>(1)? as u32,
        step: row.try_get(2)?,
        channel: row.try_get(3)?,
        status: row.try_get(4)?,
        started_at: Some(timestamp(row, 5)?),
        instalment: row.try_get::<i32, _>(6)? as u32,
        open_minor: row.try_get(7)?,
    })
}
