//! The projector against a bare batched UNNEST insert of the same rows.

use std::time::Instant;

use sqlx::{AssertSqlSafe, Row};

use super::Failure;
use crate::{progress, system::System};

/// Rows of one transaction, as the projector has records.
const BATCH: usize = 5_000;

/// What a rebuild writes, in an order near the one it writes it in.
const TABLES: [(&str, &str); 5] = [
    ("ledger", "partition, record_offset, line"),
    ("history", "partition, record_offset, index"),
    ("items", "tenant, account, kind, document"),
    ("heads", "key"),
    ("accounts", "tenant, account"),
];

/// A rebuild, and bare inserts of what it wrote; all of it a second.
pub struct Compared {
    /// Events of a rebuild.
    pub events: u64,
    /// Rows of a rebuild.
    pub rows: u64,
    /// Rows of the inserts.
    pub inserts: u64,
}

/// Rebuilds, then inserts the same rows.
pub async fn compare(system: &System) -> Result<Compared, Failure> {
    let stores = &system.stores;
    let pool = &stores.database()?.pool;
    let keyring = system.keyring.as_ref().ok_or("no key store")?;
    let bar = progress::records("rebuilding");
    let started = Instant::now();
    let rebuild = saldo_projector::rebuild(stores.log.as_ref(), &system.identity, pool, keyring, |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    let rebuild = rebuild.await;
    let rebuilt = started.elapsed();
    bar.finish_and_clear();
    rebuild?;
    let bar = progress::spinner("inserting the same rows");
    let number: i64 = sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(pool).await?;
    sqlx::raw_sql("DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench").execute(pool).await?;
    let (mut rows, mut events) = (0u64, 0u64);
    let mut inserted = std::time::Duration::ZERO;
    for (table, key) in TABLES {
        let create = format!("CREATE TABLE bench.{table} (LIKE rm_{number}.{table} INCLUDING ALL)");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(pool).await?;
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
        let read = format!("SELECT {} FROM rm_{number}.{table} ORDER BY {key}", texts.join(", "));
        let insert = format!(
            "INSERT INTO bench.{table} SELECT {} FROM unnest({}) AS r({})",
            casts.join(", "),
            arrays.join(", "),
            names.join(", ")
        );
        let found = sqlx::query(AssertSqlSafe(read)).fetch_all(pool).await?;
        rows += found.len() as u64;
        if table == "history" {
            events = found.len() as u64;
        }
        for batch in found.chunks(BATCH) {
            let mut arrays: Vec<Vec<Option<String>>> = vec![Vec::with_capacity(batch.len()); columns.len()];
            for row in batch {
                for (index, array) in arrays.iter_mut().enumerate() {
                    array.push(row.try_get(index)?);
                }
            }
            let started = Instant::now();
            let mut query = sqlx::query(AssertSqlSafe(insert.clone()));
            for array in arrays {
                query = query.bind(array);
            }
            query.execute(pool).await?;
            inserted += started.elapsed();
        }
    }
    sqlx::raw_sql("DROP SCHEMA bench CASCADE").execute(pool).await?;
    bar.finish_and_clear();
    let per_second =
        |count: u64, time: std::time::Duration| (u128::from(count) * 1_000_000 / time.as_micros().max(1)) as u64;
    Ok(Compared {
        events: per_second(events, rebuilt),
        rows: per_second(rows, rebuilt),
        inserts: per_second(rows, inserted),
    })
}
