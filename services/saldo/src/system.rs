//! The whole system in one process: Postgres and log, command service, projector, queries, and the gRPC server.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use saldo_api::v1::{command_service_server::CommandServiceServer, query_service_server::QueryServiceServer};
use saldo_auth::Verifier;
use saldo_command::{Clock, CommandGrpc, Commands, Options, router::Running};
use saldo_embedded_postgres::{ChildCommand, EmbeddedPostgres, Stage};
use saldo_keyring::Keyring;
use saldo_log::{
    Log,
    embedded::EmbeddedLog,
    genesis::{self, Identity},
    kafka::{KafkaConfig, KafkaLog},
};
use saldo_projector::ProjectorError;
use saldo_query::QueryGrpc;
use sqlx::{Connection, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Server, server::TcpIncoming},
};

use crate::{
    config::{Config, Secret},
    progress,
};

/// Largest request: above the largest commit, below gRPC's usual 4 MiB.
const MAX_REQUEST: usize = 1 << 20;
/// Largest answer: a page of 1,000 rows, or all open items of one account.
const MAX_ANSWER: usize = 16 << 20;
/// The longest a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Connections of the queries, and of the projector, which nobody's queries are to hold up.
const QUERY_CONNECTIONS: u32 = 16;
const PROJECTOR_CONNECTIONS: u32 = 2;
/// How long calls in flight may go on after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Log and database, opened.
pub struct Stores {
    /// The accounts topic.
    pub log: Arc<dyn Log>,
    /// The read models' database.
    pub pool: PgPool,
    /// Its address.
    pub database_url: Secret,
    /// The embedded log's address, where it is one.
    pub log_url: Option<Secret>,
    postgres: Option<EmbeddedPostgres>,
}

impl Stores {
    /// Opens what the configuration names, and an embedded Postgres for what it does not.
    pub async fn open(config: &Config, progress: impl Fn(Stage)) -> Result<Self, Failure> {
        let embedded_log = config.log.kafka.is_none() && config.log.embedded_url.is_none();
        let postgres = if config.database.url.is_none() || embedded_log {
            Some(start_postgres(config, progress).await?)
        } else {
            None
        };
        let database_url = match (&config.database.url, &postgres) {
            (Some(url), _) => url.clone(),
            (None, Some(postgres)) => {
                postgres.ensure_database("saldo").await?;
                Secret::new(postgres.url("saldo"))
            }
            (None, None) => return Err("database.url is missing".into()),
        };
        let log_url = match (&config.log.embedded_url, &postgres) {
            _ if config.log.kafka.is_some() => None,
            (Some(url), _) => Some(url.clone()),
            (None, Some(postgres)) => {
                postgres.ensure_database("saldo_log").await?;
                Some(Secret::new(postgres.url("saldo_log")))
            }
            (None, None) => None,
        };
        let log = open_log(config, log_url.as_ref()).await?;
        let pool = connect(&database_url, QUERY_CONNECTIONS).await?;
        Ok(Self { log, pool, database_url, log_url, postgres })
    }

    /// The same, with a spinner that says what it waits for.
    pub async fn open_shown(config: &Config) -> Result<Self, Failure> {
        let bar = progress::spinner("opening log and database");
        let opened = Self::open(config, |stage| progress::show_stage(&bar, &stage)).await;
        bar.finish_and_clear();
        opened
    }

    /// Closes what was opened.
    pub async fn close(self) {
        self.pool.close().await;
        drop(self.log);
        if let Some(postgres) = self.postgres
            && let Err(error) = postgres.stop().await
        {
            tracing::warn!(%error, "the embedded Postgres");
        }
    }
}

async fn connect(url: &Secret, connections: u32) -> Result<PgPool, Failure> {
    let options = PgPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(10));
    let why = match options.connect(url.expose()).await {
        Ok(pool) => return Ok(pool),
        // The pool has tried for a while and says only that: one more try says why.
        Err(sqlx::Error::PoolTimedOut) => PgConnection::connect(url.expose()).await.err(),
        Err(error) => Some(error),
    };
    Err(format!("database.url: {}", why.unwrap_or(sqlx::Error::PoolTimedOut)).into())
}

async fn start_postgres(config: &Config, progress: impl Fn(Stage)) -> Result<EmbeddedPostgres, Failure> {
    let mut child = ChildCommand::this_binary(["postgres"])?;
    // A test binary stands in for `saldo` when this is set; its child must know.
    if let Some(value) = std::env::var_os("SALDO_TEST_AS_SALDO") {
        child.envs.push(("SALDO_TEST_AS_SALDO".into(), value));
    }
    let options = saldo_embedded_postgres::Options::new(config.data_dir.join("postgres"), child)
        .setting("max_connections", "100");
    Ok(EmbeddedPostgres::start(options, progress).await?)
}

/// Opens the key store. An empty one beside a log with commits is refused: their keys are elsewhere, and going on would
/// seal under new ones and read every name as erased.
pub(crate) async fn open_keyring(config: &Config, log: &dyn Log, identity: &Identity) -> Result<Keyring, Failure> {
    let dir = config.keyring_dir();
    let keyring = Keyring::open(&dir).map_err(|error| format!("keyring.dir: {error}"))?;
    if keyring.is_empty() {
        for partition in 0..identity.partitions {
            // Record 0 is the Genesis.
            if log.end(partition).await? > 1 {
                let dir = dir.display();
                let what = "holds no key, but the log holds commits whose personal data is sealed";
                return Err(format!("key store {dir} {what}; restore it, or name its folder (keyring.dir)").into());
            }
        }
    }
    Ok(keyring)
}

