//! The read models, the logs and the accounts that a dispatcher works with, and the dispatcher itself.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use saldo_auth::Issuer;
use saldo_catalog::{CHAIN, Catalog};
use saldo_channels::Transports;
use saldo_client::ServiceClients;
use saldo_clock::Clock;
use saldo_dispatcher::{Dispatcher, Options};
use saldo_domain::party::Channel;
use saldo_facts::{CatalogEvent, CatalogVersions, Commit, PolicyPublished, TemplatePublished};
use saldo_log::{
    Log, NewRecord,
    embedded::EmbeddedLog,
    frame::{self, Kind},
    genesis,
    keys::LogKeys,
};
use saldo_test_postgres::{Failure, Outcome};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::{
    PATIENCE,
    accounts::{Accounts, Seen},
};

pub const POLICY: &str = include_str!("../../../../docs/policy/policy.toml");
const TEMPLATES: [(&str, &str); 10] = [
    ("courtesy.es", include_str!("../../../../docs/policy/templates/courtesy.es.toml")),
    ("courtesy.en", include_str!("../../../../docs/policy/templates/courtesy.en.toml")),
    ("due-today.es", include_str!("../../../../docs/policy/templates/due-today.es.toml")),
    ("due-today.en", include_str!("../../../../docs/policy/templates/due-today.en.toml")),
    ("first-reminder.es", include_str!("../../../../docs/policy/templates/first-reminder.es.toml")),
    ("first-reminder.en", include_str!("../../../../docs/policy/templates/first-reminder.en.toml")),
    ("second-reminder.es", include_str!("../../../../docs/policy/templates/second-reminder.es.toml")),
    ("second-reminder.en", include_str!("../../../../docs/policy/templates/second-reminder.en.toml")),
    ("formal-demand.es", include_str!("../../../../docs/policy/templates/formal-demand.es.toml")),
    ("formal-demand.en", include_str!("../../../../docs/policy/templates/formal-demand.en.toml")),
];
/// Read models, logs and accounts that a dispatcher works with.
pub struct Office {
    pool: PgPool,
    schema: String,
    log: Arc<dyn Log>,
    identity: genesis::Identity,
    catalog_log: Arc<dyn Log>,
    catalog_identity: genesis::Identity,
    /// The hash of acme's first commit in the catalog.
    pub published: [u8; 32],
    pub seen: watch::Receiver<Seen>,
    address: std::net::SocketAddr,
    issuer: Arc<Issuer>,
    accounts: JoinHandle<()>,
}

impl Office {
    /// Over an empty database.
    pub async fn open(url: &str) -> Result<Self, Failure> {
        let pool = PgPool::connect(url).await?;
        let log = EmbeddedLog::connect(url, "accounts").await?;
        let identity = genesis::create(&log, 1, &LogKeys::fixed([3; 32])).await?;
        let catalog_log = EmbeddedLog::connect(url, "catalog").await?;
        let catalog_identity = genesis::create(&catalog_log, 1, &identity.keys).await?;
        let first = frame::first_parent(&catalog_identity.log_id, &format!("acme/{CHAIN}"));
        let published = publish(&catalog_log, ("acme", 1, first), POLICY).await?;
        let schema = saldo_readmodel::ensure(&pool, &identity).await?.name().to_owned();
        let caught_up = format!("UPDATE {schema}.checkpoints SET next_offset = 1");
        sqlx::query(AssertSqlSafe(caught_up)).execute(&pool).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (seeing, seen) = watch::channel(Seen::default());
        let accounts = Accounts(Arc::new(seeing));
        let serving = tonic::transport::Server::builder().add_service(accounts);
        let accounts = tokio::spawn(async move {
            let _ = serving.serve_with_incoming(TcpIncoming::from(listener)).await;
        });
        Ok(Self {
            pool,
            schema,
            log: Arc::new(log),
            identity,
            catalog_log: Arc::new(catalog_log),
            catalog_identity,
            published,
            seen,
            address,
            issuer: Arc::new(Issuer::generate()?),
            accounts,
        })
    }

