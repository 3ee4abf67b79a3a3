//! The routes of one channel, and which of them are on hold.
//!
//! The way of a message begins here: what a creditor has published must be readable in this process, or none of its messages can
//! be made. That is a route too, and a failure of ours is none of the reminder either.
//!
//! A failure of the route is not a failure of the reminder. Before an account is asked for a message, the route must be open.
//! When a route fails, it is tried at once without a message. If it fails again it is on hold: no account is asked for what
//! would leave by it, and one probe at growing pauses finds out when it is open again. A route that answers the probe and fails
//! at the next messages again is on hold too, so that it cannot have message after message begun in vain.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use saldo_catalog::Catalog;
use saldo_channels::{RouteFailure, Stage, Transport};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use crate::metrics::Metrics;

/// The pause after the first failed probe; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two probes: short beside a day's permitted hours, and long beside what a provider may count as
/// an attack.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A route that fails again within this time after it was opened has relapsed: the answer to a probe is not enough for it.
/// Longer than an account waits after a failure of the route.
const RELAPSE: Duration = Duration::from_secs(180);
/// Messages started for each one that the transport hands over at once. With two, the next message is ready when one ends.
/// More would only be in doubt when the process dies.
const STARTED_FOR_EACH: usize = 2;

/// The stage of a message that could not be made, because what the tenant has published cannot be read here.
pub(crate) const CATALOG: Stage = Stage::new("catalog");

/// Why a message waits whose version of the catalog is not here.
pub(crate) fn not_arrived(version: u64) -> String {
    format!("version {version} of the creditor's policy has not arrived")
}

/// A route, by the messages that leave by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Route {
    /// Every message of the channel.
    Whole,
    /// The messages of one tenant: the provider refuses its sender.
    Sender(String),
    /// The messages of one tenant: this dispatcher cannot make them of what the tenant has published.
    Catalog(String),
}

impl Route {
    fn tenant(&self) -> Option<&str> {
        match self {
            Self::Whole => None,
            Self::Sender(tenant) | Self::Catalog(tenant) => Some(tenant),
        }
    }

    /// The routes of a tenant's message.
    fn of(tenant: &str) -> [Self; 3] {
        [Self::Whole, Self::Sender(tenant.to_owned()), Self::Catalog(tenant.to_owned())]
    }
}

/// A route that failed.
#[derive(Debug)]
struct Hold {
    since: Instant,
    /// Probes that failed, and relapses. Before the first the route is only suspected, and nobody is told.
    failed: u32,
    probe_at: Instant,
    /// The version of the tenant's catalog that must have arrived first.
    awaits: u64,
}

impl Hold {
    fn pauses(&mut self) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failed.min(16)).min(LONGEST_PAUSE);
        self.failed = self.failed.saturating_add(1);
        self.probe_at = Instant::now() + pause;
    }
}

/// The routes that are not known to be open.
#[derive(Debug, Default)]
struct State {
    on_hold: BTreeMap<Route, Hold>,
    /// Routes that a probe has opened, and through which no message has gone since: when, and how often they had failed.
    opened: BTreeMap<Route, (Instant, u32)>,
}

pub(crate) struct Routes {
    transport: Arc<dyn Transport>,
    catalog: Catalog,
    metrics: Arc<Metrics>,
    slots: Arc<Semaphore>,
    state: Mutex<State>,
    changed: Notify,
}

/// The route is on hold.
#[derive(Debug)]
pub(crate) struct OnHold;

impl Routes {
    pub(crate) fn new(transport: Arc<dyn Transport>, catalog: Catalog, metrics: Arc<Metrics>) -> Self {
        metrics.on_hold(transport.channel(), 0, 0);
        let slots = Arc::new(Semaphore::new(transport.capacity().max(1) * STARTED_FOR_EACH));
        Self { transport, catalog, metrics, slots, state: Mutex::default(), changed: Notify::new() }
    }

    /// How many messages may be started and not handed over yet.
    pub(crate) fn most_started(&self) -> usize {
        self.transport.capacity().max(1) * STARTED_FOR_EACH
    }

    /// The right to start one more message, where there is one.
    pub(crate) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// Waits until one more message may be started.
    pub(crate) async fn slot_is_free(&self) {
        drop(self.slots.acquire().await);
    }

    /// Makes sure that the tenant's route is open.
    pub(crate) async fn open(&self, tenant: &str) -> Result<(), OnHold> {
        if self.is_on_hold(tenant) {
            return Err(OnHold);
        }
        self.first_probe(Route::Catalog(tenant.to_owned()), self.read_catalog(tenant, 0))?;
        self.first_probe(Route::Whole, self.transport.reach(None).await)
    }

    fn first_probe(&self, route: Route, answer: Result<(), RouteFailure>) -> Result<(), OnHold> {
        let Err(failure) = answer else { return Ok(()) };
        self.suspect(route.clone(), &failure);
        self.probed(&route, Err(failure));
        Err(OnHold)
    }

