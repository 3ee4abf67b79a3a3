//! Documents by their numbers, settled ones too.

use saldo_api::v1::{self, find_documents_request::Kind};
use saldo_auth::Caller;
use sqlx::PgPool;
use tonic::Status;

use crate::{
    errors::{database, invalid},
    open_item,
};

/// The most documents of one question.
const MAX_NUMBERS: usize = 1_000;

/// What the ledger has of these documents. The first entry of an item made it.
pub async fn find(
    pool: &PgPool,
    caller: &Caller,
    request: &v1::FindDocumentsRequest,
) -> Result<v1::FindDocumentsResponse, Status> {
    let kind = match request.kind() {
        Kind::Unspecified => return Err(invalid("kind", "must be invoice, credit note or payment")),
        Kind::Invoice => "invoice",
        Kind::CreditNote => "credit_note",
        Kind::Payment => "payment",
    };
    if request.numbers.len() > MAX_NUMBERS {
        return Err(invalid("numbers", &format!("must be at most {MAX_NUMBERS}")));
    }
    let rows = sqlx::query(
        "SELECT DISTINCT ON (document, instalment)
                kind, document, instalment, currency::text, effective_date, due_date, amount_minor,
                (sum(amount_minor) OVER (PARTITION BY document, instalment))::bigint
         FROM bi.ledger WHERE tenant = $1 AND account = $2 AND kind = $3 AND document = ANY($4)
         ORDER BY document, instalment, record_offset, line",
    )
    .bind(&caller.tenant)
    .bind(&request.account_id)
    .bind(kind)
    .bind(&request.numbers)
    .fetch_all(pool)
    .await
    .map_err(database)?;
    let items = rows.iter().map(open_item).collect::<Result<_, _>>().map_err(database)?;
    Ok(v1::FindDocumentsResponse { items })
}
