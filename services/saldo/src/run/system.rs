//! The services of one process, running: all of them, or one of several that make up the whole.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use saldo_auth::Issuer;
use saldo_catalog::Catalog;
use saldo_channels::Transports;
use saldo_client::ServiceClients;
use saldo_clock::Clock;
use saldo_command::{Basis, CatalogGrpc, CommandGrpc, Commands, Options, Running};
use saldo_keyring::Keyring;
use saldo_log::{genesis::Identity, same::Trust};
use saldo_query::QueryGrpc;
use saldo_tls::Newest;
use sqlx::PgPool;
use tokio_rustls::rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    belonging::check_catalog,
    grpc::{Endpoint, GrpcServices},
    guard::{Fit, Guard},
    keys::Keys,
    resources::Resources,
    service::Service,
    start::Start,
    stores::{Stores, connect},
    task::Task,
    telemetry,
};
use crate::{Failure, config::Config, terminal::progress};

/// The longest a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Connections to Postgres: queries, projector and senders each have their own, so that no query holds up the others.
const QUERY_CONNECTIONS: u32 = 16;
const PROJECTOR_CONNECTIONS: u32 = 3;
const SENDER_CONNECTIONS: u32 = 6;
/// The longest the database may work on a query. With what comes before it, still below the longest a call may take.
const LONGEST_QUERY: Duration = Duration::from_secs(30);
/// How long calls in flight, and other work under way, may go on after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the log is looked at after a part has failed, since it may be another log than before.
const DOUBT: Duration = Duration::from_secs(5);
/// How long scheduler and dispatcher may: messages that are being handed over must have their outcome recorded.
const HAND_OVER: Duration = saldo_dispatcher::DRAIN.saturating_add(DRAIN);

pub struct System {
    /// Where gRPC is served.
    pub address: SocketAddr,
    secured: bool,
    pub stores: Stores,
    pub identity: Identity,
    /// Where one of the services needs it.
    pub keyring: Option<Keyring>,
    /// Scheduler and dispatcher.
    senders: Vec<Task>,
    server: Task,
    /// The command service's workers.
    workers: Option<Running>,
    /// Tasks that the others rest on: they end last.
    followers: Vec<Task>,
    projector: Option<Task>,
    /// Whether the process still trusts its log, and its read models.
    trust: Trust,
    rows: Trust,
    /// Connections of the parts, closed before the database.
    pools: Vec<PgPool>,
}

