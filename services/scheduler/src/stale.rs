//! Accounts that were decided under an older version of the catalog than the one in force. They are gone through creditor by
//! creditor, no faster than agreed.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use saldo_catalog::State;
use sqlx::PgPool;
use tokio::time::{Duration, Instant};

use crate::wakeups::{self, Chain, Key, StaleTenant};

/// Accounts of one creditor read at a time, so that no creditor waits for another's whole portfolio.
const PAGE: usize = 500;
/// Accounts that wait in memory: about ten seconds of work at the usual rate.
const MAX_WAITING: usize = 5_000;
/// Between two sweeps of one creditor. Accounts that are left after a sweep could not be woken, or came meanwhile.
const REST: Duration = Duration::from_secs(60);

/// The accounts to wake when nothing is due.
pub(crate) struct Stale {
    limiter: DefaultDirectRateLimiter,
    waiting: VecDeque<Key>,
    sweeps: BTreeMap<(String, Chain), Sweep>,
    /// The creditor that had its turn last, and of which chain.
    last: Option<(String, Chain)>,
}

/// How far one creditor's accounts were gone through.
struct Sweep {
    version: u64,
    after: (i64, String),
    resting: Option<Instant>,
}

impl Sweep {
    fn new(version: u64) -> Self {
        Self { version, after: (-1, String::new()), resting: None }
    }
}

impl Stale {
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        let limiter = RateLimiter::direct(Quota::per_second(per_second));
        Self { limiter, waiting: VecDeque::new(), sweeps: BTreeMap::new(), last: None }
    }

    /// Reads more accounts where none wait.
    pub(crate) async fn look(&mut self, pool: &PgPool, catalog: &State) -> Result<(), sqlx::Error> {
        if !self.waiting.is_empty() {
            return Ok(());
        }
        // Versions that this release does not understand are not named by any answer of its own.
        let versions: Vec<_> =
            catalog.tenants().map(|(tenant, catalog)| (tenant.to_owned(), catalog.understood)).collect();
        let mut behind = wakeups::tenants_behind(pool, &versions, catalog.system().understood).await?;
        behind.sort();
        self.sweeps.retain(|sweep, _| behind.binary_search_by(|one| one.key().cmp(sweep)).is_ok());
        let turn = behind.partition_point(|one| Some(one.key()) <= self.last);
        // The creditors after the one that had its turn last come first.
        let before: Vec<_> = behind.drain(..turn).collect();
        behind.extend(before);
        for one in behind {
            if self.waiting.len() >= MAX_WAITING {
                break;
            }
            self.sweep(pool, &one).await?;
            self.last = Some(one.key());
        }
        Ok(())
    }

    async fn sweep(&mut self, pool: &PgPool, behind: &StaleTenant) -> Result<(), sqlx::Error> {
        let version = behind.version;
        let sweep = self.sweeps.entry(behind.key()).or_insert_with(|| Sweep::new(version));
        if sweep.version != version {
            *sweep = Sweep::new(version);
        }
        if sweep.resting.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        let page = wakeups::behind(pool, behind, &sweep.after, PAGE).await?;
        let ended = page.len() < PAGE;
        if let Some(last) = page.last().filter(|_| !ended) {
            sweep.after = last.clone();
            sweep.resting = None;
        } else {
            *sweep = Sweep { resting: Some(Instant::now() + REST), ..Sweep::new(version) };
        }
        self.waiting.extend(page.into_iter().map(|(_, account)| Key { tenant: behind.tenant.clone(), account }));
        Ok(())
    }

    /// An account that is wanted once more.
    pub(crate) fn push(&mut self, key: Key) {
        self.waiting.push_back(key);
    }

    /// The next account, if the rate allows it already.
    pub(crate) fn next(&mut self) -> Option<Key> {
        if self.waiting.is_empty() || self.limiter.check().is_err() {
            return None;
        }
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_woken_than_agreed() {
        let mut stale = Stale::new(NonZeroU32::new(5).expect("above 0"));
        assert_eq!(stale.next(), None);
        let key = |number: u32| Key { tenant: "acme".into(), account: format!("D-{number}") };
        stale.waiting.extend((0..100).map(key));
        let woken: Vec<_> = std::iter::from_fn(|| stale.next()).take(100).collect();
        assert_eq!(woken, (0..5).map(key).collect::<Vec<_>>());
    }
}
