//! One payment or credit note: where its credit went and when, and what is unapplied.

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

/// What is unapplied is the negative of what the document's own item stands at.
const DOCUMENT: &str = "
    SELECT amount_minor, currency::text, day, about,
           CASE WHEN ended_known_at <= coalesce($5, 'infinity'::timestamptz) AND ended_on <= $4 THEN ended_on END,
           (SELECT -coalesce(sum(l.amount_minor), 0)::bigint FROM bi.ledger l
            WHERE l.tenant = $1 AND l.account = $2 AND l.kind = $6 AND l.document = $3
              AND l.effective_date <= $4 AND l.known_at <= coalesce($5, 'infinity'::timestamptz))
    FROM bi.documents
    WHERE tenant = $1 AND account = $2 AND kind = $6 AND document = $3
      AND known_at <= coalesce($5, 'infinity'::timestamptz)";

const ALLOCATIONS: &str = "
    SELECT kind, document, invoice, instalment, amount_minor, effective_date, known_at, version FROM bi.allocations
    WHERE tenant = $1 AND account = $2 AND kind = $6 AND document = $3 AND effective_date <= $4
      AND known_at <= coalesce($5, 'infinity'::timestamptz)
    ORDER BY version, line";

const REFUNDS: &str = "
    SELECT document, amount_minor, day, known_at FROM bi.documents
    WHERE tenant = $1 AND account = $2 AND kind = 'refund' AND about_kind = $6 AND about = $3 AND counts_from <= $4
      AND known_at <= coalesce($5, 'infinity'::timestamptz)
    ORDER BY known_at, document";

/// A payment or a credit note as it stands.
struct Standing {
    amount: Option<v1::Money>,
    day: Option<v1::Date>,
    /// The invoice that a credit note corrects.
    about: Option<String>,
    ended_on: Option<v1::Date>,
    unapplied_minor: i64,
    allocations: Vec<v1::AllocationView>,
    refunds: Vec<v1::RefundView>,
}

/// The document of this kind and number; `None` where the account has none.
async fn standing(
    rows: &TenantRows<'_>,
    account: &str,
    (kind, document): (&'static str, &str),
    Axes { as_of, known_at }: Axes,
) -> Result<Option<Standing>, Status> {
    let mut snapshot = rows.snapshot().await?;
    let on_both_axes = |statement: &'static str| {
        let statement = sqlx::query(statement).bind(rows.tenant).bind(account).bind(document);
        statement.bind(as_of.to_sqlx()).bind(known_at.map(ToSqlx::to_sqlx)).bind(kind)
    };
    let found = on_both_axes(DOCUMENT).fetch_optional(&mut *snapshot).await.map_err(database)?;
    let Some(found) = found else { return Ok(None) };
    let allocations = on_both_axes(ALLOCATIONS).fetch_all(&mut *snapshot).await.map_err(database)?;
    let refunds = on_both_axes(REFUNDS).fetch_all(&mut *snapshot).await.map_err(database)?;
    let read = || -> Result<Standing, sqlx::Error> {
        Ok(Standing {
            amount: Some(v1::Money { minor_units: found.try_get(0)?, currency: found.try_get(1)? }),
            day: date(&found, 2)?,
            about: found.try_get(3)?,
            ended_on: date(&found, 4)?,
            unapplied_minor: found.try_get(5)?,
            allocations: allocations.iter().map(allocation).collect::<Result<_, _>>()?,
            refunds: refunds.iter().map(refund).collect::<Result<_, _>>()?,
        })
    };
    read().map(Some).map_err(database)
}

impl Query for v1::GetPaymentRequest {
    const REASONS: &'static [&'static str] = &["PAYMENT_UNKNOWN"];
    const MODELS: &'static [&'static str] = &["accounts", "ledger", "documents"];
    const OF_ONE_ACCOUNT: bool = true;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::GetPaymentResponse, Status> {
        let axes = Axes::of(&rows, self.as_of, self.known_at).await?;
        let as_of = Some(date_to_api(axes.as_of));
        let Some(payment) = standing(&rows, &self.account_id, ("payment", &self.reference), axes).await? else {
            let message = format!("the account has no payment {}", self.reference);
            return Err(unknown("PAYMENT_UNKNOWN", &message));
        };
        Ok(v1::GetPaymentResponse {
            account_id: self.account_id,
            reference: self.reference,
            amount: payment.amount,
            value_date: payment.day,
            reversed_on: payment.ended_on,
            unapplied_minor: payment.unapplied_minor,
            allocations: payment.allocations,
            as_of,
            refunds: payment.refunds,
        })
    }
}

impl Query for v1::GetCreditNoteRequest {
    const REASONS: &'static [&'static str] = &["CREDIT_NOTE_UNKNOWN"];
    const MODELS: &'static [&'static str] = &["accounts", "ledger", "documents"];
    const OF_ONE_ACCOUNT: bool = true;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::GetCreditNoteResponse, Status> {
        let axes = Axes::of(&rows, self.as_of, self.known_at).await?;
        let as_of = Some(date_to_api(axes.as_of));
        let Some(note) = standing(&rows, &self.account_id, ("credit_note", &self.number), axes).await? else {
            let message = format!("the account has no credit note {}", self.number);
            return Err(unknown("CREDIT_NOTE_UNKNOWN", &message));
        };
        Ok(v1::GetCreditNoteResponse {
            account_id: self.account_id,
            number: self.number,
            invoice_number: note.about.unwrap_or_default(),
            amount: note.amount,
            credit_date: note.day,
            unapplied_minor: note.unapplied_minor,
            allocations: note.allocations,
            refunds: note.refunds,
            as_of,
        })
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
