//! The tables of one build of the read models, and which build is in force.

use saldo_log::{
    acceptor::{Head, Position},
    genesis::Identity,
};
use sqlx::{PgConnection, PgExecutor, PgPool, Row};

use crate::{ReadModelError, bi};

/// Every table but the personal ones, whose values come from the key store and not from the log alone.
pub const COMPARED: [&str; 10] =
    ["checkpoints", "heads", "accounts", "agenda", "ledger", "items", "history", "reminders", "attempts", "parked"];

/// The form of the tables, raised whenever they or what stands in them changes. There is no migration: a database with an
/// earlier form gets a fresh build, filled from the log.
const FORMAT: i32 = 2;

/// One build: its schema's name, `rm_<n>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema(String);

impl Schema {
    /// The schema's name, safe to stand in SQL: nothing but `rm_` and digits, or `pg_temp`.
    pub fn name(&self) -> &str {
        &self.0
    }

    fn number(number: i64) -> Self {
        Self(format!("rm_{number}"))
    }
}

/// Where a build stands in one partition.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoint {
    /// The partition.
    pub partition: u32,
    /// `None` before the first record.
    pub position: Option<Position>,
    /// The running maximum of recorded_at so far.
    pub known_instant: Option<jiff::Timestamp>,
}

const BASE: &[&str] = &[
    "CREATE SCHEMA IF NOT EXISTS saldo",
    "CREATE TABLE IF NOT EXISTS saldo.live (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        number bigint NOT NULL,
        format int NOT NULL)",
    // Before there was a form to tell, it was the first; asked first, since altering waits for everybody.
    "DO $$ BEGIN
       IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'saldo.live'::regclass AND attname = 'format') THEN
         ALTER TABLE saldo.live ADD COLUMN format int NOT NULL DEFAULT 1;
       END IF;
     END $$",
    "CREATE SEQUENCE IF NOT EXISTS saldo.builds",
];

const TABLES: &str = "
CREATE SCHEMA {s};
CREATE TABLE {s}.checkpoints (
    partition int PRIMARY KEY, log_id bytea NOT NULL, next_offset bigint NOT NULL, last_hash bytea NOT NULL,
    known_instant timestamptz);
CREATE TABLE {s}.heads (key text COLLATE \"C\" PRIMARY KEY, partition int NOT NULL, hash bytea NOT NULL, version bigint NOT NULL);
CREATE TABLE {s}.accounts (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, version bigint NOT NULL,
    kind text, language text, time_zone text, country text, PRIMARY KEY (tenant, account));
CREATE TABLE {s}.agenda (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, wakeup_at timestamptz,
    account_version bigint NOT NULL, catalog_version bigint NOT NULL, partition int NOT NULL,
    record_offset bigint NOT NULL, PRIMARY KEY (tenant, account));
CREATE INDEX ON {s}.agenda (partition, record_offset);
CREATE TABLE {s}.ledger (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, currency char(3) NOT NULL,
    decimals smallint NOT NULL, kind text NOT NULL, document text NOT NULL, instalment int NOT NULL,
    due_date date, effective_date date NOT NULL, known_at timestamptz NOT NULL, amount_minor bigint NOT NULL,
    partition int NOT NULL, record_offset bigint NOT NULL, line int NOT NULL,
    PRIMARY KEY (partition, record_offset, line));
CREATE INDEX ON {s}.ledger (tenant, account);
CREATE TABLE {s}.items (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, kind text NOT NULL, document text NOT NULL,
    instalment int NOT NULL, currency char(3) NOT NULL, decimals smallint NOT NULL, issue_date date NOT NULL,
    due_date date, original_minor bigint NOT NULL, open_minor bigint NOT NULL,
    PRIMARY KEY (tenant, account, kind, document, instalment));
CREATE INDEX ON {s}.items (tenant, account) WHERE open_minor <> 0;
CREATE TABLE {s}.history (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, version bigint NOT NULL, index int NOT NULL,
    type text NOT NULL, effective_date date, recorded_at timestamptz NOT NULL, known_at timestamptz NOT NULL,
    actor text NOT NULL, summary text NOT NULL, partition int NOT NULL, record_offset bigint NOT NULL,
    PRIMARY KEY (tenant, account, version, index));
CREATE TABLE {s}.reminders (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, reminder bigint NOT NULL,
    step text NOT NULL, tone text NOT NULL, channel text NOT NULL, template text NOT NULL, due_at timestamptz NOT NULL,
    retry_of bigint, status text NOT NULL, reason text, ready_at timestamptz, until timestamptz, attempts int NOT NULL,
    changed_at timestamptz NOT NULL, needs_person bool NOT NULL, version bigint NOT NULL, partition int NOT NULL,
    record_offset bigint NOT NULL, PRIMARY KEY (tenant, account, reminder));
CREATE INDEX ON {s}.reminders (ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX ON {s}.reminders (tenant, due_at, account, reminder);
CREATE INDEX ON {s}.reminders (tenant, due_at, account, reminder)
    WHERE needs_person OR status IN ('due', 'deferred', 'started');
CREATE TABLE {s}.attempts (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, reminder bigint NOT NULL,
    attempt int NOT NULL, step text NOT NULL, tone text NOT NULL, channel text NOT NULL, recipient bytea NOT NULL,
    template text NOT NULL, language text NOT NULL, policy_version bigint NOT NULL, started_at timestamptz NOT NULL,
    send_before timestamptz NOT NULL, status text NOT NULL, reason text, ended_at timestamptz, message_id text,
    message_sha256 bytea, partition int NOT NULL, record_offset bigint NOT NULL,
    PRIMARY KEY (tenant, account, reminder, attempt));
CREATE TABLE {s}.parked (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, parked_at timestamptz NOT NULL,
    reason text NOT NULL, PRIMARY KEY (tenant, account));
CREATE TABLE {s}.personal_names (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, display_name text,
    PRIMARY KEY (tenant, account));
CREATE TABLE {s}.personal_contact_points (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, position int NOT NULL,
    channel text NOT NULL, address text, PRIMARY KEY (tenant, account, position));
";

/// Makes what is missing: the base, a build of this release's form, and `bi`. Safe to run by several processes at once.
pub async fn ensure(pool: &PgPool, identity: &Identity) -> Result<Schema, ReadModelError> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('saldo_readmodel'))").execute(&mut *transaction).await?;
    for statement in BASE {
        sqlx::query(*statement).execute(&mut *transaction).await?;
    }
    let format: Option<i32> =
        sqlx::query_scalar("SELECT format FROM saldo.live").fetch_optional(&mut *transaction).await?;
    let standing = current(&mut transaction).await?;
    let schema = match (standing, format) {
        (Some(schema), Some(FORMAT)) => schema,
        // An older release must not throw away what a newer one made, nor the two of them take turns at it.
        (Some(_), Some(newer)) if newer > FORMAT => return Err(ReadModelError::Newer(newer)),
        (former, _) => {
            let schema = create(&mut transaction, identity).await?;
            point(&mut transaction, &schema).await?;
            if let Some(former) = former {
                former.remove(&mut *transaction).await?;
            }
            schema
        }
    };
    transaction.commit().await?;
    Ok(schema)
}