    /// So many of a tenant's accounts have a reminder due, for so many minutes.
    pub async fn owe(&self, tenant: &str, accounts: i32, channel: Channel, minutes: i32) -> Outcome {
        let prefix = match channel {
            Channel::Email => format!("{tenant}-"),
            other => format!("{tenant}-{}-", other.name()),
        };
        let statement = format!(
            "INSERT INTO {}.reminders (tenant, account, reminder, step, tone, channel, template, due_at, status, ready_at,
                                       attempts, changed_at, needs_person, version, partition, record_offset)
             SELECT $1, $2 || n, 1, 'first', 'friendly', $3, 'first-reminder', at, 'due', at, 0, at, false, 1, 0, 0
             FROM generate_series(1, $4) n, (SELECT now() - $5 * interval '1 minute') due(at)",
            self.schema
        );
        let insert = sqlx::query(AssertSqlSafe(statement));
        insert.bind(tenant).bind(prefix).bind(channel.name()).bind(accounts).bind(minutes).execute(&self.pool).await?;
        Ok(())
    }

    /// The parent of the first commit on a tenant's chain of the catalog.
    pub fn first_parent(&self, tenant: &str) -> [u8; 32] {
        frame::first_parent(&self.catalog_identity.log_id, &format!("{tenant}/{CHAIN}"))
    }

    /// A policy, behind the parent on the tenant's chain; the hash of the record.
    pub async fn publish(
        &self,
        tenant: &str,
        version: u64,
        parent: [u8; 32],
        policy: &str,
    ) -> Result<[u8; 32], Failure> {
        publish(self.catalog_log.as_ref(), (tenant, version, parent), policy).await
    }

    pub async fn dispatch(&self, concurrency: usize, transports: Transports) -> Result<Running, Failure> {
        let (catalog, follower) = Catalog::open(self.catalog_log.clone(), &self.catalog_identity).await?;
        let stop = CancellationToken::new();
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", self.address))?.connect_lazy();
        let dispatcher = Dispatcher {
            pool: self.pool.clone(),
            log: self.log.clone(),
            identity: self.identity.clone(),
            catalog,
            clients: ServiceClients::new([channel], self.issuer.clone(), "dispatcher"),
            clock: Clock::system(),
            transports,
            // Nothing takes an ended reminder from the read models here, so no lease may end.
            options: Options { concurrency, lease: Duration::from_secs(3_600), ..Options::default() },
        };
        let following = tokio::spawn(follower.run(stop.clone()));
        let running = tokio::spawn(dispatcher.run(stop.clone()));
        Ok(Running { stop, running, _following: following })
    }

    /// The accounts that were asked first, in their order, as soon as there are so many.
    pub async fn asked(&self, count: usize) -> Result<Vec<String>, Failure> {
        Ok(self.until(|seen| seen.asked.len() >= count).await?.asked)
    }

    /// The accounts whose message was accepted, as soon as there are so many.
    pub async fn accepted(&self, count: usize) -> Result<Vec<String>, Failure> {
        Ok(self.until(|seen| seen.accepted.len() >= count).await?.accepted)
    }

    pub async fn until(&self, enough: impl Fn(&Seen) -> bool) -> Result<Seen, Failure> {
        let mut seen = self.seen.clone();
        match timeout(PATIENCE, seen.wait_for(|seen| enough(seen))).await {
            Ok(Ok(seen)) => Ok(seen.clone()),
            _ => Err(format!("only this was seen: {:?}", self.seen.borrow()).into()),
        }
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.accounts.abort();
    }
}

/// A dispatcher at work.
pub struct Running {
    stop: CancellationToken,
    running: JoinHandle<Result<(), saldo_dispatcher::DispatcherError>>,
    _following: JoinHandle<Result<(), saldo_catalog::CatalogError>>,
}

impl Running {
    pub async fn stop(self) -> Outcome {
        self.stop.cancel();
        Ok(timeout(PATIENCE, self.running).await???)
    }
}

/// A policy and the documentation's templates.
async fn publish(
    log: &dyn Log,
    (tenant, version, parent): (&str, u64, [u8; 32]),
    policy: &str,
) -> Result<[u8; 32], Failure> {
    let mut events = vec![CatalogEvent::from(PolicyPublished { source: policy.to_owned() })];
    for (file, source) in TEMPLATES {
        let (name, language) = file.split_once('.').ok_or("NAME.LANGUAGE")?;
        let (name, language, source) = (name.to_owned(), language.to_owned(), source.to_owned());
        events.push(TemplatePublished { name, language, source }.into());
    }
    let commit = Commit {
        request_id: version.to_string(),
        method: "PublishPolicy".into(),
        fingerprint: [0; 32],
        command: Vec::new(),
        sealed: Vec::new(),
        actor: "ana".into(),
        actor_roles: Vec::new(),
        recorded_at: Timestamp::UNIX_EPOCH,
        catalog: CatalogVersions { tenant: version, system: 0 },
        next_wakeup: None,
        refusal: None,
        events,
    };
    let key = format!("{tenant}/{CHAIN}");
    let value = frame::encode(Kind::Commit, tenant, CHAIN, version, parent, &commit.encode(), &LogKeys::fixed([3; 32]));
    let hash = frame::hash(&value);
    log.append(vec![NewRecord { partition: 0, key: key.into(), value: value.into(), trace: None }]).await?;
    Ok(hash)
}
