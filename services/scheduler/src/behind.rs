//! Accounts whose answer used an older catalog than the one in force: swept creditor by creditor, no faster than agreed.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use saldo_catalog::State;
use sqlx::PgPool;
use tokio::time::{Duration, Instant};

use crate::table::{self, BehindTenant, Chain, Key};

/// Accounts of one creditor taken at a time, so that no creditor waits for another's whole portfolio.
const PAGE: usize = 500;
/// Accounts that wait in memory; about ten seconds' worth at the usual rate.
const MAX_WAITING: usize = 5_000;
/// Between two sweeps of one creditor. What is left after one could not be woken, or came meanwhile.
const REST: Duration = Duration::from_secs(60);

/// Those to be woken after what is due.
pub(crate) struct Behind {
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

impl Behind {
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        let limiter = RateLimiter::direct(Quota::per_second(per_second));
        Self { limiter, waiting: VecDeque::new(), sweeps: BTreeMap::new(), last: None }
    }

    /// Fetches more where none wait.
    pub(crate) async fn look(&mut self, pool: &PgPool, catalog: &State) -> Result<(), sqlx::Error> {
        if !self.waiting.is_empty() {
            return Ok(());
        }
        // Accounts cannot be woken for a version that the answer could not name.
        let versions: Vec<_> =
            catalog.tenants().map(|(tenant, catalog)| (tenant.to_owned(), catalog.understood)).collect();
        let mut behind = table::tenants_behind(pool, &versions, catalog.system().understood).await?;
        behind.sort();
        self.sweeps.retain(|sweep, _| behind.binary_search_by(|one| one.key().cmp(sweep)).is_ok());
        let turn = behind.partition_point(|one| Some(one.key()) <= self.last);
        // Whoever comes after the one that had its turn last is first.
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

    async fn sweep(&mut self, pool: &PgPool, behind: &BehindTenant) -> Result<(), sqlx::Error> {
        let version = behind.version;
        let sweep = self.sweeps.entry(behind.key()).or_insert_with(|| Sweep::new(version));
        if sweep.version != version {
            *sweep = Sweep::new(version);
        }
        if sweep.resting.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        let page = table::behind(pool, behind, &sweep.after, PAGE).await?;
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

    /// One that is wanted once more.
    pub(crate) fn push(&mut self, key: Key) {
        self.waiting.push_back(key);
    }

    /// The next one, if it may be woken already.
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
        let mut behind = Behind::new(NonZeroU32::new(5).expect("above 0"));
        assert_eq!(behind.next(), None);
        let key = |number: u32| Key { tenant: "acme".into(), account: format!("D-{number}") };
        behind.waiting.extend((0..100).map(key));
        let woken: Vec<_> = std::iter::from_fn(|| behind.next()).take(100).collect();
        assert_eq!(woken, (0..5).map(key).collect::<Vec<_>>());
    }
}
