//! The whole system in one process: log and database, command service, projector, queries, scheduler, dispatcher, and the
//! gRPC server between them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use saldo_api::v1::{catalog_service_server::CatalogServiceServer, query_service_server::QueryServiceServer};
use saldo_auth::{Issuer, Verifier};
use saldo_catalog::Catalog;
use saldo_client::ServiceClients;
use saldo_clock::Clock;
use saldo_command::{Basis, CatalogGrpc, CommandGrpc, Commands, Options, router::Running, skew::Standing};
use saldo_embedded_postgres::Stage;
use saldo_keyring::Keyring;
use saldo_log::genesis::Identity;
use saldo_query::QueryGrpc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Endpoint, Server, server::TcpIncoming},
};

use crate::{
    Failure,
    config::Config,
    progress,
    stores::{Stores, connect, open_keyring},
    task::Task,
};

/// Largest request: above the largest commit, below gRPC's usual 4 MiB.
const MAX_REQUEST: usize = 1 << 20;
/// Largest answer: a page of 1,000 rows, or all open items of one account.
const MAX_ANSWER: usize = 16 << 20;
/// Calls under way on one connection; a client keeps what is beyond it to itself.
const MAX_STREAMS: u32 = 2_048;
/// Between two looks whether a client is still there; one that is not gives back what its calls hold.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The longest a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Connections of the projector, and of those who speak, which nobody's queries are to hold up.
const PROJECTOR_CONNECTIONS: u32 = 2;
const SPEAKING_CONNECTIONS: u32 = 6;
/// How long calls in flight, and whatever else is under way, may go on after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// How long messages that are being handed over may.
const HAND_OVER: Duration = Duration::from_secs(120);

/// How a system is started.
pub struct Start<'s> {
    /// PEM texts of the public keys that sign tokens.
    pub keys: &'s [String],
    /// The clock of every decision.
    pub clock: Clock,
    /// Make a log that is missing.
    pub create: bool,
}

/// Everything, running.
pub struct System {
    /// Where gRPC is served.
    pub address: SocketAddr,
    /// Log and database.
    pub stores: Stores,
    /// Which log it is.
    pub identity: Identity,
    /// The key store.
    pub keyring: Keyring,
    /// Scheduler and dispatcher, which ask the server.
    speaking: Vec<Task>,
    server: Task,
    running: Running,
    projector: Task,
    catalog: Task,
}

