//! A clock that runs through weeks of dunning. It stands still while any service has work, and then jumps to the next moment at
//! which something happens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use saldo_clock::Clock;
use saldo_log::ends;
use sqlx::{AssertSqlSafe, Row};

use crate::{Failure, run::system::System};

/// How often the tables are asked whether all work is done.
const POLL: Duration = Duration::from_millis(5);
/// The longest that the work of one moment may take in real time; beyond it something hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// A clock that is set by hand. Clones share one time.
#[derive(Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.as_microsecond())))
    }

    /// As a clock of services.
    pub fn clock(&self) -> Clock {
        let manual = self.clone();
        Clock::from_fn(move || manual.now())
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
    }

    /// Never goes back.
    pub fn set(&self, now: Timestamp) {
        self.0.fetch_max(now.as_microsecond(), Ordering::SeqCst);
    }
}

/// Waits until no service has work at this moment, and returns the next moment with work. Work is a record behind the read models,
/// an account to wake, or a reminder that is ready or under way.
pub async fn settled(system: &System, clock: &ManualClock, catalog_version: u64) -> Result<Option<Timestamp>, Failure> {
    let deadline = tokio::time::Instant::now() + LONGEST;
    loop {
        // The end is read first: records that are written meanwhile show in the tables, or in the next round.
        let end: u64 = ends(system.stores.log.as_ref(), &system.identity).await?.iter().sum();
        let number: i64 =
            sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(&system.stores.database()?.pool).await?;
        let row = sqlx::query(AssertSqlSafe(format!(
            "SELECT (SELECT sum(next_offset)::bigint FROM rm_{number}.checkpoints) = $1
                AND NOT EXISTS (SELECT FROM rm_{number}.reminders WHERE status = 'started' OR ready_at <= $2)
                AND NOT EXISTS (SELECT FROM rm_{number}.agenda a LEFT JOIN saldo.wakeups w USING (tenant, account)
                  WHERE w.account IS NULL
                     OR (w.account_version, w.catalog_version) < (a.account_version, a.catalog_version))
                AND NOT EXISTS (SELECT FROM saldo.wakeups WHERE wakeup_at <= $2 OR catalog_version < $3),
              least((SELECT min(wakeup_at) FROM saldo.wakeups WHERE wakeup_at > $2),
                    (SELECT min(ready_at) FROM rm_{number}.reminders WHERE ready_at > $2))"
        )))
        .bind(end as i64)
        .bind(clock.now().to_sqlx())
        .bind(catalog_version as i64)
        .fetch_one(&system.stores.database()?.pool)
        .await?;
        if row.try_get::<Option<bool>, _>(0)? == Some(true) {
            return Ok(row.try_get::<Option<jiff_sqlx::Timestamp>, _>(1)?.map(jiff_sqlx::Timestamp::to_jiff));
        }
        if tokio::time::Instant::now() > deadline {
            return Err(format!("at {} the services still have work after {} s", clock.now(), LONGEST.as_secs()).into());
        }
        tokio::time::sleep(POLL).await;
    }
}
