//! Which build is in force, and how another one takes its place.
//!
//! `saldo.live` names the build. Its own table `models` names the read models in it, each with its version. A release that
//! wants another version of a model fills that model in a build beside the live one. The swap moves the tables of all other
//! models over in one transaction, and repoints the views.

use saldo_log::{acceptor::Position, genesis::Identity};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};

use super::{
    Declaration, Schema,
    batch::{CHECKPOINTS, ENGINE},
    build::all_models,
};
use crate::{DECLARATIONS, ReadModelError, tenants};

/// The form of what every build has besides its models.
pub(super) const FORMAT: i32 = ENGINE.version;

const BASE: &[&str] = &[
    "CREATE SCHEMA IF NOT EXISTS saldo",
    "CREATE TABLE IF NOT EXISTS saldo.live (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        number bigint NOT NULL,
        format int NOT NULL,
        epoch int NOT NULL DEFAULT 0)",
    // Columns that earlier releases did not have. Asked first, since altering waits for everybody.
    "DO $$ BEGIN
       IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'saldo.live'::regclass AND attname = 'format') THEN
         ALTER TABLE saldo.live ADD COLUMN format int NOT NULL DEFAULT 1;
       END IF;
       IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'saldo.live'::regclass AND attname = 'epoch') THEN
         ALTER TABLE saldo.live ADD COLUMN epoch int NOT NULL DEFAULT 0;
       END IF;
     END $$",
    "CREATE SEQUENCE IF NOT EXISTS saldo.builds",
    "CREATE TABLE IF NOT EXISTS saldo.rebuild (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        number bigint NOT NULL,
        format int NOT NULL)",
];

/// The role that may read `bi`.
const ROLE: &str = "
CREATE SCHEMA IF NOT EXISTS bi;
COMMENT ON SCHEMA bi IS 'Saldo for analysts: stable names; amounts in minor units beside their currency';
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'saldo_bi') THEN CREATE ROLE saldo_bi NOLOGIN; END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
";
const GRANTS: &str = "
GRANT USAGE ON SCHEMA bi TO saldo_bi;
GRANT SELECT ON ALL TABLES IN SCHEMA bi TO saldo_bi;
";
/// For the query service: which models stand still, and where.
const SERVED_MODELS: &str =
    "CREATE OR REPLACE VIEW saldo.models AS SELECT model, version, superseded_by, stood_at FROM {s}.models;\n";

/// Makes what is missing: the base, and a build with all models where there is none. A build that an earlier release made
/// stays in force: [`Schema::lacks`] says what must be made anew. Safe to run by several processes at once.
pub async fn ensure(pool: &PgPool, identity: &Identity) -> Result<Schema, ReadModelError> {
    let mut transaction = saldo_postgres::begin(pool).await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('saldo_readmodel'))").execute(&mut *transaction).await?;
    for statement in BASE.iter().chain(&tenants::TABLES) {
        sqlx::query(*statement).execute(&mut *transaction).await?;
    }
    let schema = match in_force(&mut transaction).await? {
        Some((number, FORMAT, epoch)) => Schema::open(&mut transaction, number, epoch).await?,
        Some((_, newer, _)) if newer > FORMAT => return Err(ReadModelError::Newer(newer)),
        Some((number, _, epoch)) => Schema::foreign(number, epoch),
        None => {
            let schema = Schema::create(&mut transaction, identity, &all_models()).await?;
            schema.index(&mut transaction).await?;
            point(&mut transaction, &schema).await?
        }
    };
    transaction.commit().await?;
    Ok(schema)
}

async fn in_force(connection: &mut PgConnection) -> Result<Option<(i64, i32, i32)>, ReadModelError> {
    Ok(sqlx::query_as("SELECT number, format, epoch FROM saldo.live").fetch_optional(connection).await?)
}

/// The build in force, if all of it is of this release's form. Unlike [`ensure`] it makes and changes nothing.
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
        Some(FORMAT) => {
            let schema = live(connection).await?;
            match schema.lacks().first() {
                Some(model) => Err(ReadModelError::OlderModel(model)),
                None => Ok(schema),
            }
        }
        Some(newer) if newer > FORMAT => Err(ReadModelError::Newer(newer)),
        Some(older) => Err(ReadModelError::Older(older)),
    }
}

/// The build in force.
pub async fn live(connection: &mut PgConnection) -> Result<Schema, ReadModelError> {
    match in_force(connection).await? {
        Some((number, FORMAT, epoch)) => Schema::open(connection, number, epoch).await,
        Some((number, _, epoch)) => Ok(Schema::foreign(number, epoch)),
        None => Err(ReadModelError::Damaged(0)),
    }
}

/// The build in force, which no other one replaces until the transaction ends.
pub async fn keep(transaction: &mut PgConnection) -> Result<Schema, ReadModelError> {
    sqlx::query("SELECT FROM saldo.live FOR SHARE").execute(&mut *transaction).await?;
    live(transaction).await
}

/// Which log the build in force was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeFrom {
    /// The log's id.
    pub log_id: [u8; 16],
    /// How far it was read, by partition.
    pub positions: Vec<Position>,
}