impl System {
    /// Starts services and returns when they are ready.
    pub async fn start(
        config: &Config,
        start: Start<'_>,
        endpoint: Endpoint,
        resources: Resources,
    ) -> Result<Self, Failure> {
        let Start { services, clock, keys, issuer, transports, server_tls, client_tls } = start;
        let Resources { stores, identities, keyring } = resources;
        let identity = identities.accounts.clone();
        let has = |service| services.contains(&service);
        telemetry::log_is_open(&identity);
        let address = endpoint.address;
        let (mut followers, mut pools) = (Vec::new(), Vec::new());
        let verifier = keys.as_ref().map(Keys::verifier);
        if let Some(keys) = keys {
            followers.push(Task::spawn("keys of tokens", |stop| keys.follow(stop)));
        }
        let (trust, rows, fit) = (Trust::default(), Trust::default(), Fit::default());
        let mut published = None;
        if services.iter().any(|service| service.uses_catalog()) {
            let (catalog, follower) = Catalog::open(stores.catalog_log.clone(), &identities.catalog).await?;
            check_catalog(&catalog.state(), stores.log.as_ref(), &identity)?;
            followers.push(Task::spawn("catalog", |stop| follower.run(stop)));
            published = Some(catalog);
        }
        let projector = match (has(Service::Projector), &keyring, &published) {
            (true, Some(keys), Some(catalog)) => {
                let url = &stores.database()?.url;
                let pool = connect(url, PROJECTOR_CONNECTIONS, None).await?;
                pools.push(pool.clone());
                // A query right after the start must find the tables.
                saldo_readmodel::ensure(&pool, &identity).await?;
                let (tenants, catalog, clock) = (pool.clone(), catalog.clone(), clock.clone());
                followers
                    .push(Task::spawn("tenants", |stop| saldo_projector::keep_tenants(tenants, catalog, clock, stop)));
                let (log, identity, keys) = (stores.log.clone(), identity.clone(), keys.clone());
                Some(Task::spawn("projector", |stop| saldo_projector::run(log, identity, pool, keys, stop)))
            }
            _ => None,
        };
        let (mut served, mut workers) = (GrpcServices::default(), None);
        if let (true, Some(keyring), Some(published)) = (has(Service::Command), &keyring, &published) {
            let basis = Basis { clock: clock.clone(), catalog: published.clone() };
            let store_dir = config.data_dir.join("command");
            let (trust, keyring) = (trust.clone(), keyring.clone());
            let options =
                Options { store_dir, queue: config.queue, patience: PATIENCE, trust, keyring: keyring.clone() };
            let (commands, running) = Commands::start(stores.log.clone(), identity.clone(), basis, options).await?;
            commands.caught_up().await?;
            let catalog = CatalogGrpc::new(
                stores.catalog_log.clone(),
                identities.catalog.clone(),
                published.clone(),
                commands.clone(),
                keyring.clone(),
                clock.clone(),
            );
            served.command = Some((CommandGrpc::new(commands, keyring), catalog));
            workers = Some(running);
        }
        if has(Service::Query) {
            let pool = connect(&stores.database()?.url, QUERY_CONNECTIONS, Some(LONGEST_QUERY)).await?;
            pools.push(pool.clone());
            let clock = clock.clone();
            served.query = Some(QueryGrpc::new(pool, identity.clone(), move || clock.now()).trusting(rows.clone()));
        }
        let guard = Guard {
            log: stores.log.clone(),
            catalog_log: stores.catalog_log.clone(),
            identities,
            trust: trust.clone(),
            rows: rows.clone(),
            keyring: keyring.clone(),
            notes: has(Service::Command),
            catalog: published.clone(),
            pool: services
                .iter()
                .any(|service| service.uses_database())
                .then(|| stores.database())
                .transpose()?
                .map(|database| database.pool.clone()),
            fit: fit.clone(),
        };
        followers.push(Task::spawn("guard", |stop| guard.run(stop)));
        let sending = match (issuer, published) {
            (Some(issuer), Some(published)) => {
                let pool = connect(&stores.database()?.url, SENDER_CONNECTIONS, None).await?;
                pools.push(pool.clone());
                Some((pool, issuer, published))
            }
            _ => None,
        };
        let secured = server_tls.is_some();
        // Nothing is waited for behind this: whoever is asked to stop once the first call was answered stops in order.
        let (server, in_process) = endpoint.serve(served, verifier, fit.watch()).await?;
        let senders = Vec::new();
        let mut system = Self {
            address,
            secured,
            stores,
            identity,
            keyring,
            senders,
            server,
            workers,
            followers,
            projector,
            trust,
            rows,
            pools,
        };
        if let Some((pool, issuer, published)) = sending {
            let channels = match has(Service::Command) {
                true => [saldo_client::in_process(move || in_process.clone().open())?].into(),
                false => command_instances(config, client_tls.as_ref())?,
            };
            let sending = Sending { pool, channels, issuer, published, clock, transports };
            system.start_senders(config, services, sending)?;
        }
        system.stop_with_trust();
        Ok(system)
    }

    /// Projector, scheduler and dispatcher stop once what they work on is not their own.
    fn stop_with_trust(&self) {
        let stops: Vec<_> = self.senders.iter().chain(&self.projector).map(Task::stop_token).collect();
        let rows = self.rows.clone();
        tokio::spawn(async move {
            rows.until_lost().await;
            stops.iter().for_each(CancellationToken::cancel);
        });
    }

    /// Starts scheduler and dispatcher. Without a mail server reminders fall due and wait.
    fn start_senders(&mut self, config: &Config, services: &[Service], with: Sending) -> Result<(), Failure> {
        let Sending { pool, channels, issuer, published, clock, transports } = with;
        let clients = |subject: &str| ServiceClients::new(channels.clone(), issuer.clone(), subject);
        if services.contains(&Service::Scheduler) {
            let options = saldo_scheduler::Options {
                concurrency: config.sending.wakes,
                rewake_per_second: config.sending.rewakes_per_second,
                poll: config.sending.poll,
            };
            let (pool, catalog, clients, clock) =
                (pool.clone(), published.clone(), clients("scheduler"), clock.clone());
            self.senders.push(Task::spawn("scheduler", |stop| {
                saldo_scheduler::run(pool, catalog, clients, clock, options, stop)
            }));
        }
        if !services.contains(&Service::Dispatcher) {
            return Ok(());
        }
        if transports.is_empty() {
            tracing::warn!("sending.smtp is not set: reminders fall due and wait in the outbox");
            return Ok(());
        }
        let dispatcher = saldo_dispatcher::Dispatcher {
            pool,
            log: self.stores.log.clone(),
            identity: self.identity.clone(),
            catalog: published,
            clients: clients("dispatcher"),
            clock,
            transports,
            options: saldo_dispatcher::Options {
                concurrency: config.sending.attempts,
                poll: config.sending.poll,
                ..Default::default()
            },
        };
        self.senders.push(Task::spawn("dispatcher", |stop| dispatcher.run(stop)));
        Ok(())
    }

