//! QueryService: the read models over gRPC. It decides nothing and holds no state.
//!
//! A query is declared once, by [`Query`] on its request, in the file of its subject. The service serves every rpc of
//! query.proto through the declaration, so a missing one does not compile.

mod account;
mod aging;
mod credit;
mod documents;
mod errors;
mod history;
mod holds;
mod invoice;
mod items;
mod paging;
mod reminders;
mod turns;
mod values;
mod wait;

use jiff::{Timestamp, civil::Date};
use saldo_api::{
    QueryRequest,
    v1::{self, query_service_server::QueryService},
};
use saldo_auth::{Declared, Role, authorize};
use saldo_domain::ids::AccountId;
use saldo_log::{genesis::Identity, same::Trust};
use sqlx::{PgPool, Postgres, Row, Transaction};
use tonic::{Request, Response, Status};

use errors::{account_unknown, database, invalid, log_changed, parked};
use turns::Turns;

/// The roles that may read.
const READERS: &[Role] = &[Role::Reader, Role::Auditor, Role::Operator];

/// The declaration of a query, implemented for its request. [`QueryRequest`] has what is generated from query.proto: the
/// rpc's name, its answer, and the fields that queries share.
#[diagnostic::on_unimplemented(
    message = "the query of `{Self}` is not declared",
    note = "implement `Query` for it in services/query/src/<subject>.rs"
)]
trait Query: QueryRequest {
    /// The roles that may ask; one of them is enough.
    const ROLES: &'static [Role] = READERS;
    /// The reasons for which it may be refused, besides those that any query may have.
    const REASONS: &'static [&'static str] = &[];
    /// The read models that it reads. A consistency token waits for them.
    const MODELS: &'static [&'static str];
    /// Whether the request must name an account. Where it need not, an account that it names must exist all the same.
    const OF_ONE_ACCOUNT: bool;

    /// Answers from the rows of the caller's tenant. The account, where one is named, is there and is not parked.
    fn answer(self, rows: TenantRows<'_>) -> impl Future<Output = Result<Self::Answer, Status>> + Send;
}

macro_rules! declared {
    ($($function:ident $request:ident;)*) => {
        &[$(Declared::of::<v1::$request>(<v1::$request as Query>::ROLES, <v1::$request as Query>::REASONS)),*]
    };
}

/// Every query, in the order of query.proto.
pub const RPCS: &[Declared] = saldo_api::query_rpcs!(declared);

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

    /// Answers one query by its declaration, once it is the caller's turn and the read models have passed the consistency
    /// token.
    async fn serve<Q: Query>(&self, request: Request<Q>) -> Result<Response<Q::Answer>, Status> {
        let caller = authorize(&request, Q::ROLES)?;
        if let Some(why) = self.trust.lost() {
            return Err(log_changed(&why));
        }
        let request = request.into_inner();
        wait::for_token(&self.pool, &self.identity, request.consistency_token(), Q::MODELS).await?;
        let _turn = self.turns.wait(&caller.tenant).await;
        let rows = TenantRows { tenant: &caller.tenant, pool: &self.pool, now: (self.now)() };
        if Q::OF_ONE_ACCOUNT || !request.account_id().is_empty() {
            rows.account(request.account_id()).await?;
        }
        request.answer(rows).await.map(Response::new)
    }
}

macro_rules! serve_every_query {
    ($($function:ident $request:ident;)*) => {
        #[tonic::async_trait]
        impl QueryService for QueryGrpc {
            $(async fn $function(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<<v1::$request as saldo_api::ApiRequest>::Answer>, Status> {
                self.serve(request).await
            })*
        }
    };
}

saldo_api::query_rpcs!(serve_every_query);

/// The read models, asked for one tenant.
#[derive(Clone, Copy)]
struct TenantRows<'q> {
    tenant: &'q str,
    pool: &'q PgPool,
    now: Timestamp,
}

impl TenantRows<'_> {
    /// The tenant's present day.
    async fn today(&self) -> Result<Date, Status> {
        saldo_readmodel::day_of(self.pool, self.tenant, self.now).await.map_err(database)
    }

    /// One view of the rows for several statements, so that what they say belongs together.
    async fn snapshot(&self) -> Result<Transaction<'static, Postgres>, Status> {
        let mut snapshot = saldo_postgres::begin(self.pool).await.map_err(database)?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .execute(&mut *snapshot)
            .await
            .map_err(database)?;
        Ok(snapshot)
    }

    /// Fails where the account is parked or not there.
    async fn account(&self, account_id: &str) -> Result<(), Status> {
        AccountId::new(account_id).map_err(|rule| invalid("account_id", &rule.to_string()))?;
        let row = sqlx::query(
            "SELECT (SELECT reason FROM bi.parked WHERE tenant = $1 AND account = $2),
                    EXISTS (SELECT FROM bi.accounts WHERE tenant = $1 AND account = $2)",
        )
        .bind(self.tenant)
        .bind(account_id)
        .fetch_one(self.pool)
        .await
        .map_err(database)?;
        if let Some(reason) = row.try_get::<Option<String>, _>(0).map_err(database)? {
            return Err(parked(&reason));
        }
        if row.try_get::<bool, _>(1).map_err(database)? { Ok(()) } else { Err(account_unknown()) }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_query_is_documented_as_it_is_declared() {
        assert_eq!(saldo_auth::contradictions(super::RPCS), Vec::<String>::new());
    }
}