/// Which log the build in force was made from; `None` where there is no build. Unlike [`ensure`] it makes and changes nothing, and
/// takes a build of any form.
pub async fn made_from(connection: &mut PgConnection) -> Result<Option<MadeFrom>, ReadModelError> {
    let is_there: bool =
        sqlx::query_scalar("SELECT to_regclass('saldo.live') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !is_there {
        return Ok(None);
    }
    let number: Option<i64> =
        sqlx::query_scalar("SELECT number FROM saldo.live").fetch_optional(&mut *connection).await?;
    let Some(number) = number else { return Ok(None) };
    let statement = format!(
        "SELECT log_id, next_offset, last_hash FROM {}.checkpoints ORDER BY partition",
        Schema::name_of(number)
    );
    let rows: Vec<(Vec<u8>, i64, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(statement)).fetch_all(connection).await?;
    let Some((log_id, _, _)) = rows.first() else { return Ok(None) };
    let log_id = log_id.as_slice().try_into().map_err(|_| ReadModelError::Damaged(0))?;
    let position = |(partition, (_, next, hash)): (i32, &(Vec<u8>, i64, Vec<u8>))| match next {
        0 => Ok(Position { next: 0, last_hash: [0; 32] }),
        next => {
            let last_hash = hash.as_slice().try_into().map_err(|_| ReadModelError::Damaged(partition))?;
            Ok(Position { next: *next as u64, last_hash })
        }
    };
    let positions = (0..).zip(&rows).map(position).collect::<Result<_, ReadModelError>>()?;
    Ok(Some(MadeFrom { log_id, positions }))
}

/// Has everything that was read from the log made anew: a person has decided that the log goes on from an earlier state. The next
/// projector makes the read models, and scheduler and dispatcher make their tables.
pub async fn forget(pool: &PgPool) -> Result<(), ReadModelError> {
    let mut transaction = saldo_postgres::begin(pool).await?;
    for table in ["saldo.wakeups", "saldo.jobs"] {
        sqlx::query(AssertSqlSafe(format!("DROP TABLE IF EXISTS {table}"))).execute(&mut *transaction).await?;
    }
    for table in ["saldo.live", "saldo.rebuild"] {
        let is_there: bool =
            sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(table).fetch_one(&mut *transaction).await?;
        if is_there {
            sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut *transaction).await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}

impl Schema {
    /// Whether it is in force as it was read, and stays so until the transaction ends.
    pub async fn keep(&self, transaction: &mut PgConnection) -> Result<bool, ReadModelError> {
        let found = sqlx::query("SELECT FROM saldo.live WHERE number = $1 AND epoch = $2 FOR SHARE")
            .bind(self.as_number()?)
            .bind(self.epoch)
            .fetch_optional(transaction)
            .await?;
        Ok(found.is_some())
    }
}

/// Tells everyone who writes to the live build to begin anew, in the transaction that holds it.
pub async fn begin_anew(transaction: &mut PgConnection) -> Result<(), ReadModelError> {
    sqlx::query("UPDATE saldo.live SET epoch = epoch + 1").execute(transaction).await?;
    Ok(())
}

/// Puts a build in force: `bi` and the views of queries show it.
async fn point(transaction: &mut PgConnection, schema: &Schema) -> Result<Schema, ReadModelError> {
    let epoch: i32 = sqlx::query_scalar(
        "INSERT INTO saldo.live (number, format) VALUES ($1, $2)
         ON CONFLICT (one) DO UPDATE SET number = $1, format = $2, epoch = 0 RETURNING epoch",
    )
    .bind(schema.as_number()?)
    .bind(FORMAT)
    .fetch_one(&mut *transaction)
    .await?;
    let faces: String = std::iter::once(&&ENGINE).chain(DECLARATIONS).map(|one| Declaration::face(one)).collect();
    let sql = format!("{ROLE}{SERVED_MODELS}{}{}{faces}{GRANTS}", CHECKPOINTS.served(), tenants::FACE)
        .replace("{s}", schema.name());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(transaction).await?;
    Ok(Schema { epoch, ..schema.clone() })
}

/// The right to rebuild, until the connection is closed. `None` where somebody else has it.
pub async fn only_rebuild(pool: &PgPool) -> Result<Option<PgConnection>, ReadModelError> {
    let mut connection = pool.acquire().await?.detach();
    // A process that was killed a moment ago may still hold it.
    sqlx::query("SET lock_timeout = '10s'").execute(&mut connection).await?;
    let locked = sqlx::query("SELECT pg_advisory_lock(hashtext('saldo_rebuild'))").execute(&mut connection).await;
    match locked.map_err(ReadModelError::from) {
        Ok(_) => Ok(Some(connection)),
        Err(error) if error.is_lock_timeout() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The build in force, locked until the transaction ends, and the offsets behind its rows. There are no offsets where the build
/// is of another log, since a new build need not reach any.
pub async fn lock_live(
    transaction: &mut PgConnection,
    identity: &Identity,
) -> Result<(Schema, Option<Vec<u64>>), ReadModelError> {
    sqlx::query("SELECT FROM saldo.live FOR UPDATE").execute(&mut *transaction).await?;
    let live = live(transaction).await?;
    let standing = live.standing(transaction, identity, true).await?;
    Ok((live, standing))
}

/// Puts a build in force in place of the one that [`lock_live`] has locked in the same transaction. Models that the new build lacks
/// go over to it as they are; the caller has seen to it that both stand at the same place.
pub async fn replace(
    transaction: &mut Transaction<'static, Postgres>,
    former: &Schema,
    new: &Schema,
) -> Result<(), ReadModelError> {
    let whole = new.adopt(transaction, former).await?;
    point(transaction, &whole).await?;
    sqlx::query("DELETE FROM saldo.rebuild").execute(&mut **transaction).await?;
    Ok(())
}
