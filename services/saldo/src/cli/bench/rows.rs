//! The read models against their floors, over the records that the command path has just made.
//!
//! - The live projector against bare UNNEST inserts of the same rows.
//! - A rebuild against a bare COPY of the rows.
//! - The check against a bare consumer.
//! - The time from acknowledged to visible.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anstream::println;
use futures::TryStreamExt;
use saldo_keyring::Keyring;
use saldo_log::ends;
use saldo_projector::Rebuild;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row, postgres::PgPoolCopyExt};

use super::{Failure, millis};
use crate::{
    cli::verify,
    client::Clients,
    run::{system::System, task::Task},
    terminal::{progress, table},
};

/// Rows of one insert.
const BATCH: usize = 5_000;
/// Records read from the log at once.
const READ: usize = 5_000;
/// Commands a second, and in all, while the time to visible is measured.
const PACE: u32 = 200;
const PACED: u32 = 2_000;
/// Accounts that get these commands, in turn.
const ACCOUNTS: usize = 1_000;
/// How often the tables are read. The measured times are tens of milliseconds.
const POLL: Duration = Duration::from_millis(5);

/// The tables, each with an order close to the order of its writes.
const TABLES: [(&str, &str); 8] = [
    ("ledger", "partition, record_offset, line"),
    ("history", "partition, record_offset, index"),
    ("items", "tenant, account, kind, document"),
    ("documents", "tenant, account, kind, document"),
    ("heads", "key"),
    ("accounts", "tenant, account"),
    ("agenda", "tenant, account"),
    ("personal_names", "tenant, account"),
];

