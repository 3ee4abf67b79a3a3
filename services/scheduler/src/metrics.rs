//! The scheduler's work, as people and machines see it: progress and trouble in the log, figures for the meter.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge},
};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    wake::{WakeResult, Woken},
    wakeups::Key,
};

/// Between two looks at the backlog.
pub(crate) const EVERY: Duration = Duration::from_secs(3);
/// So many due at once are worth watching.
const MANY: u64 = 1_000;
/// Reasons told apart between two warnings; the command service has fewer.
const MAX_REASONS: usize = 20;

pub(crate) struct Metrics {
    woken: Counter<u64>,
    waiting: Gauge<u64>,
    oldest: Gauge<u64>,
    /// Accounts woken since the beginning.
    done: u64,
    backlog: Option<Backlog>,
    troubles: BTreeMap<String, Trouble>,
}

/// Many accounts that are due at once.
struct Backlog {
    since: Instant,
    done_before: u64,
}

struct Trouble {
    count: u64,
    example: Key,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("saldo.scheduler");
        Self {
            woken: meter
                .u64_counter("saldo.scheduler.woken")
                .with_description("Accounts woken, by result")
                .with_unit("{account}")
                .build(),
            waiting: meter
                .u64_gauge("saldo.scheduler.waiting")
                .with_description("Accounts that are due")
                .with_unit("{account}")
                .build(),
            oldest: meter
                .u64_gauge("saldo.scheduler.oldest_due_seconds")
                .with_description("How long the oldest of them has been due")
                .with_unit("s")
                .build(),
            done: 0,
            backlog: None,
            troubles: BTreeMap::new(),
        }
    }

    /// An account was woken, or could not be.
    pub(crate) fn woken(&mut self, woken: &Woken) {
        self.done += 1;
        self.woken.add(1, &[KeyValue::new("result", woken.result.name())]);
        let (WakeResult::Failed(reason) | WakeResult::OutOfReach(reason)) = &woken.result else { return };
        if self.troubles.len() < MAX_REASONS || self.troubles.contains_key(reason) {
            let new = || Trouble { count: 0, example: woken.key.clone() };
            self.troubles.entry(reason.clone()).or_insert_with(new).count += 1;
        }
    }

    /// Whether a backlog is being worked off.
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog.is_some()
    }

    /// So many accounts are due, the oldest since this instant. `worked_off` says that everything found by the last look is
    /// done.
    pub(crate) fn backlog(&mut self, (waiting, oldest): (u64, Option<Timestamp>), now: Timestamp, worked_off: bool) {
        self.waiting.record(waiting, &[]);
        let seconds = oldest.map_or(0, |oldest| now.duration_since(oldest).as_secs());
        self.oldest.record(seconds.try_into().unwrap_or(0), &[]);
        self.tell_troubles();
        let Some(backlog) = &self.backlog else {
            if waiting > MANY {
                info!(waiting, "many accounts are due");
                self.backlog = Some(Backlog { since: Instant::now(), done_before: self.done });
            }
            return;
        };
        let done = self.done - backlog.done_before;
        let elapsed = backlog.since.elapsed();
        let per_second = u128::from(done) * 1_000 / elapsed.as_millis().max(1);
        if waiting > 0 && !worked_off {
            info!(done, waiting, per_second, "waking accounts that are due");
        } else {
            info!(done, per_second, seconds = elapsed.as_secs(), "all accounts that were due are woken");
            self.backlog = None;
        }
    }

    fn tell_troubles(&mut self) {
        for (reason, trouble) in std::mem::take(&mut self.troubles) {
            let Trouble { count, example: Key { tenant, account } } = trouble;
            warn!(reason, count, tenant, account, "accounts could not be woken; they are asked again later");
        }
    }
}

/// Troubles that the log was not told yet are told at the end. From then on another scheduler says how many accounts are due.
impl Drop for Metrics {
    fn drop(&mut self) {
        self.tell_troubles();
        self.waiting.record(0, &[]);
        self.oldest.record(0, &[]);
    }
}