/// The build in force.
pub async fn live(connection: &mut PgConnection) -> Result<Schema, ReadModelError> {
    current(connection).await?.ok_or(ReadModelError::Damaged(0))
}

async fn current(connection: &mut PgConnection) -> Result<Option<Schema>, ReadModelError> {
    let number: Option<i64> =
        sqlx::query_scalar("SELECT number FROM saldo.live FOR SHARE").fetch_optional(connection).await?;
    Ok(number.map(Schema::number))
}

async fn create(connection: &mut PgConnection, identity: &Identity) -> Result<Schema, ReadModelError> {
    let number: i64 = sqlx::query_scalar("SELECT nextval('saldo.builds')").fetch_one(&mut *connection).await?;
    let schema = Schema::number(number);
    sqlx::raw_sql(sqlx::AssertSqlSafe(TABLES.replace("{s}", schema.name()))).execute(&mut *connection).await?;
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "INSERT INTO {}.checkpoints SELECT p, $1, 0, ''::bytea, NULL FROM generate_series(0, $2 - 1) p",
        schema.name()
    )))
    .bind(identity.log_id.as_slice())
    .bind(identity.partitions as i32)
    .execute(connection)
    .await?;
    Ok(schema)
}

async fn point(connection: &mut PgConnection, schema: &Schema) -> Result<(), ReadModelError> {
    let number: i64 = schema.name().trim_start_matches("rm_").parse().map_err(|_| ReadModelError::Damaged(0))?;
    sqlx::query(
        "INSERT INTO saldo.live (number, format) VALUES ($1, $2) ON CONFLICT (one) DO UPDATE SET number = $1, format = $2",
    )
    .bind(number)
    .bind(FORMAT)
    .execute(&mut *connection)
    .await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(bi::sql(schema.name()))).execute(connection).await?;
    Ok(())
}

impl Schema {
    /// An empty build beside the live one.
    pub async fn build(pool: &PgPool, identity: &Identity) -> Result<Self, ReadModelError> {
        let mut transaction = pool.begin().await?;
        let schema = create(&mut transaction, identity).await?;
        transaction.commit().await?;
        Ok(schema)
    }