pub async fn compare(system: &System, clients: &Clients) -> Result<(), Failure> {
    let stores = &system.stores;
    let pool = &stores.database()?.pool;
    let keys = system.keyring.as_ref().ok_or("no key store")?;
    let bar = progress::spinner("projecting");
    let records: u64 = ends(stores.log.as_ref(), &system.identity).await?.iter().sum();
    let begun = Instant::now();
    let mut projector = project(system, pool, keys);
    loop {
        let schema = live(pool).await?;
        let statement = format!("SELECT sum(next_offset)::bigint FROM {schema}.checkpoints");
        let done: i64 = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(pool).await?;
        if done.unsigned_abs() >= records {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    let projected = begun.elapsed();
    projector.stop(Duration::from_secs(10)).await?;

    bar.set_message("rebuilding");
    let (log, identity) = (stores.log.as_ref(), &system.identity);
    let begun = Instant::now();
    let rebuilt = saldo_projector::rebuild(log, identity, pool, keys, &Rebuild::default(), |_| {}).await?;
    let compared = begun.elapsed().saturating_sub(rebuilt.filling);

    bar.set_message("verifying");
    let begun = Instant::now();
    let report = saldo_projector::verify(log, identity, pool, Some(keys), verify::LONGEST_WAIT, |_| {}).await?;
    let verified = begun.elapsed();
    if !verify::equal(&report) || rebuilt.found.differences > 0 {
        return Err(format!("the read models do not equal the log: {}", verify::describe(&report)).into());
    }

    bar.set_message("bare consumer");
    let consumed = consume(system, records).await?;
    bar.set_message("bare inserts");
    let rows = Rows::read(pool).await?;
    let inserted = rows.insert(pool).await?;
    bar.set_message("bare COPY");
    let copied = rows.copy(pool).await?;
    sqlx::raw_sql("DROP SCHEMA bench CASCADE").execute(pool).await?;

    bar.set_message("acknowledged and visible");
    let mut projector = project(system, pool, keys);
    let (p50, p95) = visible(system, clients).await?;
    projector.stop(Duration::from_secs(10)).await?;
    bar.finish_and_clear();

    let line = |what: &str, count: u64, took: Duration, floor: &str, bare: Duration| {
        let share = format!("{} %", bare.as_micros() * 100 / took.as_micros().max(1));
        let rate = |time: Duration| per_second(count, time).to_string();
        vec![what.to_owned(), per_second(records, took).to_string(), rate(took), floor.to_owned(), rate(bare), share]
    };
    let lines = [
        line("live, in rows", rows.count, projected, "UNNEST", inserted),
        line("rebuild, in rows", rows.count, rebuilt.filling, "COPY and indexes", copied),
        line("verify, in records", records, verified, "bare consumer", consumed),
    ];
    println!(
        "Read models, {records} records, {} rows:\n{}",
        rows.count,
        table::plain(&["what", "records/s", "per second", "floor", "per second", "of the floor"], 1, lines)
    );
    println!("The rebuild compared its rows with the live ones in {} ms more.", compared.as_millis());
    println!(
        "At {PACE} commands a second, from acknowledged to visible in bi: p50 {} ms, p95 {} ms",
        millis(p50),
        millis(p95)
    );
    Ok(())
}

fn per_second(count: u64, time: Duration) -> u64 {
    (u128::from(count) * 1_000_000 / time.as_micros().max(1)) as u64
}

fn project(system: &System, pool: &PgPool, keys: &Keyring) -> Task {
    let (log, identity, pool, keys) = (system.stores.log.clone(), system.identity.clone(), pool.clone(), keys.clone());
    Task::spawn("projector", move |stop| saldo_projector::run(log, identity, pool, keys, stop))
}

async fn live(pool: &PgPool) -> Result<String, Failure> {
    Ok(sqlx::query_scalar("SELECT 'rm_' || number FROM saldo.live").fetch_one(pool).await?)
}

/// Reads all records and does nothing with them.
async fn consume(system: &System, records: u64) -> Result<Duration, Failure> {
    let from: Vec<(u32, u64)> = (0..system.identity.partitions).map(|partition| (partition, 0)).collect();
    let begun = Instant::now();
    let mut tail = system.stores.log.tail(&from).await?;
    let mut read = 0;
    while read < records {
        read += tail.next(READ).await?.len() as u64;
    }
    Ok(begun.elapsed())
}

/// Rows of one table as texts, column by column.
type Texts = Vec<Vec<Option<String>>>;

/// The rows of the live build.
struct Rows {
    schema: String,
    count: u64,
}

impl Rows {
    async fn read(pool: &PgPool) -> Result<Self, Failure> {
        let schema = live(pool).await?;
        let mut count = 0;
        for (table, _) in TABLES {
            let statement = format!("SELECT count(*) FROM {schema}.{table}");
            count += sqlx::query_scalar::<_, i64>(AssertSqlSafe(statement)).fetch_one(pool).await?.unsigned_abs();
        }
        Ok(Self { schema, count })
    }

    /// Makes empty tables with the same columns.
    async fn empty(&self, pool: &PgPool, with: &str) -> Result<(), Failure> {
        sqlx::raw_sql("DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench").execute(pool).await?;
        for (table, _) in TABLES {
            let create = format!("CREATE TABLE bench.{table} (LIKE {}.{table} {with})", self.schema);
            sqlx::raw_sql(AssertSqlSafe(create)).execute(pool).await?;
        }
        Ok(())
    }

    /// Inserts the rows by UNNEST into tables with their indexes, as a projector must.
    async fn insert(&self, pool: &PgPool) -> Result<Duration, Failure> {
        self.empty(pool, "INCLUDING ALL").await?;
        let mut took = Duration::ZERO;
        for (table, key) in TABLES {
            let columns: Vec<String> = sqlx::query_scalar(
                "SELECT attname::text || ':' || format_type(atttypid, NULL) FROM pg_attribute
                 WHERE attrelid = ('bench.' || $1)::regclass AND attnum > 0 ORDER BY attnum",
            )
            .bind(table)
            .fetch_all(pool)
            .await?;
            let columns: Vec<(&str, &str)> = columns.iter().filter_map(|column| column.split_once(':')).collect();
            let texts: Vec<String> = columns.iter().map(|(name, _)| format!("{name}::text")).collect();
            let casts: Vec<String> = columns.iter().map(|(name, kind)| format!("{name}::{kind}")).collect();
            let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            let arrays: Vec<String> = (1..=columns.len()).map(|number| format!("${number}::text[]")).collect();
            let read = format!("SELECT {} FROM {}.{table} ORDER BY {key}", texts.join(", "), self.schema);
            let insert = format!(
                "INSERT INTO bench.{table} SELECT {} FROM unnest({}) AS r({})",
                casts.join(", "),
                arrays.join(", "),
                names.join(", ")
            );
            let found = sqlx::query(AssertSqlSafe(read)).fetch_all(pool).await?;
            for batch in found.chunks(BATCH) {
                let mut arrays: Texts = vec![Vec::with_capacity(batch.len()); columns.len()];
                for row in batch {
                    for (index, array) in arrays.iter_mut().enumerate() {
                        array.push(row.try_get(index)?);
                    }
                }
                let begun = Instant::now();
                let mut query = sqlx::query(AssertSqlSafe(insert.clone()));
                for array in arrays {
                    query = query.bind(array);
                }
                query.execute(pool).await?;
                took += begun.elapsed();
            }
        }
        Ok(took)
    }

    /// Copies prepared rows into tables without indexes, and then builds the indexes.
    async fn copy(&self, pool: &PgPool) -> Result<Duration, Failure> {
        self.empty(pool, "").await?;
        let mut took = Duration::ZERO;
        for (table, key) in TABLES {
            let out = format!("COPY (SELECT * FROM {}.{table} ORDER BY {key}) TO STDOUT (FORMAT binary)", self.schema);
            let chunks: Vec<_> = pool.copy_out_raw(&out).await?.try_collect().await?;
            let bytes = chunks.concat();
            let begun = Instant::now();
            let mut copy = pool.copy_in_raw(&format!("COPY bench.{table} FROM STDIN (FORMAT binary)")).await?;
            copy.send(bytes).await?;
            copy.finish().await?;
            let mut connection = pool.acquire().await?;
            self.index(&mut connection, table).await?;
            took += begun.elapsed();
        }
        Ok(took)
    }

    async fn index(&self, connection: &mut PgConnection, table: &str) -> Result<(), Failure> {
        let indexes: Vec<String> =
            sqlx::query_scalar("SELECT indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename = $2")
                .bind(&self.schema)
                .bind(table)
                .fetch_all(&mut *connection)
                .await?;
        for index in indexes {
            let index = index.replace(&format!(" ON {}.", self.schema), " ON bench.");
            sqlx::raw_sql(AssertSqlSafe(index)).execute(&mut *connection).await?;
        }
        Ok(())
    }
}

/// Issues invoices at an even pace, and measures from each answer until an analyst sees the item.
async fn visible(system: &System, clients: &Clients) -> Result<(Duration, Duration), Failure> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PACE);
    let mut looks = tokio::time::interval(POLL);
    let mut commands = tokio::task::JoinSet::new();
    let (mut asked, mut waiting, mut times) = (0, HashMap::new(), Vec::new());
    while times.len() < PACED as usize {
        tokio::select! {
            _ = ticks.tick(), if asked < PACED => {
                let mut clients = clients.clone();
                let request = super::invoice(asked as usize % ACCOUNTS, usize::MAX, 0, asked.into());
                asked += 1;
                commands.spawn(async move {
                    let item = (request.account_id.clone(), request.number.clone());
                    clients.command.issue_invoice(request).await.map(|_| (item, Instant::now()))
                });
            }
            Some(answered) = commands.join_next() => {
                let (item, at) = answered??;
                waiting.insert(item, at);
            }
            _ = looks.tick(), if !waiting.is_empty() => {
                let (accounts, documents): (Vec<String>, Vec<String>) = waiting.keys().cloned().unzip();
                let seen: Vec<(String, String)> = sqlx::query_as(
                    "SELECT i.account, i.document FROM unnest($1::text[], $2::text[]) AS w(account, document)
                     JOIN bi.items i ON i.tenant = 'bench' AND i.account = w.account COLLATE \"C\"
                      AND i.document = w.document",
                )
                .bind(accounts)
                .bind(documents)
                .fetch_all(&system.stores.database()?.pool)
                .await?;
                times.extend(seen.iter().filter_map(|item| waiting.remove(item)).map(|at| at.elapsed()));
            }
        }
    }
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    Ok((at(50), at(95)))
}
