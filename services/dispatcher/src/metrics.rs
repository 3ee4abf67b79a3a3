//! The dispatcher's work, as people and machines see it: progress and trouble in the log, figures for the meter.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge},
};
use saldo_channels::Transports;
use saldo_domain::party::Channel;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::{attempt::Ended, leases::Job};

/// So many due at once are worth watching.
const MANY: u64 = 1_000;
/// Reasons told apart between two warnings; the command service has fewer.
const MAX_REASONS: usize = 20;

/// Shared by all workers.
pub(crate) struct Metrics {
    attempts: Counter<u64>,
    waiting: Gauge<u64>,
    unknown: Gauge<u64>,
    on_hold: Gauge<u64>,
    progress: Mutex<Progress>,
}

/// The counts that the log was not told yet.
#[derive(Default)]
struct Progress {
    /// Jobs that have ended since the beginning.
    done: u64,
    backlog: Option<Backlog>,
    /// How often each reason came, and one job as an example.
    troubles: BTreeMap<String, (u64, Job)>,
    /// Channels that reminders wait for and that have no transport.
    without_transport: BTreeSet<String>,
}

/// Many reminders that are due at once.
struct Backlog {
    since: Instant,
    done_before: u64,
}

impl Metrics {
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
            on_hold: meter
                .u64_gauge("saldo.dispatcher.on_hold")
                .with_description(
                    "Routes on hold, by channel: of all messages, or of some tenant whose sender is refused or whose catalog cannot be read",
                )
                .with_unit("{route}")
                .build(),
            progress: Mutex::default(),
        }
    }

    /// So many routes of a channel are on hold: the whole channel, and routes of single tenants.
    pub(crate) fn on_hold(&self, channel: Channel, whole: u64, tenants: u64) {
        for (route, count) in [("all", whole), ("some", tenants)] {
            self.on_hold.record(count, &[KeyValue::new("channel", channel.name()), KeyValue::new("route", route)]);
        }
    }

    /// A job of this channel has ended.
    pub(crate) fn ended(&self, channel: Channel, ended: &Ended) {
        let Ended { job, outcome, trouble, .. } = ended;
        self.attempts.add(1, &[KeyValue::new("channel", channel.name()), KeyValue::new("outcome", *outcome)]);
        debug!(tenant = job.tenant, account = job.account, reminder = job.reminder, outcome, "a reminder");
        let mut progress = self.progress();
        progress.done += 1;
        let Some(reason) = trouble else { return };
        if progress.troubles.len() < MAX_REASONS || progress.troubles.contains_key(reason) {
            progress.troubles.entry(reason.clone()).or_insert_with(|| (0, job.clone())).0 += 1;
        }
    }

    /// So many outcomes are unknown.
    pub(crate) fn unknown(&self, count: u64) {
        self.unknown.record(count, &[]);
    }

    /// So many reminders are due, by channel.
    pub(crate) fn waiting(&self, waiting: &BTreeMap<String, u64>, transports: &Transports) {
        self.waiting.record(waiting.values().sum(), &[]);
        let mut progress = self.progress();
        progress.tell_troubles();
        progress.tell_backlog(waiting.values().sum());
        progress.tell_without_transport(waiting, transports);
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // Every change under the lock is complete in one step, so a panic elsewhere leaves nothing half-changed.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn tell_backlog(&mut self, waiting: u64) {
        let Some(backlog) = &self.backlog else {
            if waiting > MANY {
                info!(waiting, "many reminders are due");
                self.backlog = Some(Backlog { since: Instant::now(), done_before: self.done });
            }
            return;
        };
        let (done, elapsed) = (self.done - backlog.done_before, backlog.since.elapsed());
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

    /// Warns once about each channel, for as long as reminders wait for it.
    fn tell_without_transport(&mut self, waiting: &BTreeMap<String, u64>, transports: &Transports) {
        let is_served =
            |channel: &str| Channel::parse(channel).is_some_and(|channel| transports.get(channel).is_some());
        let unserved: BTreeSet<_> = waiting.keys().filter(|channel| !is_served(channel)).cloned().collect();
        for channel in unserved.difference(&self.without_transport) {
            let waiting = waiting.get(channel);
            warn!(channel, waiting, "reminders wait for a channel that this dispatcher is not configured to send by");
        }
        self.without_transport = unserved;
    }
}

/// Troubles that the log was not told yet are told at the end.
impl Drop for Metrics {
    fn drop(&mut self) {
        self.progress().tell_troubles();
    }
}
