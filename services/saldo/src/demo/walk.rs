//! Walking a clock through weeks of dunning: it stands still while anybody has something to do, and jumps to the next
//! moment at which anything happens.

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

use crate::{Failure, system::System};

/// Between two looks whether everybody is done.
const LOOK: Duration = Duration::from_millis(5);
/// The longest that one moment may keep everybody busy in real time; beyond it something hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// A clock that is set by hand.
#[derive(Clone)]
pub struct Hands(Arc<AtomicI64>);

impl Hands {
    /// A clock that stands at an instant.
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.as_microsecond())))
    }

    /// The clock that they move.
    pub fn clock(&self) -> Clock {
        let hands = self.clone();
        Clock::from_fn(move || hands.now())
    }

    /// Where they stand.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
    }

    /// Moves them; never back.
    pub fn set(&self, now: Timestamp) {
        self.0.fetch_max(now.as_microsecond(), Ordering::SeqCst);
    }
}

/// Waits until nobody has anything to do at this moment: the read models stand at the log's end, nobody is to be woken,
/// no reminder is ready or on its way. Returns the next moment at which somebody will have.
pub async fn settled(system: &System, hands: &Hands, catalog_version: u64) -> Result<Option<Timestamp>, Failure> {
    let deadline = tokio::time::Instant::now() + LONGEST;
    loop {
        // The end is asked first: what is written meanwhile shows in the tables, or in the next round.
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
        .bind(hands.now().to_sqlx())
        .bind(catalog_version as i64)
        .fetch_one(&system.stores.database()?.pool)
        .await?;
        if row.try_get::<Option<bool>, _>(0)? == Some(true) {
            return Ok(row.try_get::<Option<jiff_sqlx::Timestamp>, _>(1)?.map(jiff_sqlx::Timestamp::to_jiff));
        }
        if tokio::time::Instant::now() > deadline {
            return Err(format!("at {} somebody is busy and does not come to an end", hands.now()).into());
        }
        tokio::time::sleep(LOOK).await;
    }
}