impl System {
    /// Starts everything and returns when it is ready to serve.
    pub async fn start(config: &Config, start: Start<'_>, progress: impl Fn(Stage)) -> Result<Self, Failure> {
        let Start { keys, clock, create } = start;
        // Without a key of somebody else's nothing starts; our own services have one of their own.
        Verifier::new(keys.iter().map(String::as_str))?;
        let own = Arc::new(Issuer::generate()?);
        let own_key = own.public_pem()?;
        let verifier = Verifier::new(keys.iter().chain([&own_key]).map(String::as_str))?;
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|error| format!("data_dir {}: {error}", config.data_dir.display()))?;
        let stores = Stores::open(config, progress).await?;
        let identities = stores.identities(config, create).await?;
        let identity = identities.accounts;
        let keyring = open_keyring(config, stores.log.as_ref(), &identity).await?;
        saldo_readmodel::ensure(&stores.pool, &identity).await?;
        let (published, follower) = Catalog::open(stores.catalog_log.clone(), &identities.catalog).await?;
        let catalog = Task::spawn("catalog", |stop| follower.run(stop));
        let basis = Basis { clock: clock.clone(), catalog: published.clone() };
        let options = Options { store_dir: config.data_dir.join("command"), queue: config.queue, patience: PATIENCE };
        let (commands, running) = Commands::start(stores.log.clone(), identity, basis, options).await?;
        let pool = connect(&stores.database_url, PROJECTOR_CONNECTIONS).await?;
        let (log, keys) = (stores.log.clone(), keyring.clone());
        let projector = Task::spawn("projector", |stop| saldo_projector::run(log, identity, pool, keys, stop));
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| format!("listen {}: {error}; is another instance running?", config.listen))?;
        let address = listener.local_addr()?;
        commands.caught_up().await?;
        let services = Services {
            query: {
                let clock = clock.clone();
                QueryGrpc::new(stores.pool.clone(), identity, move || clock.now())
            },
            catalog: CatalogGrpc::new(
                stores.catalog_log.clone(),
                identities.catalog,
                published.clone(),
                commands.clone(),
                keyring.clone(),
                clock.clone(),
            ),
            command: CommandGrpc::new(commands, keyring.clone()),
        };
        let server = services.serve(listener, verifier).await?;
        let mut system =
            Self { address, stores, identity, keyring, speaking: Vec::new(), server, running, projector, catalog };
        system.speak(config, own, published, clock).await?;
        Ok(system)
    }

    /// Starts scheduler and dispatcher. Without a mail server reminders fall due and wait.
    async fn speak(
        &mut self,
        config: &Config,
        issuer: Arc<Issuer>,
        published: Catalog,
        clock: Clock,
    ) -> Result<(), Failure> {
        let port = self.address.port();
        let host =
            if self.address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { self.address.ip().to_string() };
        let channel = Endpoint::from_shared(format!("http://{host}:{port}"))?.connect_lazy();
        let clients = |subject: &str| ServiceClients::new(channel.clone(), issuer.clone(), subject);
        let pool = connect(&self.stores.database_url, SPEAKING_CONNECTIONS).await?;
        let options = saldo_scheduler::Options {
            concurrency: config.sending.wakes,
            rewake_per_second: config.sending.rewakes_per_second,
            poll: config.sending.poll,
        };
        let scheduler = {
            let (pool, catalog, clients, clock) =
                (pool.clone(), published.clone(), clients("scheduler"), clock.clone());
            Task::spawn("scheduler", |stop| saldo_scheduler::run(pool, catalog, clients, clock, options, stop))
        };
        self.speaking.push(scheduler);
        let Some(smtp) = &config.sending.smtp else {
            tracing::info!("sending.smtp is not set: reminders fall due and wait in the outbox");
            return Ok(());
        };
        let server = smtp.expose().parse().map_err(|error| format!("sending.smtp: {error}"))?;
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

    /// The same for trying: what is missing is made, and a spinner says what it waits for.
    pub async fn start_shown(config: &Config, key: &Issuer, clock: Clock) -> Result<Self, Failure> {
        let bar = progress::spinner("starting");
        let keys = [key.public_pem()?];
        let start = Start { keys: &keys, clock, create: true };
        let started = Self::start(config, start, |stage| progress::show_stage(&bar, &stage)).await;
        bar.finish_and_clear();
        started
    }

    /// Resolves when something has failed for good, with why.
    pub async fn failed(&mut self) -> String {
        let parts = self.speaking.iter_mut().chain([&mut self.server, &mut self.projector, &mut self.catalog]);
        let ended = futures::future::select_all(parts.map(|part| Box::pin(part.ended())));
        tokio::select! {
            why = self.running.failed() => why,
            (why, _, _) = ended => why,
        }
    }

    /// Ends the projector alone; the read models stand where they are.
    pub async fn stop_projector(&mut self) -> Result<(), Failure> {
        self.projector.stop(DRAIN).await
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
        if tokio::time::timeout(DRAIN, self.running.finish()).await.is_err() {
            tracing::warn!("the command service's workers did not end in time");
        }
        for part in [&mut self.projector, &mut self.catalog] {
            if let Err(error) = part.stop(DRAIN).await {
                tracing::warn!(%error, "while stopping");
            }
        }
        self.stores.close().await;
    }
}

/// What is served.
struct Services {
    command: CommandGrpc,
    catalog: CatalogGrpc,
    query: QueryGrpc,
}

impl Services {
    async fn serve(self, listener: TcpListener, verifier: Verifier) -> Result<Task, Failure> {
        let mut clock = self.command.clock();
        let command = self.command.into_service(MAX_REQUEST);
        let catalog = CatalogServiceServer::new(self.catalog).max_decoding_message_size(MAX_REQUEST);
        let query = QueryServiceServer::new(self.query)
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(MAX_ANSWER);
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(saldo_api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let (health, health_service) = tonic_health::server::health_reporter();
        for service in ["", "collections.v1.CatalogService", "collections.v1.QueryService"] {
            health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
        }
        // An instance with a wrong clock decides nothing; it ends with the command service.
        let status = |standing| match standing {
            Standing::Right => tonic_health::ServingStatus::Serving,
            _ => tonic_health::ServingStatus::NotServing,
        };
        const COMMAND: &str = "collections.v1.CommandService";
        health.set_service_status(COMMAND, status(*clock.borrow_and_update())).await;
        tokio::spawn(async move {
            while clock.changed().await.is_ok() {
                let now = status(*clock.borrow_and_update());
                health.set_service_status(COMMAND, now).await;
            }
        });
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        // Health is open; everything else, reflection included, wants a token.
        let router = Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .add_service(health_service)
            .add_service(InterceptedService::new(reflection, verifier.clone()))
            .add_service(InterceptedService::new(command, verifier.clone()))
            .add_service(InterceptedService::new(catalog, verifier.clone()))
            .add_service(InterceptedService::new(query, verifier));
        Ok(Task::spawn("gRPC server", |stop: CancellationToken| {
            router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        }))
    }
}