    /// An empty build in temporary tables like this one's, gone with the transaction.
    pub async fn shadow(&self, transaction: &mut PgConnection) -> Result<Self, ReadModelError> {
        let live = self.name();
        for table in COMPARED.iter().chain(&["personal_names", "personal_contact_points"]) {
            let statement = format!("CREATE TEMP TABLE {table} (LIKE {live}.{table} INCLUDING ALL) ON COMMIT DROP");
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        }
        let statement = format!(
            "INSERT INTO pg_temp.checkpoints SELECT partition, log_id, 0, ''::bytea, NULL FROM {live}.checkpoints"
        );
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(transaction).await?;
        Ok(Self("pg_temp".to_owned()))
    }

    /// Rows of a table that stand in this build and not in `other`: how many, and up to `listed` of them as text.
    pub async fn rows_beyond(
        &self,
        connection: &mut PgConnection,
        other: &Self,
        table: &str,
        listed: usize,
    ) -> Result<(u64, Vec<String>), ReadModelError> {
        let beyond = format!("SELECT * FROM {}.{table} EXCEPT ALL SELECT * FROM {}.{table}", self.name(), other.name());
        let count = format!("SELECT count(*) FROM ({beyond}) AS b");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&mut *connection).await?;
        if count == 0 {
            return Ok((0, Vec::new()));
        }
        let list = format!("SELECT b::text FROM ({beyond}) AS b ORDER BY 1 LIMIT {listed}");
        Ok((count as u64, sqlx::query_scalar(sqlx::AssertSqlSafe(list)).fetch_all(connection).await?))
    }

    /// Removes a build.
    pub async fn remove(&self, database: impl PgExecutor<'_>) -> Result<(), ReadModelError> {
        let statement = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.name());
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(database).await?;
        Ok(())
    }

    /// Where the build stands, by partition; with `lock`, until the transaction ends.
    pub async fn checkpoints(
        &self,
        connection: &mut PgConnection,
        identity: &Identity,
        lock: bool,
    ) -> Result<Vec<Checkpoint>, ReadModelError> {
        let suffix = if lock { "FOR UPDATE" } else { "" };
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT partition, log_id, next_offset, last_hash, known_instant FROM {}.checkpoints ORDER BY partition {suffix}",
            self.name()
        )))
        .fetch_all(connection)
        .await?;
        if rows.len() != identity.partitions as usize {
            return Err(ReadModelError::OtherLog);
        }
        rows.into_iter()
            .map(|row| {
                let partition: i32 = row.try_get(0)?;
                if row.try_get::<Vec<u8>, _>(1)? != identity.log_id {
                    return Err(ReadModelError::OtherLog);
                }
                let next = row.try_get::<i64, _>(2)? as u64;
                let position = match next {
                    0 => None,
                    next => {
                        let last_hash: Vec<u8> = row.try_get(3)?;
                        let last_hash = last_hash.try_into().map_err(|_| ReadModelError::Damaged(partition))?;
                        Some(Position { next, last_hash })
                    }
                };
                let known_instant = row.try_get::<Option<jiff_sqlx::Timestamp>, _>(4)?.map(|at| at.to_jiff());
                Ok(Checkpoint { partition: partition as u32, position, known_instant })
            })
            .collect()
    }

    /// Every account's head.
    pub async fn heads(&self, connection: &mut PgConnection) -> Result<Vec<(u32, Box<str>, Head)>, ReadModelError> {
        let statement = format!("SELECT partition, key, hash, version FROM {}.heads", self.name());
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_all(connection).await?;
        rows.into_iter()
            .map(|row| {
                let partition: i32 = row.try_get(0)?;
                let hash: Vec<u8> = row.try_get(2)?;
                let hash = hash.try_into().map_err(|_| ReadModelError::Damaged(partition))?;
                let head = Head { hash, version: row.try_get::<i64, _>(3)? as u64 };
                Ok((partition as u32, row.try_get::<String, _>(1)?.into(), head))
            })
            .collect()
    }

    /// Accounts that stand still.
    pub async fn parked(&self, connection: &mut PgConnection) -> Result<Vec<(String, String)>, ReadModelError> {
        let statement = format!("SELECT tenant, account FROM {}.parked", self.name());
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_all(connection).await?;
        rows.into_iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

/// Puts `new` in force if it has reached the live build everywhere. Returns the build it replaced, or `None` where it
/// has to catch up first.
pub async fn swap(pool: &PgPool, identity: &Identity, new: &Schema) -> Result<Option<Schema>, ReadModelError> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SELECT FROM saldo.live FOR UPDATE").execute(&mut *transaction).await?;
    let old = live(&mut transaction).await?;
    let next = |checkpoint: &Checkpoint| checkpoint.position.map_or(0, |position| position.next);
    // A live build of another log has nothing that the new one must reach.
    let standing = old.checkpoints(&mut transaction, identity, true).await.unwrap_or_default();
    let reached = new.checkpoints(&mut transaction, identity, false).await?;
    if standing.iter().zip(&reached).any(|(old, new)| next(new) < next(old)) {
        return Ok(None);
    }
    point(&mut transaction, new).await?;
    transaction.commit().await?;
    Ok(Some(old))
}
