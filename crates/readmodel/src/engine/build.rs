//! One build: a schema of its own with the engine's tables and those of some models, or of all.

use std::collections::BTreeSet;

use saldo_log::{
    acceptor::{Head, Position},
    genesis::Identity,
};
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor, PgPool, Row};

use super::{
    Declaration, Table,
    batch::ENGINE,
    live::{FORMAT, live},
};
use crate::{DECLARATIONS, Owner, ReadModelError};

/// Names of models.
pub type Models = BTreeSet<&'static str>;

/// All of them.
pub fn all_models() -> Models {
    DECLARATIONS.iter().map(|one| one.name).collect()
}

/// Which models stand in a build, in which version.
///
/// A model that a newer release has superseded stands still: no batch is written to it any more. `stood_at` has the
/// offsets, by partition, behind what it holds. `indexed` tells whether the indexes for readers are made.
const MODELS: &str = "
CREATE TABLE {s}.models (
    model text PRIMARY KEY, version int NOT NULL, indexed bool NOT NULL DEFAULT false, superseded_by int,
    stood_at bigint[]);
";

/// Memory for the sorting behind one index.
const SORTING: &str = "SET LOCAL maintenance_work_mem = '256MB'";

/// A build, by its schema's name, `rm_<n>`, and the models in it that this release reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub(super) name: String,
    /// Raised when rows that stand have changed without a batch: whoever folds for this build must begin anew.
    pub(super) epoch: i32,
    pub(super) models: Models,
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

impl Schema {
    /// The schema's name, safe to stand in SQL: nothing but `rm_` and digits, or `pg_temp`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The models in it that are of this release's version.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// The models that are not in it, or only in an earlier version.
    pub fn lacks(&self) -> Models {
        all_models().difference(&self.models).copied().collect()
    }

    pub(super) fn name_of(number: i64) -> String {
        format!("rm_{number}")
    }

    pub(super) fn as_number(&self) -> Result<i64, ReadModelError> {
        self.name().trim_start_matches("rm_").parse().map_err(|_| ReadModelError::Damaged(0))
    }

    /// Whether an earlier release made it, in another form.
    pub fn is_foreign(&self) -> bool {
        self.models.is_empty()
    }

    /// A build of another form, of which nothing but its name and its checkpoints can be used.
    pub(super) fn foreign(number: i64, epoch: i32) -> Self {
        Self { name: Self::name_of(number), epoch, models: Models::new() }
    }

    /// A build of this release's form. Fails where a newer release has made or superseded a model in it: an older release
    /// must not throw away what a newer one made, nor the two of them take turns.
    pub(super) async fn open(connection: &mut PgConnection, number: i64, epoch: i32) -> Result<Self, ReadModelError> {
        let name = Self::name_of(number);
        let mut models = Models::new();
        let statement = format!("SELECT model, version, greatest(version, superseded_by) FROM {name}.models");
        let kept: Vec<(String, i32, i32)> = sqlx::query_as(AssertSqlSafe(statement)).fetch_all(connection).await?;
        for (model, version, newest) in kept {
            match DECLARATIONS.iter().find(|one| one.name == model) {
                Some(one) if newest > one.version => return Err(ReadModelError::NewerModel(model)),
                Some(one) if version == one.version => drop(models.insert(one.name)),
                Some(_) => {}
                None => return Err(ReadModelError::NewerModel(model)),
            }
        }
        Ok(Self { name, epoch, models })
    }

