//! The same in Postgres.

use saldo_log::{acceptor::Position, genesis::Identity, keys::LogKeys};
use saldo_readmodel::{Accepted, Applied, Move, Opened, Rows, Schema, apply, ensure};
use saldo_test_postgres::{Failure, Outcome};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use crate::{stories, story::Story};

pub const IDENTITY: Identity = Identity { log_id: [1; 16], partitions: 1, keys: LogKeys::NONE };

/// Every story's commits in one log, turn by turn: which story, and which commit of it.
pub fn log(stories: &[Story]) -> Vec<(&Story, usize)> {
    let longest = stories.iter().map(|story| story.commits.len()).max().unwrap_or(0);
    let turn = |at| stories.iter().filter(move |story| at < story.commits.len()).map(move |story| (story, at));
    (0..longest).flat_map(turn).collect()
}

pub async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    log: &[(&Story, usize)],
    batch: std::ops::Range<usize>,
) -> Outcome {
    let mut rows = Rows::default();
    for (offset, (story, index)) in log.iter().enumerate().take(batch.end).skip(batch.start) {
        let trace = format!("the trace of {offset}");
        let (owner, position) = (story.owner(), story.position(*index, offset as u64));
        rows.add(&Accepted { owner: &owner, position, trace: Some(&trace), commit: &story.commits[*index] });
    }
    let to = Position { next: batch.end as u64, last_hash: [0; 32] };
    let moves = [Move { partition: 0, from: batch.start as u64, to, known_instant: None }];
    let applied = apply(connection, schema, &moves, &rows, &Opened::default()).await?;
    assert_eq!(applied, Applied::Yes);
    Ok(())
}

pub async fn cut_anywhere(pool: PgPool) -> Outcome {
    let stories: Vec<Story> = stories::all().into_iter().map(|(story, _)| story).collect();
    let log = log(&stories);
    let live = ensure(&pool, &IDENTITY).await?;
    write(&mut *pool.acquire().await?, &live, &log, 0..log.len()).await?;
    let in_two = (1..log.len()).map(|cut| vec![0..cut, cut..log.len()]);
    let one_by_one = (0..log.len()).map(|at| at..at + 1).collect();
    for batches in in_two.chain([one_by_one]) {
        let mut transaction = pool.begin().await?;
        let shadow = live.shadow(&mut transaction).await?;
        for batch in batches.iter().cloned() {
            write(&mut transaction, &shadow, &log, batch).await?;
        }
        for table in shadow.compared(&live) {
            let beyond = shadow.rows_beyond(&mut transaction, &live, table, 10).await?;
            let missing = live.rows_beyond(&mut transaction, &shadow, table, 10).await?;
            assert_eq!((beyond, missing), ((0, vec![]), (0, vec![])), "{table} in {batches:?}");
        }
        transaction.rollback().await?;
    }
    Ok(())
}

async fn texts(pool: &PgPool, query: &str) -> Result<Vec<String>, Failure> {
    Ok(sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_all(pool).await?)
}

pub async fn public_face(pool: PgPool) -> Outcome {
    let stories: Vec<Story> = stories::all().into_iter().map(|(story, _)| story).collect();
    let log = log(&stories);
    let live = ensure(&pool, &IDENTITY).await?;
    write(&mut *pool.acquire().await?, &live, &log, 0..log.len()).await?;
    let rows = "SELECT concat_ws(' ', reminder, attempt, status, reason, left(recipient, 4), policy_version)
                FROM bi.contact_attempts WHERE account = ";
    assert_eq!(
        texts(&pool, &format!("{rows} 'settled' ORDER BY reminder, attempt")).await?,
        ["1 0 withheld settled", "2 1 started 0707 7"]
    );
    assert_eq!(
        texts(&pool, "SELECT concat_ws(' ', reason, reminders) FROM bi.withheld_by_reason ORDER BY 1").await?,
        ["dropped 2", "held 8", "no_contact_point 2", "nothing_owed 1", "sending_off 1", "settled 3"]
    );
    assert_eq!(
        texts(&pool, "SELECT concat_ws(' ', step, status, reminders) FROM bi.reminders_by_step ORDER BY 1").await?,
        [
            "first started 1",
            "second accepted 6",
            "second deferred 1",
            "second due 2",
            "second rejected 8",
            "second started 2",
            "second unknown 3",
            "second withheld 17",
        ]
    );
    let bare = texts(
        &pool,
        "SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'bi'::regnamespace AND a.attnum > 0 AND col_description(c.oid, a.attnum) IS NULL",
    )
    .await?;
    assert_eq!(bare, [""; 0], "columns without a comment");
    let mut connection = pool.acquire().await?;
    sqlx::query("SET ROLE saldo_bi").execute(&mut *connection).await?;
    for view in ["reminders", "contact_attempts", "reminders_by_step", "withheld_by_reason"] {
        let found = sqlx::query(AssertSqlSafe(format!("SELECT FROM bi.{view}"))).fetch_all(&mut *connection).await?;
        assert!(!found.is_empty(), "{view} is for analysts");
    }
    Ok(())
}

