//! `saldo.wakeups` on a real Postgres.

use std::process::ExitCode;

use saldo_facts::CatalogVersions;
use saldo_log::{genesis::Identity, keys::LogKeys};
use saldo_scheduler::{
    SchedulerError,
    wakeups::{self, Answer, Chain, Checkpoint, Key, Update},
};
use saldo_test_postgres::{Database, Outcome, on_a_database};
use sqlx::{AssertSqlSafe, PgPool};

const IDENTITY: Identity = Identity { log_id: [1; 16], partitions: 1, keys: LogKeys::NONE };
const ACCOUNTS: i64 = 1_500;
const ROUNDS: u64 = 12;

fn main() -> ExitCode {
    saldo_test_postgres::main([on_a_database(
        "o9_agenda_and_answers_never_wait_for_each_other_and_older_answers_are_found",
        all,
    )])
}

async fn all(database: Database) -> Outcome {
    let pool = PgPool::connect(&database.url).await?;
    let outcome = async {
        agenda_and_answers(&pool).await?;
        older_answers(&pool).await
    };
    let outcome = outcome.await;
    pool.close().await;
    outcome
}

/// The agenda has the accounts in the order of the log, which is not that of their keys. Two schedulers take it over and
/// write answers about the same accounts, all at once: what one scheduler does beside itself, and what two do while the
/// second one takes over.
async fn agenda_and_answers(pool: &PgPool) -> Outcome {
    let schema = saldo_readmodel::ensure(pool, &IDENTITY).await?;
    wakeups::ensure(pool).await?;
    for round in 1..=ROUNDS {
        let agenda = format!(
            "INSERT INTO {}.agenda (tenant, account, wakeup_at, account_version, catalog_version, system_version, partition,
                                    record_offset)
             SELECT 'acme', 'D-' || n, now(), {round}, 1, 1, 0,
                    {round} * 1000000 + row_number() OVER (ORDER BY md5(n || '{round}'))
             FROM generate_series(1, {ACCOUNTS}) n
             ON CONFLICT (tenant, account) DO UPDATE SET account_version = excluded.account_version,
                 record_offset = excluded.record_offset",
            schema.name()
        );
        sqlx::query(AssertSqlSafe(agenda)).execute(pool).await?;
        let (mut one, mut other) = (Checkpoint::default(), Checkpoint::default());
        let (one, other, first, second) = tokio::join!(
            wakeups::sync(pool, &mut one),
            wakeups::sync(pool, &mut other),
            wakeups::write(pool, answers(round)),
            wakeups::write(pool, answers(round)),
        );
        one?;
        other?;
        assert_eq!((first?.len(), second?.len()), (ACCOUNTS as usize, ACCOUNTS as usize));
    }
    let newest = "SELECT count(*) FROM saldo.wakeups WHERE account_version = $1";
    let newest: i64 = sqlx::query_scalar(newest).bind(ROUNDS as i64).fetch_one(pool).await?;
    assert_eq!(newest, ACCOUNTS, "every account has its newest version");
    Ok(())
}

/// Accounts whose answer is older than either chain of the catalog are found: the creditor's where it has published, the
/// operator's for every creditor.
async fn older_answers(pool: &PgPool) -> Outcome {
    let rows = "INSERT INTO saldo.wakeups (tenant, account, account_version, catalog_version, system_version)
                VALUES ('quiet', 'D-1', 1, 0, 1), ('quiet', 'D-2', 1, 0, 2), ('zeta', 'D-1', 1, 4, 2)";
    sqlx::query(rows).execute(pool).await?;
    let published = [("acme".to_owned(), 1), ("zeta".to_owned(), 5)];
    let behind = wakeups::tenants_behind(pool, &published, 2).await?;
    let found: Vec<_> = behind.iter().map(|one| (one.tenant.as_str(), one.chain, one.version)).collect();
    assert_eq!(found, [("zeta", Chain::Tenant, 5), ("acme", Chain::System, 2), ("quiet", Chain::System, 2)]);
    let quiet = wakeups::behind(pool, &behind[2], &(-1, String::new()), 10).await?;
    assert_eq!(quiet, [(1, "D-1".to_owned())], "the other account is up to date");
    assert!(wakeups::tenants_behind(pool, &[], 1).await?.is_empty());
    // An earlier release's agenda is named as the reason.
    let build: i64 = sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(pool).await?;
    let earlier = format!("ALTER TABLE rm_{build}.agenda DROP COLUMN system_version CASCADE");
    sqlx::query(AssertSqlSafe(earlier)).execute(pool).await?;
    let error = wakeups::sync(pool, &mut Checkpoint::default()).await.expect_err("a column is missing");
    assert!(matches!(SchedulerError::from(error), SchedulerError::NoAgenda(_)));
    Ok(())
}

/// An answer about every account; every third could not be woken.
fn answers(round: u64) -> Vec<(Key, Update)> {
    let answer = |number: i64| {
        let key = Key { tenant: "acme".into(), account: format!("D-{number}") };
        let update = match number % 3 {
            0 => Update::NotBefore(jiff::Timestamp::UNIX_EPOCH),
            _ => Update::Answered(Answer {
                wakeup_at: None,
                account_version: round,
                catalog: CatalogVersions { tenant: 1, system: 1 },
            }),
        };
        (key, update)
    };
    (1..=ACCOUNTS).rev().map(answer).collect()
}
