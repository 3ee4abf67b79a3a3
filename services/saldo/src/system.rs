//! The services of one process, running: all of them, or one of several that make up the whole.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use saldo_auth::{Issuer, Verifier};
use saldo_catalog::Catalog;
use saldo_channels::smtp::Server;
use saldo_client::ServiceClients;
use saldo_clock::Clock;
use saldo_command::{Basis, CatalogGrpc, CommandGrpc, Commands, Options, router::Running};
use saldo_keyring::Keyring;
use saldo_log::genesis::Identity;
use saldo_query::QueryGrpc;
use saldo_tls::Newest;
use tokio::net::TcpListener;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tonic::transport::Channel;

use crate::{
    Failure,
    config::Config,
    ground::Ground,
    progress,
    server::Served,
    service::Service,
    stores::{Stores, connect},
    task::Task,
};

/// The longest a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Connections of the queries, of the projector, and of those who speak, which nobody's queries are to hold up.
const QUERY_CONNECTIONS: u32 = 16;
const PROJECTOR_CONNECTIONS: u32 = 2;
const SPEAKING_CONNECTIONS: u32 = 6;
/// The longest the database may work on a query. With what comes before it, still below the longest a call may take.
const LONGEST_QUERY: Duration = Duration::from_secs(30);
/// How long calls in flight, and whatever else is under way, may go on after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// How long scheduler and dispatcher may: with messages that are being handed over, and what it then has to say of them.
const HAND_OVER: Duration = saldo_dispatcher::DRAIN.saturating_add(DRAIN);

/// How services are started. Whatever can be wrong in their settings is said before anything is opened.
pub struct Start<'s> {
    services: &'s [Service],
    clock: Clock,
    /// Checks tokens, where somebody asks.
    verifier: Option<Verifier>,
    /// Signs the tokens of those who ask.
    issuer: Option<Arc<Issuer>>,
    smtp: Option<Server>,
    /// How gRPC is served.
    tls: Option<Newest<ServerConfig>>,
    /// How other services are asked.
    asking: Option<Newest<ClientConfig>>,
}

impl<'s> Start<'s> {
    /// These services, answering tokens that are signed by one of these public keys (PEM), and deciding by this clock.
    pub fn new(config: &Config, services: &'s [Service], keys: &[String], clock: Clock) -> Result<Self, Failure> {
        let any = |what: fn(Service) -> bool| services.iter().copied().any(what);
        let own = services.contains(&Service::Command);
        let issuer = match &config.auth.service_key {
            _ if !any(Service::asks) => None,
            Some(path) => Some(Issuer::read(path).map_err(|error| format!("auth.service_key: {error}"))?),
            None if own => Some(Issuer::generate()?),
            None => {
                let what =
                    "the private key that signs this service's tokens, made by `saldo token --key FILE --public-key`";
                return Err(format!("auth.service_key is missing: {what}, which prints what stands among the command service's auth.public_keys").into());
            }
        };
        if any(Service::asks) && !own && config.services.command.is_empty() {
            return Err("services.command is missing: where the command service's instances are".into());
        }
        let mut accepted: Vec<String> = keys.to_vec();
        let verifier = match any(Service::is_asked) {
            false => None,
            true => {
                // Without a key of somebody else's nothing starts.
                Verifier::new(keys.iter().map(String::as_str))?;
                accepted.extend(issuer.as_ref().map(Issuer::public_pem).transpose()?);
                Some(Verifier::new(accepted.iter().map(String::as_str))?)
            }
        };
        let smtp = match &config.sending.smtp {
            Some(url) if services.contains(&Service::Dispatcher) => {
                let server: Server = url.expose().parse().map_err(|error| format!("sending.smtp: {error}"))?;
                Some(match &config.sending.smtp_ca {
                    None => server,
                    Some(ca) => server.trusting(ca.clone()).map_err(|error| format!("sending.smtp_ca: {error}"))?,
                })
            }
            _ => None,
        };
        let tls = config.tls.files()?.map(|files| files.open().map_err(|error| format!("tls: {error}"))).transpose()?;
        let asking = match any(Service::asks) && !own {
            true => Some(config.services.files()?.open().map_err(|error| format!("services: {error}"))?),
            false => None,
        };
        Ok(Self { services, clock, verifier, issuer: issuer.map(Arc::new), smtp, tls, asking })
    }
}

