//! What people and machines see of the dispatcher's work: progress and trouble in the log, figures for the meter.

use std::{collections::BTreeMap, time::Duration};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge},
};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::{attempt::Ended, jobs::Job};

/// Between two reports.
pub(crate) const EVERY: Duration = Duration::from_secs(3);
/// Between two counts of what is unknown, which people see to.
pub(crate) const COUNT_UNKNOWN: Duration = Duration::from_secs(15);
/// So many due at once are worth watching.
const MANY: u64 = 1_000;
/// Reasons told apart in one report; the command service has fewer.
const MAX_REASONS: usize = 20;
/// The only channel of this release.
const EMAIL: &str = "email";

/// Counts, and says.
pub(crate) struct Report {
    attempts: Counter<u64>,
    waiting: Gauge<u64>,
    unknown: Gauge<u64>,
    /// Since the beginning.
    done: u64,
    /// Many that are due at once: since when, and what had been done before.
    backlog: Option<(Instant, u64)>,
    troubles: BTreeMap<String, (u64, Job)>,
}

impl Report {
    pub(crate) fn new() -> Self {
        let meter = global::meter("saldo.dispatcher");
        Self {
            attempts: meter
                .u64_counter("saldo.dispatcher.attempts")
                .with_description("Reminders taken as far as they went, by channel and outcome")
                .with_unit("{reminder}")
                .build(),
            waiting: meter
                .u64_gauge("saldo.dispatcher.waiting")
                .with_description("Reminders that are due")
                .with_unit("{reminder}")
                .build(),
            unknown: meter
                .u64_gauge("saldo.dispatcher.unknown")
                .with_description("Reminders that want a person because nobody knows whether they were sent")
                .with_unit("{reminder}")
                .build(),
            done: 0,
            backlog: None,
            troubles: BTreeMap::new(),
        }
    }

    /// Takes in how a job ended.
    pub(crate) fn note(&mut self, ended: &Ended) {
        let Ended { job, outcome, trouble, .. } = ended;
        self.done += 1;
        self.attempts.add(1, &[KeyValue::new("channel", EMAIL), KeyValue::new("outcome", *outcome)]);
        debug!(tenant = job.tenant, account = job.account, reminder = job.reminder, outcome, "a reminder");
        let Some(reason) = trouble else { return };
        if self.troubles.len() < MAX_REASONS || self.troubles.contains_key(reason) {
            self.troubles.entry(reason.clone()).or_insert_with(|| (0, job.clone())).0 += 1;
        }
    }

    /// Says how many outcomes are unknown.
    pub(crate) fn unknown(&self, count: u64) {
        self.unknown.record(count, &[]);
    }

    /// Says where it stands.
    pub(crate) fn tell(&mut self, waiting: u64) {
        self.waiting.record(waiting, &[]);
        self.tell_troubles();
        let Some((since, done_before)) = self.backlog else {
            if waiting > MANY {
                info!(waiting, "many reminders are due");
                self.backlog = Some((Instant::now(), self.done));
            }
            return;
        };
        let (done, elapsed) = (self.done - done_before, since.elapsed());
        let per_second = u128::from(done) * 1_000 / elapsed.as_millis().max(1);
        // Some are always due for as long as the read models take to follow.
        if waiting > MANY / 10 {
            info!(done, waiting, per_second, "working off the reminders that are due");
        } else {
            info!(done, per_second, seconds = elapsed.as_secs(), "the reminders that were due are worked off");
            self.backlog = None;
        }
    }

    fn tell_troubles(&mut self) {
        for (reason, (count, Job { tenant, account, reminder, .. })) in std::mem::take(&mut self.troubles) {
            warn!(reason, count, tenant, account, reminder, "the command service did not take what reminders needed");
        }
    }
}

/// What was not told yet, is told at the end.
impl Drop for Report {
    fn drop(&mut self) {
        self.tell_troubles();
    }
}
