//! A machine whose clock is not the log's. The log's is shifted instead: by a function of the tests' own, which the log's
//! database finds before Postgres's.

use std::{sync::Arc, time::Duration};

use saldo::client::{Clients, StatusDetails};
use saldo_api::v1;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    Failure, Outcome,
    commands::open,
    env::{Env, eventually},
    process::{self, Saldo},
    the_log,
};

const COMMAND: &str = "collections.v1.CommandService";

/// A log whose clock can be shifted.
struct ShiftedLog {
    url: String,
    connection: PgConnection,
}

impl ShiftedLog {
    async fn create(env: &Env) -> Result<Self, Failure> {
        let url = env.database().await?;
        let mut connection = PgConnection::connect(&url).await?;
        let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut connection).await?;
        for statement in [
            "CREATE SCHEMA shifted",
            "CREATE TABLE shifted.clock (ahead interval NOT NULL)",
            "INSERT INTO shifted.clock VALUES ('0')",
            "CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
             AS 'SELECT pg_catalog.clock_timestamp() + ahead FROM shifted.clock'",
            &format!("ALTER DATABASE {name} SET search_path = shifted, pg_catalog, public"),
        ] {
            sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
        }
        Ok(Self { url, connection })
    }

    async fn shift(&mut self, ahead: &str) -> Outcome {
        let update = "UPDATE shifted.clock SET ahead = $1::text::interval";
        sqlx::query(update).bind(ahead).execute(&mut self.connection).await?;
        Ok(())
    }

    async fn commits(&self) -> Result<usize, Failure> {
        let log = saldo_log::embedded::EmbeddedLog::connect(&self.url, "saldo.accounts").await?;
        Ok(the_log::read(&log).await?.places.len())
    }
}

async fn health(saldo: &Saldo, service: &str) -> Result<ServingStatus, Failure> {
    process::health(&saldo.target.endpoint, service).await
}

async fn assert_skewed(clients: &Clients, account: &str) {
    let status = clients.clone().command.open_account(open("1", account)).await.expect_err("a wrong clock");
    let said = StatusDetails::of(&status);
    assert_eq!((status.code(), said.reason.as_str()), (Code::Unavailable, "CLOCK_SKEWED"), "{status}");
    assert!(said.retry_after.is_some_and(|after| after > Duration::ZERO));
}

/// It stops deciding with the first commit that shows the clock wrong, says so, and goes on when it is right again.
/// Started with a wrong clock it decides nothing at all, on either side.
pub async fn stops_and_goes_on(env: Arc<Env>) -> Outcome {
    let mut log = ShiftedLog::create(&env).await?;
    let (database, url) = (env.database().await?, log.url.clone());
    let dir = tempfile::tempdir()?;
    let start = async || {
        let variables = [("SALDO__LOG__EMBEDDED_URL", url.as_str())];
        Saldo::start_with(dir.path(), &["--database-url", &database], &variables).await
    };
    let command_is = async |saldo: &Saldo, expected| {
        let what = format!("health {expected:?}");
        eventually(&what, || async { health(saldo, COMMAND).await.is_ok_and(|status| status == expected) }).await
    };
    let saldo = start().await?;
    let mut clients = saldo.clients().await?;
    command_is(&saldo, ServingStatus::Serving).await?;
    clients.command.open_account(open("1", "D-1")).await?;

    log.shift("1 hour").await?;
    // The commit that shows it is a commit.
    clients.command.open_account(open("1", "D-2")).await?;
    assert_skewed(&clients, "D-3").await;
    let switch = v1::SetSendingRequest { request_id: "on".into(), on: true };
    let refused = clients.catalog.set_sending(switch.clone()).await.expect_err("a wrong clock");
    assert_eq!(StatusDetails::of(&refused).reason, "CLOCK_SKEWED", "policies are decided by the same clock");
    command_is(&saldo, ServingStatus::NotServing).await?;
    assert_eq!(health(&saldo, "collections.v1.QueryService").await?, ServingStatus::Serving);
    assert_eq!(log.commits().await?, 2);

    log.shift("0").await?;
    command_is(&saldo, ServingStatus::Serving).await?;
    clients.command.open_account(open("1", "D-3")).await?;
    clients.catalog.set_sending(switch).await?;
    saldo.stop().await?;

    for ahead in ["-1 hour", "10 seconds"] {
        log.shift(ahead).await?;
        let saldo = start().await?;
        let clients = saldo.clients().await?;
        assert_skewed(&clients, "D-4").await;
        assert_eq!(log.commits().await?, 3, "nothing was appended for a client");
        log.shift("0").await?;
        command_is(&saldo, ServingStatus::Serving).await?;
        clients.clone().command.open_account(open("1", "D-3")).await?;
        assert_eq!(saldo.verify().await?["differences"].as_u64(), Some(0));
        saldo.stop().await?;
    }
    Ok(())
}
