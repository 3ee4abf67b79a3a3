//! The tables of one build of the read models, and which build is in force.

use saldo_log::{
    acceptor::{Head, Position},
    genesis::Identity,
};
use sqlx::{PgConnection, PgExecutor, PgPool, Row};

use crate::{ReadModelError, bi, tenants};

/// Every table but the personal ones, whose values come from the key store and not from the log alone.
pub const COMPARED: [&str; 10] =
    ["checkpoints", "heads", "accounts", "agenda", "ledger", "items", "history", "reminders", "attempts", "parked"];

/// The tables of personal data: what a row is about, and its value.
const PERSONAL: [(&str, &str, &str); 2] = [
    ("personal_names", "tenant, account", "display_name"),
    ("personal_contact_points", "tenant, account, position, channel", "address"),
];

/// Tables that nothing is ever looked up in while a build is filled: their rows only come.
const ONLY_GROW: [&str; 2] = ["ledger", "history"];

/// The form of the tables, raised whenever they or what stands in them changes. There is no migration: a database with an
/// earlier form gets a fresh build, filled from the log.
const FORMAT: i32 = 5;

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
    "CREATE TABLE IF NOT EXISTS saldo.rebuild (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        number bigint NOT NULL,
        format int NOT NULL)",
];

/// Tables with one row an account leave half of each page free: every commit of the account changes the row, and a new
/// version on the same page needs no new index entry.
const TABLES: &str = "
CREATE SCHEMA {s};
CREATE TABLE {s}.checkpoints (
    partition int PRIMARY KEY, log_id bytea NOT NULL, next_offset bigint NOT NULL, last_hash bytea NOT NULL,
    known_instant timestamptz);
