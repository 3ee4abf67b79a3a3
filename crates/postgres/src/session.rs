//! How a session ends whose process is gone without a word.

use sqlx::{PgPool, postgres::PgConnectOptions};
use uuid::Uuid;

/// How the names of our sessions begin.
pub(crate) const PREFIX: &str = "saldo-";

/// Settings of every session. A host that vanished answers neither probes nor data: Postgres ends its sessions, and the
/// transactions in them, after 25 seconds. It would wait for hours by itself.
const VANISHED: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "25000"),
];

/// The sessions of one part of a process. They bear one name, which no other part's sessions have: whoever takes over from the
/// part finds and ends all of them ([`crate::Lock`]).
pub fn as_session(options: PgConnectOptions) -> PgConnectOptions {
    let mut part = Uuid::new_v4().simple().to_string();
    part.truncate(12);
    options.application_name(&format!("{PREFIX}{}-{part}", std::process::id())).options(VANISHED)
}

/// How many sessions of other parts and processes the database of a pool has.
pub async fn others(pool: &PgPool) -> Result<i64, sqlx::Error> {
    let statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                     AND starts_with(application_name, $1) AND application_name <> current_setting('application_name')";
    sqlx::query_scalar(statement).bind(PREFIX).fetch_one(pool).await
}
