//! The routes of one channel, and which of them are on hold.
//!
//! A failure of the route is not a failure of the reminder. Before an account is asked for a message, the route must be open.
//! When a route fails, it is tried at once without a message. If it fails again it is on hold: no account is asked for what
//! would leave by it, and one probe at growing pauses finds out when it is open again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use saldo_catalog::Catalog;
use saldo_channels::{RouteFailure, Transport};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use crate::metrics::Metrics;

/// The pause after the first failed probe; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two probes: short beside a day's permitted hours, and long beside what a provider may count as
/// an attack.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Messages started for each one that the transport hands over at once. With two, the next message is ready when one ends.
/// More would only be in doubt when the process dies.
const STARTED_FOR_EACH: usize = 2;

/// What leaves by a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Route {
    /// Every message of the channel.
    Whole,
    /// The messages of one tenant: the provider refuses its sender.
    Sender(String),
}

/// A route that failed.
#[derive(Debug)]
struct Hold {
    since: Instant,
    /// Probes that failed. Before the first the route is only suspected, and nobody is told.
    failed: u32,
    probe_at: Instant,
}

pub(crate) struct Routes {
    transport: Arc<dyn Transport>,
    catalog: Catalog,
    metrics: Arc<Metrics>,
    slots: Semaphore,
    on_hold: Mutex<BTreeMap<Route, Hold>>,
    changed: Notify,
}

/// The route is on hold.
#[derive(Debug)]
pub(crate) struct OnHold;

impl Routes {
    pub(crate) fn new(transport: Arc<dyn Transport>, catalog: Catalog, metrics: Arc<Metrics>) -> Self {
        metrics.on_hold(transport.channel(), 0, 0);
        let slots = Semaphore::new(transport.capacity().max(1) * STARTED_FOR_EACH);
        Self { transport, catalog, metrics, slots, on_hold: Mutex::default(), changed: Notify::new() }
    }

    /// Waits for a place among the messages that may be started, and makes sure that the tenant's route is open.
    pub(crate) async fn open(&self, tenant: &str) -> Result<SemaphorePermit<'_>, OnHold> {
        let slot = self.slots.acquire().await.map_err(|_| OnHold)?;
        if self.is_on_hold(tenant) {
            return Err(OnHold);
        }
        match self.transport.reach(None).await {
            Ok(()) => Ok(slot),
            Err(failure) => {
                // This was the first probe.
                self.suspect(Route::Whole);
                self.probed(&Route::Whole, Err(failure));
                Err(OnHold)
            }
        }
    }

    /// A message could not leave by this route: a probe is due at once, and nothing is started before its answer.
    pub(crate) fn suspect(&self, route: Route) {
        let now = Instant::now();
        self.lock().entry(route).or_insert(Hold { since: now, failed: 0, probe_at: now });
        self.changed.notify_one();
    }

    /// Whether nothing leaves at all.
    pub(crate) fn is_whole_on_hold(&self) -> bool {
        self.lock().contains_key(&Route::Whole)
    }

    /// The tenants whose sender is refused.
    pub(crate) fn refused_senders(&self) -> Vec<String> {
        let senders = |route: &Route| match route {
            Route::Sender(tenant) => Some(tenant.clone()),
            Route::Whole => None,
        };
        self.lock().keys().filter_map(senders).collect()
    }

    fn is_on_hold(&self, tenant: &str) -> bool {
        let on_hold = self.lock();
        on_hold.contains_key(&Route::Whole) || on_hold.contains_key(&Route::Sender(tenant.to_owned()))
    }

    /// Probes what is on hold, one route after the other. Never ends.
    pub(crate) async fn probe(&self) {
        loop {
            let next = self.lock().iter().map(|(route, hold)| (hold.probe_at, route.clone())).min();
            let Some((at, route)) = next else {
                self.changed.notified().await;
                continue;
            };
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.changed.notified() => continue,
            }
            let probed = match &route {
                Route::Whole => self.transport.reach(None).await,
                Route::Sender(tenant) => match self.sender(tenant) {
                    Some(sender) => self.transport.reach(Some(&sender)).await,
                    // Without a policy nothing is sent in the tenant's name.
                    None => Ok(()),
                },
            };
            self.probed(&route, probed);
        }
    }

    fn sender(&self, tenant: &str) -> Option<String> {
        let state = self.catalog.state();
        Some(state.tenant(tenant).rules.policy.as_ref()?.sender.email.clone())
    }

    /// Takes in a probe's answer, and tells people when a route goes on hold and when it is open again.
    fn probed(&self, route: &Route, answer: Result<(), RouteFailure>) {
        let channel = self.transport.channel();
        let tenant = match route {
            Route::Whole => None,
            Route::Sender(tenant) => Some(tenant.as_str()),
        };
        let mut on_hold = self.lock();
        match answer {
            Ok(()) => {
                if let Some(hold) = on_hold.remove(route).filter(|hold| hold.failed > 0) {
                    let seconds = hold.since.elapsed().as_secs();
                    info!(channel = channel.name(), tenant, seconds, "the route is open again; what waits goes out");
                }
            }
            Err(RouteFailure { stage, code, why }) => {
                let Some(hold) = on_hold.get_mut(route) else { return };
                hold.failed += 1;
                let pause = FIRST_PAUSE.saturating_mul(1 << (hold.failed - 1).min(16)).min(LONGEST_PAUSE);
                hold.probe_at = Instant::now() + pause;
                if hold.failed == 1 {
                    // A provider's words may repeat an address or a user. Without a number they are our own system's.
                    let why = if code == 0 { why } else { String::new() };
                    warn!(
                        channel = channel.name(),
                        tenant,
                        stage = stage.name(),
                        code,
                        why,
                        "the route is on hold: its messages wait, and no retry of theirs is used up; repair the mail server or its settings (sending.smtp, or the sender in the policy)"
                    );
                }
            }
        }
        let whole = u64::from(on_hold.get(&Route::Whole).is_some_and(|hold| hold.failed > 0));
        let told = on_hold.values().filter(|hold| hold.failed > 0).count() as u64;
        self.metrics.on_hold(channel, whole, told - whole);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Route, Hold>> {
        // Every change under the lock is complete in one step, so a panic elsewhere leaves nothing half-changed.
        self.on_hold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
