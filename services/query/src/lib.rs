//! QueryService: the read models over gRPC. It decides nothing and holds no state.

mod aging;
mod errors;
mod holds;
mod paging;
mod reminders;
mod turns;
mod wait;

use jiff::Timestamp;
use saldo_api::v1::{self, query_service_server::QueryService};
use saldo_auth::{Caller, Role, authorize};
use saldo_domain::{ids::AccountId, party::Channel};
use saldo_facts::{
    REQUEST_DAY_RULE, REQUEST_INSTANT_RULE, channel_to_api, date_to_api, day_from_request, instant_from_request,
    timestamp_to_api,
};
use saldo_log::{genesis::Identity, same::Trust};
use sqlx::{PgPool, Postgres, Row, Transaction, postgres::PgRow};
use tonic::{Code, Request, Response, Status};

use errors::{account_unknown, database, invalid, parked, refuse};
use paging::{PageToken, page_size};
use turns::{Turn, Turns};

/// Who may read.
const READERS: &[Role] = &[Role::Reader, Role::Auditor, Role::Operator, Role::Service];

/// The service over one database.
#[derive(Clone)]
pub struct QueryGrpc {
    pool: PgPool,
    turns: Turns,
    identity: Identity,
    now: std::sync::Arc<dyn Fn() -> Timestamp + Send + Sync>,
    trust: Trust,
}

impl QueryGrpc {
    /// Serves the read models in `pool`, which follow the log of this identity. `now` gives the present instant; which
    /// day it falls on is the creditor's own.
    pub fn new(pool: PgPool, identity: Identity, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let turns = Turns::over(pool.options().get_max_connections());
        Self { pool, turns, identity, now: std::sync::Arc::new(now), trust: Trust::default() }
    }

    /// Answers nothing once the read models are of another log than they were.
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// Who asks, once it is their turn and these read models have passed their consistency token.
    async fn ready<T>(&self, request: &Request<T>, token: &str, models: &[&str]) -> Result<(Caller, Turn), Status> {
        let caller = authorize(request, READERS)?;
        if let Some(why) = self.trust.lost() {
            return Err(refuse(Code::Unavailable, "LOG_CHANGED", &format!("nothing is answered: {why}")));
        }
        wait::for_token(&self.pool, &self.identity, token, models).await?;
        let turn = self.turns.wait(&caller.tenant).await;
        Ok((caller, turn))
    }

    /// One view of the rows for several statements, so that what they say belongs together.
    async fn snapshot(&self) -> Result<Transaction<'static, Postgres>, Status> {
        // In a task of its own: a client that goes away while the driver waits for the answer to BEGIN would leave the
        // transaction open on its connection, which goes back to the pool.
        let pool = self.pool.clone();
        let begun = tokio::spawn(async move { pool.begin().await }).await;
        let mut snapshot = begun.unwrap_or(Err(sqlx::Error::WorkerCrashed)).map_err(database)?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .execute(&mut *snapshot)
            .await
            .map_err(database)?;
        Ok(snapshot)
    }

    /// Fails where the account is parked or not there.
    async fn account(&self, caller: &Caller, account_id: &str) -> Result<(), Status> {
        AccountId::new(account_id).map_err(|rule| invalid("account_id", &rule.to_string()))?;
        let row = sqlx::query(
            "SELECT (SELECT reason FROM bi.parked WHERE tenant = $1 AND account = $2),
                    EXISTS (SELECT FROM bi.accounts WHERE tenant = $1 AND account = $2)",
        )
        .bind(&caller.tenant)
        .bind(account_id)
        .fetch_one(&self.pool)
        .await
        .map_err(database)?;
        if let Some(reason) = row.try_get::<Option<String>, _>(0).map_err(database)? {
            return Err(parked(&reason));
        }
        if row.try_get::<bool, _>(1).map_err(database)? { Ok(()) } else { Err(account_unknown()) }
    }
}

#[tonic::async_trait]
impl QueryService for QueryGrpc {
    async fn get_aging(&self, request: Request<v1::GetAgingRequest>) -> Result<Response<v1::GetAgingResponse>, Status> {
        let (caller, _turn) =
            self.ready(&request, &request.get_ref().consistency_token, &["accounts", "ledger"]).await?;
        let request = request.into_inner();
        let as_of = match request.as_of {
            Some(day) => day_from_request(day).ok_or_else(|| invalid("as_of", REQUEST_DAY_RULE))?,
            None => saldo_readmodel::day_of(&self.pool, &caller.tenant, (self.now)()).await.map_err(database)?,
        };
        let known_at = match request.known_at {
            Some(at) => Some(instant_from_request(at).ok_or_else(|| invalid("known_at", REQUEST_INSTANT_RULE))?),
            None => None,
        };
        if !request.account_id.is_empty() {
            self.account(&caller, &request.account_id).await?;
        }
        let size = page_size(request.page_size)?;
        let after = PageToken::<2>::parse(&request.page_token)?;
        let mut snapshot = self.snapshot().await?;
        let asked = aging::Asked { as_of, known_at, tenant: &caller.tenant, account: &request.account_id };
        let (mut rows, totals) = match request.page_token.as_str() {
            "" => aging::first_page(&mut snapshot, &asked, size).await,
            _ => aging::next_page(&mut snapshot, &asked, (after.text(0), after.text(1)), size).await,
        }
        .map_err(database)?;
        let parked: i64 = sqlx::query_scalar("SELECT count(*) FROM bi.parked WHERE tenant = $1")
            .bind(&caller.tenant)
            .fetch_one(&mut *snapshot)
            .await
            .map_err(database)?;
        let next_page_token = paging::cut(&mut rows, size, |row| PageToken::of([&row.account_id, &row.currency]));
        Ok(Response::new(v1::GetAgingResponse {
            rows,
            totals,
            next_page_token,
            parked_accounts: parked as u32,
            as_of: Some(date_to_api(as_of)),
        }))
    }

