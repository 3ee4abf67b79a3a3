//! One payment: where its money went and when, and what is unapplied.

use jiff_sqlx::ToSqlx;
use saldo_api::v1;
use saldo_facts::date_to_api;
use sqlx::{Row, postgres::PgRow};
use tonic::Status;

use crate::{
    Query, TenantRows,
    errors::{database, unknown},
    invoice::allocation,
    values::{Axes, date, timestamp},
};

/// What is unapplied is the negative of what the payment's own item stands at.
const PAYMENT: &str = "
    SELECT amount_minor, currency::text, day,
           CASE WHEN ended_known_at <= coalesce($5, 'infinity'::timestamptz) AND ended_on <= $4 THEN ended_on END,
           (SELECT -coalesce(sum(l.amount_minor), 0)::bigint FROM bi.ledger l
            WHERE l.tenant = $1 AND l.account = $2 AND l.kind = 'payment' AND l.document = $3
              AND l.effective_date <= $4 AND l.known_at <= coalesce($5, 'infinity'::timestamptz))
    FROM bi.documents
    WHERE tenant = $1 AND account = $2 AND kind = 'payment' AND document = $3
      AND known_at <= coalesce($5, 'infinity'::timestamptz)";

const ALLOCATIONS: &str = "
    SELECT kind, document, invoice, instalment, amount_minor, effective_date, known_at, version FROM bi.allocations
    WHERE tenant = $1 AND account = $2 AND kind = 'payment' AND document = $3 AND effective_date <= $4
      AND known_at <= coalesce($5, 'infinity'::timestamptz)
    ORDER BY version, line";

const REFUNDS: &str = "
    SELECT document, amount_minor, day, known_at FROM bi.documents
    WHERE tenant = $1 AND account = $2 AND kind = 'refund' AND about_kind = 'payment' AND about = $3 AND counts_from <= $4
      AND known_at <= coalesce($5, 'infinity'::timestamptz)
    ORDER BY known_at, document";

impl Query for v1::GetPaymentRequest {
    const REASONS: &'static [&'static str] = &["PAYMENT_UNKNOWN"];
    const MODELS: &'static [&'static str] = &["accounts", "ledger", "documents"];
    const OF_ONE_ACCOUNT: bool = true;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::GetPaymentResponse, Status> {
        let Axes { as_of, known_at } = Axes::of(&rows, self.as_of, self.known_at).await?;
        let mut snapshot = rows.snapshot().await?;
        let on_both_axes = |statement: &'static str| {
            let statement = sqlx::query(statement).bind(rows.tenant).bind(&self.account_id).bind(&self.reference);
            statement.bind(as_of.to_sqlx()).bind(known_at.map(ToSqlx::to_sqlx))
        };
        let payment = on_both_axes(PAYMENT).fetch_optional(&mut *snapshot).await.map_err(database)?;
        let Some(payment) = payment else {
            let message = format!("the account has no payment {}", self.reference);
            return Err(unknown("PAYMENT_UNKNOWN", &message));
        };
        let allocations = on_both_axes(ALLOCATIONS).fetch_all(&mut *snapshot).await.map_err(database)?;
        let refunds = on_both_axes(REFUNDS).fetch_all(&mut *snapshot).await.map_err(database)?;
        let answer = || -> Result<v1::GetPaymentResponse, sqlx::Error> {
            Ok(v1::GetPaymentResponse {
                account_id: self.account_id.clone(),
                reference: self.reference.clone(),
                amount: Some(v1::Money { minor_units: payment.try_get(0)?, currency: payment.try_get(1)? }),
                value_date: date(&payment, 2)?,
                reversed_on: date(&payment, 3)?,
                unapplied_minor: payment.try_get(4)?,
                allocations: allocations.iter().map(allocation).collect::<Result<_, _>>()?,
                as_of: Some(date_to_api(as_of)),
                refunds: refunds.iter().map(refund).collect::<Result<_, _>>()?,
            })
        };
        answer().map_err(database)
    }
}

fn refund(row: &PgRow) -> Result<v1::RefundView, sqlx::Error> {
    Ok(v1::RefundView {
        reference: row.try_get(0)?,
        amount_minor: row.try_get(1)?,
        refund_date: date(row, 2)?,
        known_at: Some(timestamp(row, 3)?),
    })
}
