//! Reading one's own writes: a query given a consistency token waits until the read models have passed it.

use std::time::Duration;

use saldo_facts::ConsistencyToken;
use saldo_log::genesis::Identity;
use sqlx::PgPool;
use tokio::time::Instant;
use tonic::Status;

use crate::errors::{behind, database, invalid, other_log};

/// The longest a query waits; the caller's own deadline may be earlier.
const LONGEST: Duration = Duration::from_secs(10);
/// Between two looks: at first, and at most; each look waits twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The offset behind what these read models hold of a partition. A model that stands still while it is made anew holds less
/// than the checkpoints say.
const NEXT: &str = "
    SELECT min(next) FROM (
        SELECT next_offset AS next FROM saldo.checkpoints WHERE partition = $1
        UNION ALL
        SELECT stood_at[$1 + 1] FROM saldo.models WHERE model = ANY($2) AND stood_at IS NOT NULL) AS standing";

/// Waits until these read models have passed the token; at once where it is empty.
pub async fn for_token(pool: &PgPool, identity: &Identity, token: &str, models: &[&str]) -> Result<(), Status> {
    if token.is_empty() {
        return Ok(());
    }
    let token: ConsistencyToken =
        token.parse().map_err(|rule: saldo_facts::InvalidToken| invalid("consistency_token", &rule.to_string()))?;
    if token.log_id != identity.log_id || token.partition >= identity.partitions {
        return Err(other_log());
    }
    let deadline = Instant::now() + LONGEST;
    let mut pause = FIRST_PAUSE;
    loop {
        let next: Option<i64> = sqlx::query_scalar(NEXT)
            .bind(token.partition as i32)
            .bind(models)
            .fetch_one(pool)
            .await
            .map_err(database)?;
        if next.is_some_and(|next| next as u64 > token.offset) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(behind());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