    async fn list_open_items(
        &self,
        request: Request<v1::ListOpenItemsRequest>,
    ) -> Result<Response<v1::ListOpenItemsResponse>, Status> {
        let (caller, _turn) =
            self.ready(&request, &request.get_ref().consistency_token, &["accounts", "ledger"]).await?;
        let request = request.into_inner();
        self.account(&caller, &request.account_id).await?;
        let rows = sqlx::query(
            "SELECT kind, document, instalment, currency::text, issue_date, due_date, original_minor, open_minor
             FROM bi.open_items WHERE tenant = $1 AND account = $2
             ORDER BY due_date NULLS LAST, issue_date, document, instalment",
        )
        .bind(&caller.tenant)
        .bind(&request.account_id)
        .fetch_all(&self.pool)
        .await
        .map_err(database)?;
        let items = rows.iter().map(open_item).collect::<Result<_, _>>().map_err(database)?;
        Ok(Response::new(v1::ListOpenItemsResponse { items }))
    }

    async fn get_account(
        &self,
        request: Request<v1::GetAccountRequest>,
    ) -> Result<Response<v1::GetAccountResponse>, Status> {
        let (caller, _turn) =
            self.ready(&request, &request.get_ref().consistency_token, &["accounts", "personal"]).await?;
        let request = request.into_inner();
        self.account(&caller, &request.account_id).await?;
        let mut snapshot = self.snapshot().await?;
        let row = sqlx::query(
            "SELECT a.kind, a.language, a.time_zone, a.country, a.version, n.display_name
             FROM bi.accounts a LEFT JOIN saldo.personal_names n USING (tenant, account)
             WHERE a.tenant = $1 AND a.account = $2",
        )
        .bind(&caller.tenant)
        .bind(&request.account_id)
        .fetch_one(&mut *snapshot)
        .await
        .map_err(database)?;
        let points = sqlx::query(
            "SELECT channel, address FROM saldo.personal_contact_points
             WHERE tenant = $1 AND account = $2 ORDER BY position",
        )
        .bind(&caller.tenant)
        .bind(&request.account_id)
        .fetch_all(&mut *snapshot)
        .await
        .map_err(database)?;
        let answer = || -> Result<v1::GetAccountResponse, sqlx::Error> {
            let text = |index: usize| row.try_get::<Option<String>, _>(index).map(Option::unwrap_or_default);
            Ok(v1::GetAccountResponse {
                account_id: request.account_id.clone(),
                kind: match text(0)?.as_str() {
                    "consumer" => v1::DebtorKind::Consumer,
                    "business" => v1::DebtorKind::Business,
                    _ => v1::DebtorKind::Unspecified,
                }
                .into(),
                language: text(1)?,
                time_zone: text(2)?,
                country: text(3)?,
                version: row.try_get::<i64, _>(4)? as u64,
                display_name: text(5)?,
                contact_points: points
                    .iter()
                    .map(|point| {
                        Ok(v1::ContactPointView {
                            channel: channel(point.try_get::<&str, _>(0)?).into(),
                            address: point.try_get::<Option<String>, _>(1)?.unwrap_or_default(),
                        })
                    })
                    .collect::<Result<_, sqlx::Error>>()?,
            })
        };
        answer().map(Response::new).map_err(database)
    }

