//! The debtor of an account, and the accounts that stand still.

use saldo_api::v1;
use saldo_domain::party::Channel;
use saldo_facts::channel_to_api;
use sqlx::{Row, postgres::PgRow};
use tonic::Status;

use crate::{Query, TenantRows, errors::database, values::timestamp};

impl Query for v1::GetAccountRequest {
    const MODELS: &'static [&'static str] = &["accounts", "personal"];
    const OF_ONE_ACCOUNT: bool = true;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::GetAccountResponse, Status> {
        let mut snapshot = rows.snapshot().await?;
        let profile = sqlx::query(
            "SELECT a.kind, a.language, a.time_zone, a.country, a.version, n.display_name
             FROM bi.accounts a LEFT JOIN saldo.personal_names n USING (tenant, account)
             WHERE a.tenant = $1 AND a.account = $2",
        )
        .bind(rows.tenant)
        .bind(&self.account_id)
        .fetch_one(&mut *snapshot)
        .await
        .map_err(database)?;
        let points = sqlx::query(
            "SELECT channel, address FROM saldo.personal_contact_points
             WHERE tenant = $1 AND account = $2 ORDER BY position",
        )
        .bind(rows.tenant)
        .bind(&self.account_id)
        .fetch_all(&mut *snapshot)
        .await
        .map_err(database)?;
        account(self.account_id, &profile, &points).map_err(database)
    }
}

fn account(account_id: String, profile: &PgRow, points: &[PgRow]) -> Result<v1::GetAccountResponse, sqlx::Error> {
    let text = |index: usize| profile.try_get::<Option<String>, _>(index).map(Option::unwrap_or_default);
    Ok(v1::GetAccountResponse {
        account_id,
        kind: match text(0)?.as_str() {
            "consumer" => v1::DebtorKind::Consumer,
            "business" => v1::DebtorKind::Business,
            _ => v1::DebtorKind::Unspecified,
        }
        .into(),
        language: text(1)?,
        time_zone: text(2)?,
        country: text(3)?,
        version: profile.try_get::<i64, _>(4)? as u64,
        display_name: text(5)?,
        contact_points: points.iter().map(contact_point).collect::<Result<_, _>>()?,
    })
}

fn contact_point(row: &PgRow) -> Result<v1::ContactPointView, sqlx::Error> {
    let channel = Channel::parse(row.try_get::<&str, _>(0)?).map_or(v1::Channel::Unspecified, channel_to_api);
    let address = row.try_get::<Option<String>, _>(1)?.unwrap_or_default();
    Ok(v1::ContactPointView { channel: channel.into(), address })
}

impl Query for v1::ListParkedRequest {
    const MODELS: &'static [&'static str] = &[];
    const OF_ONE_ACCOUNT: bool = false;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::ListParkedResponse, Status> {
        let found = sqlx::query("SELECT account, parked_at, reason FROM bi.parked WHERE tenant = $1 ORDER BY account")
            .bind(rows.tenant)
            .fetch_all(rows.pool)
            .await
            .map_err(database)?;
        let accounts = found.iter().map(parked_account).collect::<Result<_, _>>().map_err(database)?;
        Ok(v1::ListParkedResponse { accounts })
    }
}

fn parked_account(row: &PgRow) -> Result<v1::ParkedAccount, sqlx::Error> {
    Ok(v1::ParkedAccount { account_id: row.try_get(0)?, parked_at: Some(timestamp(row, 1)?), reason: row.try_get(2)? })
}