    /// Where gRPC is served, as a URL.
    pub fn endpoint(&self) -> String {
        format!("http{}://{}", if self.secured { "s" } else { "" }, self.address)
    }

    /// Starts every service for exploration: a missing log is created, and a spinner says what the start waits for.
    pub async fn start_shown(config: &Config, key: &Issuer, clock: Clock) -> Result<Self, Failure> {
        let bar = progress::spinner("starting");
        let started = async {
            let show = |stage| progress::show_stage(&bar, &stage);
            let now = clock.now();
            let start = Start::new(config, Service::ALL, Some(key), clock)?;
            let endpoint = Endpoint::open(config, Service::ALL, start.server_tls.clone()).await?;
            Self::start(config, start, endpoint, Resources::open(config, Service::ALL, Some(now), show).await?).await
        };
        let started = started.await;
        bar.finish_and_clear();
        started
    }

    /// Resolves with the reason when a part has failed for good. A process whose log or database is not its own any more stays,
    /// and says so in its health.
    pub async fn failed(&mut self) -> String {
        let why = self.part_failed().await;
        self.trust.doubt();
        let lost = tokio::time::timeout(DOUBT, self.rows.until_lost());
        if lost.await.is_ok() {
            tracing::error!(why, "a part has ended, since what it worked on is not its own");
            return std::future::pending().await;
        }
        why
    }

    async fn part_failed(&mut self) -> String {
        let parts = self.senders.iter_mut().chain(&mut self.followers).chain(&mut self.projector);
        let parts = parts.chain([&mut self.server]);
        let ended = futures::future::select_all(parts.map(|part| Box::pin(part.ended())));
        let workers = async {
            match &self.workers {
                Some(workers) => workers.failed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            why = workers => why,
            (why, _, _) = ended => why,
        }
    }

    /// Stops the projector alone. The read models stay as they are.
    pub async fn stop_projector(&mut self) -> Result<(), Failure> {
        match &mut self.projector {
            Some(projector) => projector.stop(DRAIN).await,
            None => Ok(()),
        }
    }

    /// Stops in order. First the senders: nothing new is sent, and each message that is being handed over gets its outcome.
    /// Then the server: no new calls, and the calls in flight are answered. Then workers and projector, then the stores.
    pub async fn stop(mut self) {
        let mut parts: Vec<(&mut Task, Duration)> = self.senders.iter_mut().map(|part| (part, HAND_OVER)).collect();
        parts.push((&mut self.server, DRAIN));
        for (part, patience) in parts {
            if let Err(error) = part.stop(patience).await {
                tracing::warn!(%error, "while stopping");
            }
        }
        if let Some(workers) = self.workers
            && tokio::time::timeout(DRAIN, workers.finish()).await.is_err()
        {
            tracing::warn!("the command service's workers did not end in time");
        }
        for part in self.followers.iter_mut().chain(&mut self.projector) {
            if let Err(error) = part.stop(DRAIN).await {
                tracing::warn!(%error, "while stopping");
            }
        }
        // An embedded Postgres must not stop under a connection that is on its way back to its pool.
        let closing = futures::future::join_all(self.pools.iter().map(PgPool::close));
        if tokio::time::timeout(DRAIN, closing).await.is_err() {
            tracing::warn!("connections to Postgres did not close in time");
        }
        self.stores.close().await;
    }
}

/// For scheduler and dispatcher.
struct Sending {
    pool: PgPool,
    /// One for each instance of the command service.
    channels: Arc<[Channel]>,
    issuer: Arc<Issuer>,
    published: Catalog,
    clock: Clock,
    transports: Transports,
}

/// The command service's instances that the configuration names.
fn command_instances(config: &Config, tls: Option<&Newest<ClientConfig>>) -> Result<Arc<[Channel]>, Failure> {
    let channel = |url: &String| {
        let dial = saldo_client::Dial::new(url, tls).map_err(|error| format!("services.command: {error}"))?;
        Ok(dial.connect_lazy())
    };
    config.services.command.iter().map(channel).collect()
}
