//! Documents by their numbers, settled ones too.

use saldo_api::v1::{self, find_documents_request::Kind};
use tonic::Status;

use crate::{
    Query, TenantRows,
    errors::{database, invalid},
    items::open_item,
};

/// The most documents of one question.
const MAX_NUMBERS: usize = 1_000;

impl Query for v1::FindDocumentsRequest {
    const MODELS: &'static [&'static str] = &["accounts", "ledger"];
    const OF_ONE_ACCOUNT: bool = true;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::FindDocumentsResponse, Status> {
        let kind = match self.kind() {
            Kind::Unspecified => return Err(invalid("kind", "must be invoice, credit note or payment")),
            Kind::Invoice => "invoice",
            Kind::CreditNote => "credit_note",
            Kind::Payment => "payment",
        };
        if self.numbers.len() > MAX_NUMBERS {
            return Err(invalid("numbers", &format!("must be at most {MAX_NUMBERS}")));
        }
        let found = sqlx::query(
            "SELECT kind, document, instalment, currency::text, issue_date, due_date, original_minor, open_minor
             FROM bi.items WHERE tenant = $1 AND account = $2 AND kind = $3 AND document = ANY($4)
             ORDER BY document, instalment",
        )
        .bind(rows.tenant)
        .bind(&self.account_id)
        .bind(kind)
        .bind(&self.numbers)
        .fetch_all(rows.pool)
        .await
        .map_err(database)?;
        let items = found.iter().map(open_item).collect::<Result<_, _>>().map_err(database)?;
        Ok(v1::FindDocumentsResponse { items })
    }
}