    /// Whether messages can be made of what the tenant has published, up to this version at least.
    fn read_catalog(&self, tenant: &str, version: u64) -> Result<(), RouteFailure> {
        let state = self.catalog.state();
        let own = state.tenant(tenant);
        if own.parked().is_some() {
            let why = "the policy in force cannot be read by this release".to_owned();
            return Err(RouteFailure { stage: CATALOG, code: 0, why });
        }
        if own.version < version {
            return Err(RouteFailure { stage: CATALOG, code: 0, why: not_arrived(version) });
        }
        Ok(())
    }

    /// A message of the tenant could not be made here. Nothing of the tenant is started before this version of its catalog
    /// has arrived and can be read.
    pub(crate) fn cannot_make(&self, tenant: &str, version: u64, failure: &RouteFailure) {
        let route = Route::Catalog(tenant.to_owned());
        self.suspect(route.clone(), failure);
        if let Some(hold) = self.lock().on_hold.get_mut(&route) {
            hold.awaits = hold.awaits.max(version);
        }
    }

    /// A message could not leave by this route: a probe is due at once, and nothing is started before its answer.
    pub(crate) fn suspect(&self, route: Route, failure: &RouteFailure) {
        let now = Instant::now();
        let mut state = self.lock();
        if state.on_hold.contains_key(&route) {
            return;
        }
        let mut hold = Hold { since: now, failed: 0, probe_at: now, awaits: 0 };
        if let Some((_, failed)) = state.opened.remove(&route).filter(|(opened, _)| opened.elapsed() < RELAPSE) {
            hold.failed = failed;
            hold.pauses();
            self.tell(&route, failure);
        }
        state.on_hold.insert(route, hold);
        self.count(&state);
        drop(state);
        self.changed.notify_one();
    }

    /// A message of the tenant has reached the provider.
    pub(crate) fn works_for(&self, tenant: &str) {
        let mut state = self.lock();
        if !state.opened.is_empty() {
            for route in Route::of(tenant) {
                state.opened.remove(&route);
            }
        }
    }

    /// Whether nothing leaves at all.
    pub(crate) fn is_whole_on_hold(&self) -> bool {
        self.lock().on_hold.contains_key(&Route::Whole)
    }

    /// The tenants of which nothing is started.
    pub(crate) fn tenants_on_hold(&self) -> Vec<String> {
        self.lock().on_hold.keys().filter_map(Route::tenant).map(str::to_owned).collect()
    }

    fn is_on_hold(&self, tenant: &str) -> bool {
        let state = self.lock();
        Route::of(tenant).iter().any(|route| state.on_hold.contains_key(route))
    }

    /// Probes what is on hold, one route after the other. Never ends.
    pub(crate) async fn probe(&self) {
        loop {
            let holds = |(route, hold): (&Route, &Hold)| (hold.probe_at, route.clone(), hold.awaits);
            let next = self.lock().on_hold.iter().map(holds).min();
            let Some((at, route, awaits)) = next else {
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
                Route::Catalog(tenant) => self.read_catalog(tenant, awaits),
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
        let mut state = self.lock();
        match answer {
            Ok(()) => {
                let Some(hold) = state.on_hold.remove(route) else { return };
                state.opened.insert(route.clone(), (Instant::now(), hold.failed));
                if hold.failed > 0 {
                    let (channel, seconds) = (self.transport.channel().name(), hold.since.elapsed().as_secs());
                    info!(channel, tenant = route.tenant(), seconds, "the route is open again; what waits goes out");
                }
            }
            Err(failure) => {
                let Some(hold) = state.on_hold.get_mut(route) else { return };
                hold.pauses();
                if hold.failed == 1 {
                    self.tell(route, &failure);
                }
            }
        }
        self.count(&state);
    }

    fn tell(&self, route: &Route, failure: &RouteFailure) {
        let RouteFailure { stage, code, why } = failure;
        // A provider's words may repeat an address or a user. Without a number they are our own system's.
        let why = if *code == 0 { why.as_str() } else { "" };
        let (channel, tenant, stage) = (self.transport.channel().name(), route.tenant(), stage.name());
        match route {
            Route::Whole | Route::Sender(_) => warn!(
                channel,
                tenant,
                stage,
                code,
                why,
                "the route is on hold: its messages wait, and no retry of theirs is used up; repair the mail server or its settings (sending.smtp, or the sender in the policy)"
            ),
            Route::Catalog(_) => warn!(
                channel,
                tenant,
                stage,
                why,
                "the route is on hold: this dispatcher cannot make the creditor's messages; they wait, and nothing is recorded meanwhile; upgrade this process if its release is older than the command service's, and look whether it reaches the catalog's log"
            ),
        }
    }

    fn count(&self, state: &State) {
        let whole = u64::from(state.on_hold.get(&Route::Whole).is_some_and(|hold| hold.failed > 0));
        let told = state.on_hold.values().filter(|hold| hold.failed > 0).count() as u64;
        self.metrics.on_hold(self.transport.channel(), whole, told - whole);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete in one step, so a panic elsewhere leaves nothing half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