/// Services, running.
pub struct System {
    /// Where gRPC is served.
    pub address: SocketAddr,
    /// Whether it is over TLS.
    secured: bool,
    /// Log and database.
    pub stores: Stores,
    /// Which log it is.
    pub identity: Identity,
    /// The key store, where one of the services needs it.
    pub keyring: Option<Keyring>,
    /// Scheduler and dispatcher, which ask the command service.
    speaking: Vec<Task>,
    server: Task,
    running: Option<Running>,
    /// What goes on until the others have ended.
    followers: Vec<Task>,
    projector: Option<Task>,
}

impl System {
    /// Starts services and returns when they are ready.
    pub async fn start(config: &Config, start: Start<'_>, ground: Ground) -> Result<Self, Failure> {
        let Start { services, clock, verifier, issuer, smtp, tls, asking } = start;
        let Ground { stores, identities, keyring } = ground;
        let identity = identities.accounts;
        let has = |service| services.contains(&service);
        let port = services.first().map_or(0, |service| service.port());
        let listen = config.listen(port);
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| format!("listen {listen}: {error}; is another instance running?"))?;
        let address = listener.local_addr()?;
        let mut followers = Vec::new();
        let mut published = None;
        if services.iter().any(|service| service.uses_catalog()) {
            let (catalog, follower) = Catalog::open(stores.catalog_log.clone(), &identities.catalog).await?;
            followers.push(Task::spawn("catalog", |stop| follower.run(stop)));
            published = Some(catalog);
        }
        let projector = match (has(Service::Projector), &keyring) {
            (true, Some(keys)) => {
                let url = &stores.database()?.url;
                let pool = connect(url, PROJECTOR_CONNECTIONS, None).await?;
                // Nobody who asks at once is to find no tables.
                saldo_readmodel::ensure(&pool, &identity).await?;
                let (log, keys) = (stores.log.clone(), keys.clone());
                Some(Task::spawn("projector", |stop| saldo_projector::run(log, identity, pool, keys, stop)))
            }
            _ => None,
        };
        let (mut served, mut running) = (Served::default(), None);
        if let (true, Some(keyring), Some(published)) = (has(Service::Command), &keyring, &published) {
            let basis = Basis { clock: clock.clone(), catalog: published.clone() };
            let store_dir = config.data_dir.join("command");
            let options = Options { store_dir, queue: config.queue, patience: PATIENCE };
            let (commands, workers) = Commands::start(stores.log.clone(), identity, basis, options).await?;
            commands.caught_up().await?;
            let catalog = CatalogGrpc::new(
                stores.catalog_log.clone(),
                identities.catalog,
                published.clone(),
                commands.clone(),
                keyring.clone(),
                clock.clone(),
            );
            served.command = Some((CommandGrpc::new(commands, keyring.clone()), catalog));
            running = Some(workers);
        }
        if has(Service::Query) {
            let pool = connect(&stores.database()?.url, QUERY_CONNECTIONS, Some(LONGEST_QUERY)).await?;
            let clock = clock.clone();
            served.query = Some(QueryGrpc::new(pool, identity, move || clock.now()));
        }
        let secured = tls.is_some();
        let (server, within) = served.serve(listener, tls, verifier).await?;
        let speaking = Vec::new();
        let mut system =
            Self { address, secured, stores, identity, keyring, speaking, server, running, followers, projector };
        if let (Some(issuer), Some(published)) = (issuer, published) {
            let channels = match has(Service::Command) {
                true => [saldo_client::within(move || within.clone().open())?].into(),
                false => named_instances(config, asking.as_ref())?,
            };
            system.speak(config, services, Voice { channels, issuer, published, clock, smtp }).await?;
        }
        Ok(system)
    }

    /// Starts scheduler and dispatcher. Without a mail server reminders fall due and wait.
    async fn speak(&mut self, config: &Config, services: &[Service], voice: Voice) -> Result<(), Failure> {
        let Voice { channels, issuer, published, clock, smtp } = voice;
        let clients = |subject: &str| ServiceClients::new(channels.clone(), issuer.clone(), subject);
        let pool = connect(&self.stores.database()?.url, SPEAKING_CONNECTIONS, None).await?;
        if services.contains(&Service::Scheduler) {
            let options = saldo_scheduler::Options {
                concurrency: config.sending.wakes,
                rewake_per_second: config.sending.rewakes_per_second,
                poll: config.sending.poll,
            };
            let (pool, catalog, clients, clock) =
                (pool.clone(), published.clone(), clients("scheduler"), clock.clone());
            self.speaking.push(Task::spawn("scheduler", |stop| {
                saldo_scheduler::run(pool, catalog, clients, clock, options, stop)
            }));
        }
        if !services.contains(&Service::Dispatcher) {
            return Ok(());
        }
        let Some(server) = smtp else {
            tracing::warn!("sending.smtp is not set: reminders fall due and wait in the outbox");
            return Ok(());
        };
        let dispatcher = saldo_dispatcher::Dispatcher {
            pool,
            log: self.stores.log.clone(),
            identity: self.identity,
            catalog: published,
            clients: clients("dispatcher"),
            clock,
            channel: Arc::new(saldo_channels::smtp::Pool::new(server, config.sending.smtp_connections)),
            options: saldo_dispatcher::Options {
                concurrency: config.sending.attempts,
                poll: config.sending.poll,
                ..Default::default()
            },
        };
        self.speaking.push(Task::spawn("dispatcher", |stop| dispatcher.run(stop)));
        Ok(())
    }

    /// Where gRPC is served, as a URL.
    pub fn endpoint(&self) -> String {
        format!("http{}://{}", if self.secured { "s" } else { "" }, self.address)
    }

    /// Everything for trying: what is missing is made, and a spinner says what it waits for.
    pub async fn start_shown(config: &Config, key: &Issuer, clock: Clock) -> Result<Self, Failure> {
        let bar = progress::spinner("starting");
        let keys = [key.public_pem()?];
        let started = async {
            let show = |stage| progress::show_stage(&bar, &stage);
            let now = clock.now();
            let start = Start::new(config, Service::ALL, &keys, clock)?;
            Self::start(config, start, Ground::open(config, Service::ALL, Some(now), show).await?).await
        };
        let started = started.await;
        bar.finish_and_clear();
        started
    }

    /// Resolves when something has failed for good, with why.
    pub async fn failed(&mut self) -> String {
        let parts = self.speaking.iter_mut().chain(&mut self.followers).chain(&mut self.projector);
        let parts = parts.chain([&mut self.server]);
        let ended = futures::future::select_all(parts.map(|part| Box::pin(part.ended())));
        let workers = async {
            match &self.running {
                Some(running) => running.failed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            why = workers => why,
            (why, _, _) = ended => why,
        }
    }

    /// Ends the projector alone; the read models stand where they are.
    pub async fn stop_projector(&mut self) -> Result<(), Failure> {
        match &mut self.projector {
            Some(projector) => projector.stop(DRAIN).await,
            None => Ok(()),
        }
    }

    /// Stops in order: nothing new is sent and what is being handed over has its outcome, no new calls, calls in flight
    /// answered, workers and projector ended, stores closed.
    pub async fn stop(mut self) {
        let mut parts: Vec<(&mut Task, Duration)> = self.speaking.iter_mut().map(|part| (part, HAND_OVER)).collect();
        parts.push((&mut self.server, DRAIN));
        for (part, patience) in parts {
            if let Err(error) = part.stop(patience).await {
                tracing::warn!(%error, "while stopping");
            }
        }
        if let Some(running) = self.running
            && tokio::time::timeout(DRAIN, running.finish()).await.is_err()
        {
            tracing::warn!("the command service's workers did not end in time");
        }
        for part in self.followers.iter_mut().chain(&mut self.projector) {
            if let Err(error) = part.stop(DRAIN).await {
                tracing::warn!(%error, "while stopping");
            }
        }
        self.stores.close().await;
    }
}

/// With what scheduler and dispatcher speak.
struct Voice {
    /// The command service's instances.
    channels: Arc<[Channel]>,
    issuer: Arc<Issuer>,
    published: Catalog,
    clock: Clock,
    smtp: Option<Server>,
}

/// The command service's instances that are named.
fn named_instances(config: &Config, tls: Option<&Newest<ClientConfig>>) -> Result<Arc<[Channel]>, Failure> {
    let channel = |url: &String| {
        let dial = saldo_client::Dial::new(url, tls).map_err(|error| format!("services.command: {error}"))?;
        Ok(dial.connect_lazy())
    };
    config.services.command.iter().map(channel).collect()
}