    async fn list_history(
        &self,
        request: Request<v1::ListHistoryRequest>,
    ) -> Result<Response<v1::ListHistoryResponse>, Status> {
        let (caller, _turn) =
            self.ready(&request, &request.get_ref().consistency_token, &["accounts", "history"]).await?;
        let request = request.into_inner();
        self.account(&caller, &request.account_id).await?;
        let size = page_size(request.page_size)?;
        let after = PageToken::<2>::parse(&request.page_token)?;
        let rows = sqlx::query(
            "SELECT version, index, type, effective_date, recorded_at, actor, summary FROM bi.debtor_history
             WHERE tenant = $1 AND account = $2 AND (version, index) > ($3, $4) ORDER BY version, index LIMIT $5",
        )
        .bind(&caller.tenant)
        .bind(&request.account_id)
        .bind(after.number(0)?.unwrap_or(-1))
        .bind(after.number(1)?.unwrap_or(-1))
        .bind(size + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(database)?;
        let mut entries: Vec<v1::HistoryEntry> =
            rows.iter().map(history_entry).collect::<Result<_, _>>().map_err(database)?;
        let next_page_token = paging::cut(&mut entries, size, |entry| {
            PageToken::of([&entry.version.to_string(), &entry.index.to_string()])
        });
        Ok(Response::new(v1::ListHistoryResponse { entries, next_page_token }))
    }

    async fn list_parked(
        &self,
        request: Request<v1::ListParkedRequest>,
    ) -> Result<Response<v1::ListParkedResponse>, Status> {
        let (caller, _turn) = self.ready(&request, "", &[]).await?;
        let rows = sqlx::query("SELECT account, parked_at, reason FROM bi.parked WHERE tenant = $1 ORDER BY account")
            .bind(&caller.tenant)
            .fetch_all(&self.pool)
            .await
            .map_err(database)?;
        let accounts = rows
            .iter()
            .map(|row| {
                Ok(v1::ParkedAccount {
                    account_id: row.try_get(0)?,
                    parked_at: Some(timestamp(row, 1)?),
                    reason: row.try_get(2)?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(database)?;
        Ok(Response::new(v1::ListParkedResponse { accounts }))
    }

    async fn list_reminders(
        &self,
        request: Request<v1::ListRemindersRequest>,
    ) -> Result<Response<v1::ListRemindersResponse>, Status> {
        let (caller, _turn) =
            self.ready(&request, &request.get_ref().consistency_token, &["accounts", "reminders"]).await?;
        let request = request.into_inner();
        if !request.account_id.is_empty() {
            self.account(&caller, &request.account_id).await?;
        }
        reminders::list(&self.pool, &caller, &request).await.map(Response::new)
    }

    async fn list_attempts(
        &self,
        request: Request<v1::ListAttemptsRequest>,
    ) -> Result<Response<v1::ListAttemptsResponse>, Status> {
        let (caller, _turn) =
            self.ready(&request, &request.get_ref().consistency_token, &["accounts", "attempts", "reminders"]).await?;
        let request = request.into_inner();
        self.account(&caller, &request.account_id).await?;
        reminders::attempts(&self.pool, &caller, &request.account_id).await.map(Response::new)
    }

    async fn get_contact_totals(
        &self,
        request: Request<v1::GetContactTotalsRequest>,
    ) -> Result<Response<v1::GetContactTotalsResponse>, Status> {
        let (caller, _turn) = self.ready(&request, &request.get_ref().consistency_token, &["reminders"]).await?;
        reminders::totals(&self.pool, &caller).await.map(Response::new)
    }

    async fn list_holds(
        &self,
        request: Request<v1::ListHoldsRequest>,
    ) -> Result<Response<v1::ListHoldsResponse>, Status> {
        let (caller, _turn) =
            self.ready(&request, &request.get_ref().consistency_token, &["accounts", "holds"]).await?;
        let request = request.into_inner();
        if !request.account_id.is_empty() {
            self.account(&caller, &request.account_id).await?;
        }
        holds::holds(&self.pool, &caller, &request).await.map(Response::new)
    }
}

fn open_item(row: &PgRow) -> Result<v1::OpenItem, sqlx::Error> {
    let kind: String = row.try_get(0)?;
    Ok(v1::OpenItem {
        kind: match kind.as_str() {
            "invoice" => v1::open_item::Kind::Invoice,
            _ => v1::open_item::Kind::Unapplied,
        }
        .into(),
        document: row.try_get(1)?,
        instalment: row.try_get::<i32, _>(2)? as u32,
        currency: row.try_get(3)?,
        issue_date: date(row, 4)?,
        due_date: date(row, 5)?,
        original_minor: row.try_get(6)?,
        open_minor: row.try_get(7)?,
    })
}

fn history_entry(row: &PgRow) -> Result<v1::HistoryEntry, sqlx::Error> {
    Ok(v1::HistoryEntry {
        version: row.try_get::<i64, _>(0)? as u64,
        index: row.try_get::<i32, _>(1)? as u32,
        r#type: row.try_get(2)?,
        effective_date: date(row, 3)?,
        recorded_at: Some(timestamp(row, 4)?),
        actor: row.try_get(5)?,
        summary: row.try_get(6)?,
    })
}

fn date(row: &PgRow, index: usize) -> Result<Option<v1::Date>, sqlx::Error> {
    let date: Option<jiff_sqlx::Date> = row.try_get(index)?;
    Ok(date.map(|date| date_to_api(date.to_jiff())))
}

fn timestamp(row: &PgRow, index: usize) -> Result<prost_types::Timestamp, sqlx::Error> {
    Ok(timestamp_to_api(row.try_get::<jiff_sqlx::Timestamp, _>(index)?.to_jiff()))
}

fn timestamp_if_any(row: &PgRow, index: usize) -> Result<Option<prost_types::Timestamp>, sqlx::Error> {
    let at: Option<jiff_sqlx::Timestamp> = row.try_get(index)?;
    Ok(at.map(|at| timestamp_to_api(at.to_jiff())))
}

fn channel(name: &str) -> v1::Channel {
    Channel::parse(name).map_or(v1::Channel::Unspecified, channel_to_api)
}
