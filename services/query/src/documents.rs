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
    const MODELS: &'static [&'static str] = &["accounts", "ledger", "documents"];
    const OF_ONE_ACCOUNT: bool = true;

    /// What the ledger has of these documents. The first entry of an item made it. The day is that of the document: a payment that is
    /// dated ahead has its entry on an earlier day.
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
            "SELECT DISTINCT ON (document, instalment)
                    kind, document, instalment, currency::text,
                    (SELECT d.day FROM bi.documents d
                     WHERE d.tenant = $1 AND d.account = $2 AND d.kind = $3 AND d.document = l.document),
                    due_date, amount_minor,
                    (sum(amount_minor) OVER (PARTITION BY document, instalment))::bigint
             FROM bi.ledger l WHERE tenant = $1 AND account = $2 AND kind = $3 AND document = ANY($4)
             ORDER BY document, instalment, record_offset, line",
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