/// Tables of an older release stay in force until all of them stand beside, made anew. Tables of a newer release are left
/// alone.
pub async fn formats(pool: PgPool) -> Outcome {
    let builds = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'rm\\_%'";
    let first = ensure(&pool, &IDENTITY).await?;
    assert_eq!(ensure(&pool, &IDENTITY).await?, first, "nothing is made twice");
    let change = async |sql: &str| sqlx::raw_sql(AssertSqlSafe(sql.replace("{s}", first.name()))).execute(&pool).await;
    let lacks = async || ensure(&pool, &IDENTITY).await.map(|live| live.lacks().into_iter().collect::<Vec<_>>());
    change("UPDATE {s}.models SET version = version - 1 WHERE model = 'ledger'").await?;
    change("DELETE FROM {s}.models WHERE model = 'agenda'").await?;
    assert_eq!(lacks().await?, ["agenda", "ledger"]);
    change("UPDATE {s}.models SET superseded_by = version + 2 WHERE model = 'ledger'").await?;
    let refused = lacks().await.expect_err("a newer release is making it anew");
    assert!(refused.to_string().contains("`ledger` has the form of a newer release"), "{refused}");
    change("UPDATE {s}.models SET model = 'unheard_of' WHERE model = 'ledger'").await?;
    lacks().await.expect_err("a newer release has a model that this one would not go on with");
    // As a release before there was a form to tell left it.
    change("ALTER TABLE saldo.live DROP COLUMN format, DROP COLUMN epoch; DROP TABLE {s}.models CASCADE").await?;
    let older = ensure(&pool, &IDENTITY).await?;
    assert_eq!((older.name(), older.lacks()), (first.name(), saldo_readmodel::all_models()));
    change("UPDATE saldo.live SET format = 1000").await?;
    let refused = ensure(&pool, &IDENTITY).await.expect_err("the tables are of a newer release");
    assert!(refused.to_string().contains("newer release"), "{refused}");
    assert_eq!(texts(&pool, builds).await?, [first.name()]);
    Ok(())
}

/// A caller that stops waiting for a transaction to begin leaves none open on a connection of the pool.
pub async fn cancelled(pool: PgPool) -> Outcome {
    let some_time = async |microseconds| {
        let begun = std::time::Instant::now();
        while begun.elapsed().as_micros() < microseconds {
            tokio::task::yield_now().await;
        }
    };
    let mut watch = PgConnection::connect_with(&pool.connect_options()).await?;
    for turns in 0..400 {
        // One connection is ready; a wait that ends before it is checked throws it away.
        sqlx::query("SELECT 1").execute(&pool).await?;
        tokio::select! {
            biased;
            begun = saldo_postgres::begin(&pool) => drop(begun?),
            () = some_time(turns * 10) => {}
        }
        let open = "SELECT count(*) FROM pg_stat_activity
                    WHERE state = 'idle in transaction' AND datname = current_database()";
        let mut looks = 0;
        while sqlx::query_scalar::<_, i64>(open).fetch_one(&mut watch).await? > 0 {
            looks += 1;
            assert!(looks < 100, "a transaction is left open after {turns}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// A process under a clock of its own says so again and again. Once it is gone, `bi` goes by the database's clock.
pub async fn clock(pool: PgPool) -> Outcome {
    ensure(&pool, &IDENTITY).await?;
    let ahead = async || -> Result<i64, Failure> {
        let hours = "SELECT round(extract(epoch FROM now - clock_timestamp()) / 3600)::bigint FROM bi.clock";
        Ok(sqlx::query_scalar(hours).fetch_one(&pool).await?)
    };
    assert_eq!(ahead().await?, 0);
    saldo_readmodel::write_clock(&pool, jiff::SignedDuration::from_hours(240)).await?;
    assert_eq!(ahead().await?, 240);
    sqlx::query("UPDATE saldo.clock SET said_at = said_at - interval '1 minute'").execute(&pool).await?;
    assert_eq!(ahead().await?, 0);
    // As an earlier release had made it: its lead stood for ever.
    sqlx::raw_sql(
        "CREATE OR REPLACE VIEW bi.clock AS SELECT present AS now, (present AT TIME ZONE 'UTC')::date AS today
         FROM (SELECT now() + (SELECT ahead FROM saldo.clock) AS present) AS clock;
         ALTER TABLE saldo.clock DROP COLUMN said_at",
    )
    .execute(&pool)
    .await?;
    assert_eq!(ahead().await?, 240);
    ensure(&pool, &IDENTITY).await?;
    assert_eq!(ahead().await?, 0);
    Ok(())
}
