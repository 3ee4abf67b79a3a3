//! `saldo.tenants` and `saldo.clock`: what SQL must know to say which day it is for a creditor.
//!
//! They come from the catalog and from the clock of the services. The accounts' log does not hold them, so they stand outside
//! the builds, and a rebuild leaves them alone. The process that follows the catalog beside the projector writes them.

use jiff::{SignedDuration, Timestamp};
use sqlx::{PgPool, Postgres, Transaction};

use crate::ReadModelError;

/// The present. A lead that nobody has confirmed for a while was that of a process that is gone.
macro_rules! clock_view {
    () => {
        "CREATE OR REPLACE VIEW bi.clock AS
           SELECT present AS now, (present AT TIME ZONE 'UTC')::date AS today
           FROM (SELECT now() + coalesce((SELECT ahead FROM saldo.clock WHERE said_at > now() - interval '30 seconds'),
                                         interval '0') AS present) AS clock;\n"
    };
}

/// Makes the tables where they are missing.
pub(crate) const TABLES: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS saldo.tenants (
        tenant text COLLATE \"C\" PRIMARY KEY, name text NOT NULL, time_zone text NOT NULL, languages text[] NOT NULL,
        fiscal_year_month smallint NOT NULL, fiscal_year_day smallint NOT NULL)",
    "CREATE TABLE IF NOT EXISTS saldo.clock (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        ahead interval NOT NULL,
        said_at timestamptz NOT NULL DEFAULT '-infinity')",
    // A table of an earlier release; asked first, since altering waits for everybody.
    concat!(
        "DO $$ BEGIN
           IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'saldo.clock'::regclass AND attname = 'said_at') THEN
             ALTER TABLE saldo.clock ADD COLUMN said_at timestamptz NOT NULL DEFAULT '-infinity';
             IF to_regclass('bi.clock') IS NOT NULL THEN ",
        clock_view!(),
        "  END IF;
           END IF;
         END $$"
    ),
];

/// The views of `bi` over them.
pub(crate) const FACE: &str = concat!(
    "\n",
    clock_view!(),
    "COMMENT ON VIEW bi.clock IS 'The present as the services see it: ahead of the database''s where they run under another clock';
COMMENT ON COLUMN bi.clock.now IS 'The present instant';
COMMENT ON COLUMN bi.clock.today IS 'The present day in UTC';
CREATE OR REPLACE VIEW bi.tenants AS
  SELECT tenant, name, time_zone, languages, fiscal_year_month, fiscal_year_day,
         ((SELECT now FROM bi.clock) AT TIME ZONE time_zone)::date AS today
  FROM saldo.tenants;
COMMENT ON VIEW bi.tenants IS 'Settings of the creditors that have published in the catalog';
COMMENT ON COLUMN bi.tenants.tenant IS 'The creditor';
COMMENT ON COLUMN bi.tenants.name IS 'What the creditor is called; empty until it is published';
COMMENT ON COLUMN bi.tenants.time_zone IS 'IANA time zone that the creditor''s days are counted in; UTC where this database does not know the published one';
COMMENT ON COLUMN bi.tenants.languages IS 'ISO 639-1, the preferred one first';
COMMENT ON COLUMN bi.tenants.fiscal_year_month IS 'Month in which the fiscal year begins';
COMMENT ON COLUMN bi.tenants.fiscal_year_day IS 'Day of that month on which the fiscal year begins';
COMMENT ON COLUMN bi.tenants.today IS 'The present day in the creditor''s time zone';
"
);

/// SQLSTATE of a time zone that Postgres does not know.
const NO_SUCH_ZONE: &str = "22023";

/// A creditor's settings, for SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    /// The creditor.
    pub tenant: String,
    /// The creditor's name.
    pub name: String,
    /// The IANA name of the time zone that its days are counted in.
    pub time_zone: String,
    /// ISO 639-1, the first preferred.
    pub languages: Vec<String>,
    /// The first day of the fiscal year: month and day.
    pub fiscal_year_start: (u32, u32),
}

/// Writes the settings of these creditors, and removes all others. Returns the zones that this Postgres does not know: days are
/// counted in UTC there, since a view that names such a zone would fail for every creditor.
pub async fn write_tenants(pool: &PgPool, rows: &[TenantRow]) -> Result<Vec<String>, ReadModelError> {
    let mut unknown = Vec::new();
    let mut transaction = saldo_postgres::begin(pool).await?;
    sqlx::query("DELETE FROM saldo.tenants WHERE tenant <> ALL ($1)")
        .bind(rows.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
    for row in rows {
        let time_zone = if knows_zone(&mut transaction, &row.time_zone).await? {
            row.time_zone.as_str()
        } else {
            unknown.push(row.time_zone.clone());
            "UTC"
        };
        sqlx::query(
            "INSERT INTO saldo.tenants (tenant, name, time_zone, languages, fiscal_year_month, fiscal_year_day)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (tenant) DO UPDATE SET name = excluded.name, time_zone = excluded.time_zone,
               languages = excluded.languages, fiscal_year_month = excluded.fiscal_year_month,
               fiscal_year_day = excluded.fiscal_year_day",
        )
        .bind(&row.tenant)
        .bind(&row.name)
        .bind(time_zone)
        .bind(&row.languages)
        .bind(row.fiscal_year_start.0 as i16)
        .bind(row.fiscal_year_start.1 as i16)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(unknown)
}

async fn knows_zone(transaction: &mut Transaction<'_, Postgres>, zone: &str) -> Result<bool, ReadModelError> {
    // A refused statement ends its transaction, so the question has one of its own inside.
    let mut asked = sqlx::Connection::begin(&mut **transaction).await?;
    match sqlx::query("SELECT now() AT TIME ZONE $1").bind(zone).execute(&mut *asked).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(NO_SUCH_ZONE) => {
            asked.rollback().await?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes how far the services' clock is ahead of the machine's. It counts for half a minute: whoever has such a clock says it
/// again and again.
pub async fn write_clock(pool: &PgPool, ahead: SignedDuration) -> Result<(), ReadModelError> {
    sqlx::query(
        "INSERT INTO saldo.clock (ahead, said_at) VALUES (make_interval(secs => $1), now())
         ON CONFLICT (one) DO UPDATE SET ahead = excluded.ahead, said_at = excluded.said_at",
    )
    .bind(ahead.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(())
}

/// The day that an instant falls on, as a creditor counts days: by the same table and the same rules of time zones as `bi`.
pub async fn day_of(
    database: impl sqlx::PgExecutor<'_>,
    tenant: &str,
    at: Timestamp,
) -> Result<jiff::civil::Date, sqlx::Error> {
    use jiff_sqlx::ToSqlx;
    let day: jiff_sqlx::Date = sqlx::query_scalar(
        "SELECT ($1::timestamptz AT TIME ZONE
                 coalesce((SELECT time_zone FROM saldo.tenants WHERE tenant = $2), 'UTC'))::date",
    )
    .bind(at.to_sqlx())
    .bind(tenant)
    .fetch_one(database)
    .await?;
    Ok(day.to_jiff())
}