async fn open_log(config: &Config, embedded: Option<&Secret>) -> Result<Arc<dyn Log>, Failure> {
    if let Some(brokers) = &config.log.kafka {
        let kafka = KafkaLog::connect(KafkaConfig {
            brokers: brokers.clone(),
            topic: config.log.topic.clone(),
            replication_factor: config.log.replication_factor as i32,
            allow_unsafe: config.log.allow_unsafe,
        });
        return Ok(Arc::new(kafka.await.map_err(|error| format!("log.kafka {brokers}: {error}"))?));
    }
    let url = embedded.ok_or("neither log.kafka nor an embedded log is configured")?;
    let log = EmbeddedLog::connect(url.expose(), &config.log.topic).await;
    Ok(Arc::new(log.map_err(|error| format!("log.embedded_url: {error}"))?))
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
    stop: CancellationToken,
    stop_projector: CancellationToken,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    projector: JoinHandle<Result<(), ProjectorError>>,
    running: Running,
}

impl System {
    /// Starts everything and returns when it is ready to serve. With `create`, a log that is missing is made.
    pub async fn start(
        config: &Config,
        verifier: Verifier,
        clock: Clock,
        create: bool,
        progress: impl Fn(Stage),
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|error| format!("data_dir {}: {error}", config.data_dir.display()))?;
        let stores = Stores::open(config, progress).await?;
        let identity = if create {
            genesis::create(stores.log.as_ref(), config.log.partitions).await?
        } else {
            genesis::open(stores.log.as_ref()).await?
        };
        let keyring = open_keyring(config, stores.log.as_ref(), &identity).await?;
        saldo_readmodel::ensure(&stores.pool, &identity).await?;
        let options = Options { store_dir: config.data_dir.join("command"), queue: config.queue, patience: PATIENCE };
        let (commands, running) = Commands::start(stores.log.clone(), identity, clock.clone(), options).await?;
        let stop = CancellationToken::new();
        let stop_projector = stop.child_token();
        let projector = tokio::spawn(saldo_projector::run(
            stores.log.clone(),
            identity,
            connect(&stores.database_url, PROJECTOR_CONNECTIONS).await?,
            keyring.clone(),
            stop_projector.clone(),
        ));
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| format!("listen {}: {error}; is another instance running?", config.listen))?;
        let address = listener.local_addr()?;
        commands.caught_up().await?;
        let query = QueryGrpc::new(stores.pool.clone(), identity, move || clock.now());
        let command = CommandGrpc::new(commands, keyring.clone());
        let server = tokio::spawn(serve(listener, verifier, command, query, stop.clone()).await?);
        Ok(Self { address, stores, identity, keyring, stop, stop_projector, server, projector, running })
    }

    /// The same for trying: what is missing is made, and a spinner says what it waits for.
    pub async fn start_shown(config: &Config, verifier: Verifier, clock: Clock) -> Result<Self, Failure> {
        let bar = progress::spinner("starting");
        let started = Self::start(config, verifier, clock, true, |stage| progress::show_stage(&bar, &stage)).await;
        bar.finish_and_clear();
        started
    }

    /// Resolves when something has failed for good, with why.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            why = self.running.failed() => why,
            outcome = &mut self.projector => match outcome {
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(())) => "the projector ended".to_owned(),
                Err(error) => format!("the projector: {error}"),
            },
            outcome = &mut self.server => match outcome {
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(())) => "the gRPC server ended".to_owned(),
                Err(error) => format!("the gRPC server: {error}"),
            },
        }
    }

    /// Ends the projector alone; the read models stand where they are.
    pub async fn stop_projector(&mut self) -> Result<(), Failure> {
        self.stop_projector.cancel();
        Ok((&mut self.projector).await??)
    }

    /// Stops in order: no new calls, calls in flight answered, workers and projector ended, stores closed.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if !self.server.is_finished() && tokio::time::timeout(DRAIN, &mut self.server).await.is_err() {
            tracing::warn!("calls in flight did not end in time");
            self.server.abort();
        }
        if tokio::time::timeout(DRAIN, self.running.finish()).await.is_err() {
            tracing::warn!("the command service's workers did not end in time");
        }
        if !self.projector.is_finished() && tokio::time::timeout(DRAIN, &mut self.projector).await.is_err() {
            self.projector.abort();
        }
        self.stores.close().await;
    }
}

async fn serve(
    listener: TcpListener,
    verifier: Verifier,
    command: CommandGrpc,
    query: QueryGrpc,
    stop: CancellationToken,
) -> Result<impl Future<Output = Result<(), tonic::transport::Error>>, Failure> {
    let command = CommandServiceServer::new(command).max_decoding_message_size(MAX_REQUEST);
    let query =
        QueryServiceServer::new(query).max_decoding_message_size(MAX_REQUEST).max_encoding_message_size(MAX_ANSWER);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(saldo_api::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    for service in ["collections.v1.CommandService", "collections.v1.QueryService"] {
        health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    // Health is open; everything else, reflection included, wants a token.
    let router = Server::builder()
        .add_service(health_service)
        .add_service(InterceptedService::new(reflection, verifier.clone()))
        .add_service(InterceptedService::new(command, verifier.clone()))
        .add_service(InterceptedService::new(query, verifier));
    Ok(async move { router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await })
}