CREATE TABLE {s}.heads (key text COLLATE \"C\" PRIMARY KEY, partition int NOT NULL, hash bytea NOT NULL, version bigint NOT NULL)
    WITH (fillfactor = 50);
CREATE TABLE {s}.accounts (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, version bigint NOT NULL,
    kind text, language text, time_zone text, country text, PRIMARY KEY (tenant, account))
    WITH (fillfactor = 50);
CREATE TABLE {s}.agenda (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, wakeup_at timestamptz,
    account_version bigint NOT NULL, catalog_version bigint NOT NULL, system_version bigint NOT NULL, partition int NOT NULL,
    record_offset bigint NOT NULL, PRIMARY KEY (tenant, account))
    WITH (fillfactor = 50);
CREATE TABLE {s}.ledger (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, currency char(3) NOT NULL,
    decimals smallint NOT NULL, kind text NOT NULL, document text NOT NULL, instalment int NOT NULL,
    due_date date, effective_date date NOT NULL, known_at timestamptz NOT NULL, amount_minor bigint NOT NULL,
    partition int NOT NULL, record_offset bigint NOT NULL, line int NOT NULL);
CREATE TABLE {s}.items (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, kind text NOT NULL, document text NOT NULL,
    instalment int NOT NULL, currency char(3) NOT NULL, decimals smallint NOT NULL, issue_date date NOT NULL,
    due_date date, original_minor bigint NOT NULL, open_minor bigint NOT NULL,
    PRIMARY KEY (tenant, account, kind, document, instalment));
CREATE TABLE {s}.history (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, version bigint NOT NULL, index int NOT NULL,
    type text NOT NULL, effective_date date, recorded_at timestamptz NOT NULL, known_at timestamptz NOT NULL,
    actor text NOT NULL, summary text NOT NULL, partition int NOT NULL, record_offset bigint NOT NULL);
CREATE TABLE {s}.reminders (
    tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, reminder bigint NOT NULL,
    step text NOT NULL, tone text NOT NULL, channel text NOT NULL, template text NOT NULL, due_at timestamptz NOT NULL,
    retry_of bigint, status text NOT NULL, reason text, ready_at timestamptz, until timestamptz, attempts int NOT NULL,
    changed_at timestamptz NOT NULL, needs_person bool NOT NULL, version bigint NOT NULL, partition int NOT NULL,
    record_offset bigint NOT NULL, trace text, PRIMARY KEY (tenant, account, reminder));
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

/// What serves readers and guards single rows, and would only hold up the filling.
const INDEXES: &str = "
ALTER TABLE {s}.ledger ADD PRIMARY KEY (partition, record_offset, line);
ALTER TABLE {s}.history ADD PRIMARY KEY (tenant, account, version, index);
CREATE INDEX ON {s}.ledger (tenant, account);
CREATE INDEX ON {s}.ledger USING brin (effective_date, known_at) WITH (autosummarize = on);
CREATE INDEX ON {s}.agenda (partition, record_offset);
CREATE INDEX ON {s}.items (tenant, account) WHERE open_minor <> 0;
CREATE INDEX ON {s}.reminders (ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX ON {s}.reminders (tenant, due_at, account, reminder);
CREATE INDEX ON {s}.reminders (tenant, due_at, account, reminder)
    WHERE needs_person OR status IN ('due', 'deferred', 'started');
";
/// Memory for the sorting behind one index.
const SORTING: &str = "SET LOCAL maintenance_work_mem = '256MB'";

/// Makes what is missing: the base, a build of this release's form, and `bi`. Safe to run by several processes at once.
pub async fn ensure(pool: &PgPool, identity: &Identity) -> Result<Schema, ReadModelError> {
    let (mut transaction, former) = begin(pool).await?;
    let schema = match former {
        Some((schema, FORMAT)) => schema,
        former => {
            let schema = create_live(&mut transaction, identity).await?;
            if let Some((former, _)) = former {
                former.remove(&mut *transaction).await?;
            }
            schema
        }
    };
    transaction.commit().await?;
    Ok(schema)
}

/// As [`ensure`], but a build of an earlier form stays in force, for a rebuild to replace. Whether the build in force is of
/// this release's form.
pub async fn ensure_any(pool: &PgPool, identity: &Identity) -> Result<bool, ReadModelError> {
    let (mut transaction, standing) = begin(pool).await?;
    if standing.is_none() {
        create_live(&mut transaction, identity).await?;
    }
    transaction.commit().await?;
    Ok(standing.is_none_or(|(_, format)| format == FORMAT))
}

/// Makes the base, alone at it until the transaction ends. The build in force and its form, which is no newer than this
/// release's: an older release must not throw away what a newer one made, nor the two of them take turns at it.
async fn begin(
    pool: &PgPool,
) -> Result<(sqlx::Transaction<'static, sqlx::Postgres>, Option<(Schema, i32)>), ReadModelError> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('saldo_readmodel'))").execute(&mut *transaction).await?;
    for statement in BASE.iter().chain(&tenants::TABLES) {
        sqlx::query(*statement).execute(&mut *transaction).await?;
    }
    let live: Option<(i64, i32)> =
        sqlx::query_as("SELECT number, format FROM saldo.live FOR SHARE").fetch_optional(&mut *transaction).await?;
    match live {
        Some((_, newer)) if newer > FORMAT => Err(ReadModelError::Newer(newer)),
        live => Ok((transaction, live.map(|(number, format)| (Schema::number(number), format)))),
    }
}

async fn create_live(connection: &mut PgConnection, identity: &Identity) -> Result<Schema, ReadModelError> {
    let schema = create(connection, identity).await?;
    schema.index(connection).await?;
    point(connection, &schema).await?;
    Ok(schema)
}

/// The build in force, if it is of this release's form. Unlike [`ensure`] it makes and changes nothing.
pub async fn existing(connection: &mut PgConnection) -> Result<Schema, ReadModelError> {
    let is_there: bool =
        sqlx::query_scalar("SELECT to_regclass('saldo.live') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !is_there {
        return Err(ReadModelError::Missing);
    }
    // Before there was a form to tell, it was the first.
    let format = "SELECT coalesce((to_jsonb(live) ->> 'format')::int, 1) FROM saldo.live AS live";
    match sqlx::query_scalar::<_, i32>(format).fetch_optional(&mut *connection).await? {
        None => Err(ReadModelError::Missing),
        Some(FORMAT) => live(connection).await,
        Some(newer) if newer > FORMAT => Err(ReadModelError::Newer(newer)),
        Some(older) => Err(ReadModelError::Older(older)),
    }
}

/// The build in force.
pub async fn live(connection: &mut PgConnection) -> Result<Schema, ReadModelError> {
    let number: Option<i64> =
        sqlx::query_scalar("SELECT number FROM saldo.live FOR SHARE").fetch_optional(connection).await?;
    number.map(Schema::number).ok_or(ReadModelError::Damaged(0))
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
    sqlx::query(
        "INSERT INTO saldo.live (number, format) VALUES ($1, $2) ON CONFLICT (one) DO UPDATE SET number = $1, format = $2",
    )
    .bind(schema.as_number()?)
    .bind(FORMAT)
    .execute(&mut *connection)
    .await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(bi::sql(schema.name()))).execute(connection).await?;
    Ok(())
}

impl Schema {
    /// The build beside the live one: where an earlier rebuild has left it, unless `fresh`, or else an empty one. What
    /// other builds were left behind is removed. Only one rebuild may be at it; see [`only_rebuild`].
    pub async fn build(pool: &PgPool, identity: &Identity, fresh: bool) -> Result<Self, ReadModelError> {
        let mut transaction = pool.begin().await?;
        let live = live(&mut transaction).await?;
        let begun: Option<(i64, i32)> =
            sqlx::query_as("SELECT number, format FROM saldo.rebuild").fetch_optional(&mut *transaction).await?;
        let builds: Vec<String> =
            sqlx::query_scalar("SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^rm_[0-9]+$'")
                .fetch_all(&mut *transaction)
                .await?;
        let mut left = None;
        for build in builds.into_iter().map(Self).filter(|build| *build != live) {
            let begun = begun.is_some_and(|(number, format)| build == Self::number(number) && format == FORMAT);
            if begun && !fresh && build.checkpoints(&mut transaction, identity, false).await.is_ok() {
                left = Some(build);
            } else {
                build.remove(&mut *transaction).await?;
            }
        }
        let schema = match left {
            Some(left) => left,
            None => {
                let schema = create(&mut transaction, identity).await?;
                sqlx::query(
                    "INSERT INTO saldo.rebuild (number, format) VALUES ($1, $2)
                     ON CONFLICT (one) DO UPDATE SET number = $1, format = $2",
                )
                .bind(schema.as_number()?)
                .bind(FORMAT)
                .execute(&mut *transaction)
                .await?;
                schema
            }
        };
        transaction.commit().await?;
        Ok(schema)
    }

    /// Makes the indexes that a build is filled without. Does nothing where it has them.
    pub async fn index(&self, transaction: &mut PgConnection) -> Result<(), ReadModelError> {
        let indexed: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_constraint WHERE contype = 'p' AND conrelid = ($1 || '.ledger')::regclass)",
        )
        .bind(self.name())
        .fetch_one(&mut *transaction)
        .await?;
        if !indexed {
            sqlx::query(SORTING).execute(&mut *transaction).await?;
            sqlx::raw_sql(sqlx::AssertSqlSafe(INDEXES.replace("{s}", self.name()))).execute(transaction).await?;
        }
        Ok(())
    }

    fn as_number(&self) -> Result<i64, ReadModelError> {
        self.name().trim_start_matches("rm_").parse().map_err(|_| ReadModelError::Damaged(0))
    }

    /// An empty build in temporary tables like this one's, gone with the transaction.
    pub async fn shadow(&self, transaction: &mut PgConnection) -> Result<Self, ReadModelError> {
        let live = self.name();
        for table in COMPARED.into_iter().chain(PERSONAL.map(|(table, ..)| table)) {
            let with = if ONLY_GROW.contains(&table) { "" } else { "INCLUDING ALL" };
            let statement = format!("CREATE TEMP TABLE {table} (LIKE {live}.{table} {with}) ON COMMIT DROP");
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        }
        let statement = format!(
            "INSERT INTO pg_temp.checkpoints SELECT partition, log_id, 0, ''::bytea, NULL FROM {live}.checkpoints"
        );
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(transaction).await?;
        Ok(Self("pg_temp".to_owned()))
    }

    /// Whether a table holds the same rows in both builds: as many, with the same digest of them all.
    pub async fn same_rows(
        &self,
        connection: &mut PgConnection,
        other: &Self,
        table: &str,
    ) -> Result<bool, ReadModelError> {
        let digest = |build: &Self| {
            format!("(SELECT (count(*), bit_xor(hash_record_extended(t, 0))) FROM {}.{table} t)", build.name())
        };
        let statement = format!("SELECT {} IS NOT DISTINCT FROM {}", digest(self), digest(other));
        Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_one(connection).await?)
    }

    /// Rows of personal data whose value in `other` is another one than here, or that stand in one of the two alone: the
    /// table of each, and whose it is. What is erased here says nothing about what stands there.
    pub async fn personal_differences(
        &self,
        connection: &mut PgConnection,
        other: &Self,
    ) -> Result<Vec<(&'static str, String)>, ReadModelError> {
        let mut found = Vec::new();
        for (table, key, value) in PERSONAL {
            let statement = format!(
                "SELECT tenant || '/' || account
                 FROM (SELECT {key}, {value}, true AS stands FROM {}.{table}) h
                 FULL JOIN (SELECT {key}, {value} AS there, true AS stands_there FROM {}.{table}) o USING ({key})
                 WHERE stands IS NULL OR stands_there IS NULL OR ({value} IS NOT NULL AND {value} IS DISTINCT FROM there)",
                self.name(),
                other.name()
            );
            let owners: Vec<String> =
                sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_all(&mut *connection).await?;
            found.extend(owners.into_iter().map(|owner| (table, owner)));
        }
        Ok(found)
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

    /// The offsets behind what the build has read, by partition; `None` where it is of another log.
    pub async fn standing(
        &self,
        connection: &mut PgConnection,
        identity: &Identity,
        lock: bool,
    ) -> Result<Option<Vec<u64>>, ReadModelError> {
        match self.checkpoints(connection, identity, lock).await {
            Ok(all) => Ok(Some(all.iter().map(|one| one.position.map_or(0, |position| position.next)).collect())),
            Err(ReadModelError::OtherLog) => Ok(None),
            Err(error) => Err(error),
        }
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

/// The right to rebuild, until the connection is closed. `None` where somebody else has it.
pub async fn only_rebuild(pool: &PgPool) -> Result<Option<PgConnection>, ReadModelError> {
    let mut connection = pool.acquire().await?.detach();
    // One that was killed a moment ago may still be on its way out.
    sqlx::query("SET lock_timeout = '10s'").execute(&mut connection).await?;
    match sqlx::query("SELECT pg_advisory_lock(hashtext('saldo_rebuild'))").execute(&mut connection).await {
        Ok(_) => Ok(Some(connection)),
        Err(error) if error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(LOCK_TIMEOUT)) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// SQLSTATE of a lock that was not given in time.
const LOCK_TIMEOUT: &str = "55P03";

/// The build in force, held still until the transaction ends, and the offsets behind what it has read; none where it is
/// of another log, with nothing that a new one must reach.
pub async fn hold(
    transaction: &mut PgConnection,
    identity: &Identity,
) -> Result<(Schema, Option<Vec<u64>>), ReadModelError> {
    sqlx::query("SELECT FROM saldo.live FOR UPDATE").execute(&mut *transaction).await?;
    let live = live(transaction).await?;
    let standing = live.standing(transaction, identity, true).await?;
    Ok((live, standing))
}

/// Puts a build in force, in the transaction that holds the former one.
pub async fn replace(transaction: &mut PgConnection, new: &Schema) -> Result<(), ReadModelError> {
    point(transaction, new).await?;
    sqlx::query("DELETE FROM saldo.rebuild").execute(transaction).await?;
    Ok(())
}