    /// Makes an empty build with these models.
    pub(super) async fn create(
        connection: &mut PgConnection,
        identity: &Identity,
        models: &Models,
    ) -> Result<Self, ReadModelError> {
        let number: i64 = sqlx::query_scalar("SELECT nextval('saldo.builds')").fetch_one(&mut *connection).await?;
        let schema = Self { name: Self::name_of(number), epoch: 0, models: models.clone() };
        let tables: String = schema.declarations().map(Declaration::create).collect();
        let sql = format!("CREATE SCHEMA {{s}};\n{MODELS}{tables}").replace("{s}", schema.name());
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
        sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO {}.checkpoints SELECT p, $1, 0, ''::bytea, NULL FROM generate_series(0, $2 - 1) p",
            schema.name()
        )))
        .bind(identity.log_id.as_slice())
        .bind(identity.partitions as i32)
        .execute(&mut *connection)
        .await?;
        let (names, versions): (Vec<&str>, Vec<i32>) =
            DECLARATIONS.iter().filter(|one| models.contains(one.name)).map(|one| (one.name, one.version)).unzip();
        sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO {}.models (model, version) SELECT * FROM unnest($1::text[], $2::int[])",
            schema.name()
        )))
        .bind(names)
        .bind(versions)
        .execute(connection)
        .await?;
        Ok(schema)
    }

    /// The engine's tables and those of its models.
    fn declarations(&self) -> impl Iterator<Item = &'static Declaration> {
        let models = DECLARATIONS.iter().copied().filter(|one| self.models.contains(one.name));
        std::iter::once(&ENGINE).chain(models)
    }

    /// Its tables.
    pub(super) fn tables(&self) -> impl Iterator<Item = &'static Table> {
        self.declarations().flat_map(|one| one.tables)
    }

    /// Names of the tables that two builds can be compared by: all that both have but the personal ones, whose values come
    /// from the key store and not from the log alone.
    pub fn compared(&self, other: &Self) -> Vec<&'static str> {
        let of_other: BTreeSet<&str> = other.tables().map(|table| table.name).collect();
        let shared = self.tables().filter(|table| table.personal.is_none() && of_other.contains(table.name));
        shared.map(|table| table.name).collect()
    }

    /// The tables of personal data that both builds have.
    pub(super) fn personal(&self, other: &Self) -> impl Iterator<Item = &'static Table> {
        let of_other: BTreeSet<&str> = other.tables().map(|table| table.name).collect();
        self.tables().filter(move |table| table.personal.is_some() && of_other.contains(table.name))
    }

    /// The build beside the live one, with these models: where an earlier rebuild has left it, unless `fresh`, or else an empty
    /// one. Removes other builds that were left behind. Only one rebuild may work at a time; see
    /// [`only_rebuild`](super::only_rebuild).
    pub async fn build(
        pool: &PgPool,
        identity: &Identity,
        fresh: bool,
        models: &Models,
    ) -> Result<Self, ReadModelError> {
        let mut transaction = saldo_postgres::begin(pool).await?;
        let live = live(&mut transaction).await?;
        let begun: Option<(i64, i32)> =
            sqlx::query_as("SELECT number, format FROM saldo.rebuild").fetch_optional(&mut *transaction).await?;
        let begun = begun.filter(|(_, format)| *format == FORMAT).map(|(number, _)| number);
        let builds: Vec<String> =
            sqlx::query_scalar("SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^rm_[0-9]+$'")
                .fetch_all(&mut *transaction)
                .await?;
        let mut left = None;
        for build in builds.into_iter().filter(|build| *build != live.name) {
            let number = begun.filter(|number| build == Self::name_of(*number) && !fresh);
            if let Some(number) = number
                && let Ok(build) = Self::open(&mut transaction, number, 0).await
                && build.models == *models
                && build.checkpoints(&mut transaction, identity, false).await.is_ok()
                // A build that an earlier release could not fill whole is not taken over: this release reads more.
                && build.parked(&mut transaction).await.is_ok_and(|parked| parked.is_empty())
            {
                left = Some(build);
            } else {
                remove(&mut *transaction, &build).await?;
            }
        }
        let schema = match left {
            Some(left) => left,
            None => {
                let schema = Self::create(&mut transaction, identity, models).await?;
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
        let bare = format!("SELECT model FROM {}.models WHERE NOT indexed", self.name());
        let bare: Vec<String> = sqlx::query_scalar(AssertSqlSafe(bare)).fetch_all(&mut *transaction).await?;
        let indexes: String = self
            .declarations()
            .filter(|one| bare.iter().any(|model| model == one.name))
            .map(Declaration::index)
            .collect();
        if !bare.is_empty() {
            sqlx::query(SORTING).execute(&mut *transaction).await?;
            let sql = format!("{indexes} UPDATE {{s}}.models SET indexed = true;").replace("{s}", self.name());
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(transaction).await?;
        }
        Ok(())
    }

    /// An empty build in temporary tables like this one's, gone with the transaction.
    pub async fn shadow(&self, transaction: &mut PgConnection) -> Result<Self, ReadModelError> {
        let live = self.name();
        for table in self.tables() {
            let (table, with) = (table.name, if table.only_grows { "" } else { "INCLUDING ALL" });
            let statement = format!("CREATE TEMP TABLE {table} (LIKE {live}.{table} {with}) ON COMMIT DROP");
            sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        }
        let statement = format!(
            "INSERT INTO pg_temp.checkpoints SELECT partition, log_id, 0, ''::bytea, NULL FROM {live}.checkpoints"
        );
        sqlx::query(AssertSqlSafe(statement)).execute(transaction).await?;
        Ok(Self { name: "pg_temp".to_owned(), epoch: 0, models: self.models.clone() })
    }

    /// Takes over the tables of the models that this build lacks from the build that was in force, and with them the accounts
    /// whose rows stand still there. Both stand at the same place in the log.
    pub(super) async fn adopt(&self, transaction: &mut PgConnection, former: &Self) -> Result<Self, ReadModelError> {
        let adopted: Models = former.models.difference(&self.models).copied().collect();
        let moved: String = DECLARATIONS
            .iter()
            .filter(|one| adopted.contains(one.name))
            .flat_map(|one| one.tables)
            .map(|table| format!("ALTER TABLE {}.{} SET SCHEMA {};\n", former.name(), table.name, self.name()))
            .collect();
        if !adopted.is_empty() {
            sqlx::raw_sql(AssertSqlSafe(moved)).execute(&mut *transaction).await?;
            let parked = "TRUNCATE {s}.parked; INSERT INTO {s}.parked SELECT * FROM {f}.parked";
            let parked = parked.replace("{s}", self.name()).replace("{f}", former.name());
            sqlx::raw_sql(AssertSqlSafe(parked)).execute(&mut *transaction).await?;
            let kept = "INSERT INTO {s}.models SELECT * FROM {f}.models WHERE model = ANY($1)";
            let kept = kept.replace("{s}", self.name()).replace("{f}", former.name());
            let names: Vec<&str> = adopted.iter().copied().collect();
            sqlx::query(AssertSqlSafe(kept)).bind(names).execute(transaction).await?;
        }
        Ok(Self { models: self.models.union(&adopted).copied().collect(), ..self.clone() })
    }

    /// Says which models this release no longer writes, since it wants them in another version, and where they stand.
    pub async fn supersede(&self, pool: &PgPool, identity: &Identity) -> Result<(), ReadModelError> {
        let mut transaction = saldo_postgres::begin(pool).await?;
        let standing = self.standing(&mut transaction, identity, true).await?.ok_or(ReadModelError::OtherLog)?;
        let stood_at: Vec<i64> = standing.into_iter().map(|offset| offset as i64).collect();
        let (models, versions): (Vec<&str>, Vec<i32>) = DECLARATIONS.iter().map(|one| (one.name, one.version)).unzip();
        sqlx::query(AssertSqlSafe(format!(
            "UPDATE {}.models m SET superseded_by = d.version, stood_at = coalesce(m.stood_at, $3)
             FROM unnest($1::text[], $2::int[]) AS d(model, version)
             WHERE m.model = d.model AND m.version < d.version AND m.superseded_by IS DISTINCT FROM d.version",
            self.name()
        )))
        .bind(models)
        .bind(versions)
        .bind(stood_at)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Removes a build.
    pub async fn remove(&self, database: impl PgExecutor<'_>) -> Result<(), ReadModelError> {
        remove(database, self.name()).await
    }

    /// Where the build stands, by partition; with `lock`, until the transaction ends.
    pub async fn checkpoints(
        &self,
        connection: &mut PgConnection,
        identity: &Identity,
        lock: bool,
    ) -> Result<Vec<Checkpoint>, ReadModelError> {
        let suffix = if lock { "FOR UPDATE" } else { "" };
        let rows = sqlx::query(AssertSqlSafe(format!(
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
        let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(connection).await?;
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
    pub async fn parked(&self, connection: &mut PgConnection) -> Result<Vec<(Owner, Unread)>, ReadModelError> {
        let statement = format!(
            "SELECT tenant, account, partition, record_offset, fact_type, fact_version FROM {}.parked",
            self.name()
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(connection).await?;
        rows.into_iter()
            .map(|row| {
                let owner = Owner { tenant: row.try_get(0)?, account: row.try_get(1)? };
                let unknown = row.try_get::<Option<String>, _>(4)?.zip(row.try_get::<Option<i32>, _>(5)?);
                let unread = Unread {
                    partition: row.try_get::<i32, _>(2)? as u32,
                    offset: row.try_get::<i64, _>(3)? as u64,
                    unknown: unknown.map(|(kind, version)| (kind, version as u32)),
                };
                Ok((owner, unread))
            })
            .collect()
    }

    /// Forgets that these accounts stand still. Every writer of the build must begin anew: the caller locks the build, and adds
    /// the missing rows of these accounts in the same transaction.
    pub async fn unpark(
        &self,
        transaction: &mut PgConnection,
        owners: impl IntoIterator<Item = &Owner>,
    ) -> Result<(), ReadModelError> {
        let (tenants, accounts): (Vec<&str>, Vec<&str>) =
            owners.into_iter().map(|owner| (owner.tenant.as_str(), owner.account.as_str())).unzip();
        sqlx::query(AssertSqlSafe(format!(
            "DELETE FROM {}.parked p USING unnest($1::text[], $2::text[]) AS o(tenant, account)
             WHERE p.tenant = o.tenant AND p.account = o.account",
            self.name()
        )))
        .bind(tenants)
        .bind(accounts)
        .execute(transaction)
        .await?;
        Ok(())
    }
}

/// The commit with which an account came to stand still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Type and version of the fact that was not known, where that was the reason.
    pub unknown: Option<(String, u32)>,
}

async fn remove(database: impl PgExecutor<'_>, schema: &str) -> Result<(), ReadModelError> {
    let statement = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(database).await?;
    Ok(())
}
