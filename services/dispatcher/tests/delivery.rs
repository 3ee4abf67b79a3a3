//! The dispatcher on a real Postgres, with accounts and transports that follow a script. This binary is its own child
//! process for Postgres (`child`).

use std::{
    collections::BTreeSet,
    convert::Infallible,
    os::unix::fs::PermissionsExt,
    process::ExitCode,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use libtest_mimic::{Arguments, Trial};
use saldo_api::{
    codec::Codec,
    v1::{self, contact_answer::State, record_contact_outcome_request::Outcome as Recorded},
};
use saldo_auth::Issuer;
use saldo_catalog::{CHAIN, Catalog};
use saldo_channels::{
    Concerns, Draft, LastLook, Message, Outcome, RenderError, RouteFailure, Stage, Transport, Transports,
};
use saldo_client::ServiceClients;
use saldo_clock::Clock;
use saldo_dispatcher::{Dispatcher, Options};
use saldo_domain::party::Channel;
use saldo_embedded_postgres::{ChildCommand, EmbeddedPostgres, run_child};
use saldo_facts::{CatalogEvent, CatalogVersions, Commit, PolicyPublished, TemplatePublished};
use saldo_log::{
    Log, NewRecord,
    embedded::EmbeddedLog,
    frame::{self, Kind},
    genesis,
    keys::LogKeys,
};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, body::Body, server::NamedService, transport::server::TcpIncoming};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const POLICY: &str = include_str!("../../../docs/policy/policy.toml");
const TEMPLATES: [(&str, &str); 10] = [
    ("courtesy.es", include_str!("../../../docs/policy/templates/courtesy.es.toml")),
    ("courtesy.en", include_str!("../../../docs/policy/templates/courtesy.en.toml")),
    ("due-today.es", include_str!("../../../docs/policy/templates/due-today.es.toml")),
    ("due-today.en", include_str!("../../../docs/policy/templates/due-today.en.toml")),
    ("first-reminder.es", include_str!("../../../docs/policy/templates/first-reminder.es.toml")),
    ("first-reminder.en", include_str!("../../../docs/policy/templates/first-reminder.en.toml")),
    ("second-reminder.es", include_str!("../../../docs/policy/templates/second-reminder.es.toml")),
    ("second-reminder.en", include_str!("../../../docs/policy/templates/second-reminder.en.toml")),
    ("formal-demand.es", include_str!("../../../docs/policy/templates/formal-demand.es.toml")),
    ("formal-demand.en", include_str!("../../../docs/policy/templates/formal-demand.en.toml")),
];
/// The longest that a test waits for something.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => Arc::new(runtime),
        Err(error) => {
            eprintln!("no tokio runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    if std::env::args().nth(1).as_deref() == Some("child") {
        return runtime.block_on(run_child());
    }
    let dir = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o711)).tempdir();
    let started = dir.map_err(Failure::from).and_then(|dir| {
        let child = ChildCommand::this_binary(["child"])?;
        let options = saldo_embedded_postgres::Options::new(dir.path().join("data"), child);
        Ok((Arc::new(runtime.block_on(EmbeddedPostgres::start(options, |_| {}))?), dir))
    });
    let (server, dir) = match started {
        Ok(started) => started,
        Err(error) => {
            eprintln!("no Postgres: {error}");
            return ExitCode::FAILURE;
        }
    };
    let trial = |name: &'static str, test: fn(Office) -> BoxFuture<'static, Result<(), Failure>>| {
        let (runtime, server) = (runtime.clone(), server.clone());
        Trial::test(name, move || {
            let outcome = runtime.block_on(async { test(Office::open(&server, name).await?).await });
            outcome.map_err(|error| error.to_string().into())
        })
    };
    let tests = vec![
        trial("a_creditors_ten_thousand_reminders_do_not_hold_up_anothers_single_one", |office| {
            Box::pin(one_beside_ten_thousand(office))
        }),
        trial("creditors_have_their_reminders_sent_in_turn", |office| Box::pin(in_turn(office))),
        trial("two_dispatchers_share_the_reminders", |office| Box::pin(two_dispatchers(office))),
        trial("a_slow_channel_holds_up_no_other", |office| Box::pin(slow_channel(office))),
        trial("u5_no_account_is_asked_while_the_route_is_down", |office| Box::pin(route_down(office))),
        trial("u5_a_sender_that_is_refused_holds_up_its_creditor_alone", |office| Box::pin(sender_refused(office))),
        trial("u5_a_route_that_fails_at_every_message_is_on_hold_though_it_answers", |office| {
            Box::pin(relapsing(office))
        }),
        trial("a_reminder_of_a_channel_without_a_transport_waits", |office| Box::pin(without_transport(office))),
    ];
    let conclusion = libtest_mimic::run(&Arguments::from_args(), tests);
    if let Some(server) = Arc::into_inner(server) {
        let _ = runtime.block_on(server.stop());
    }
    drop(dir);
    conclusion.exit_code()
}

async fn one_beside_ten_thousand(office: Office) -> Result<(), Failure> {
    office.owe("acme", 10_000, Channel::Email, 60).await?;
    office.owe("beta", 1, Channel::Email, 30).await?;
    office.owe("zeta", 1, Channel::Email, 0).await?;
    let running = office.dispatch(4, transports([Scripted::quick(Channel::Email)])).await?;
    // Eight are leased at once. Behind those of the first look, everybody had a turn.
    let asked = office.asked(40).await?;
    for single in ["beta-1", "zeta-1"] {
        assert!(asked[..16].iter().any(|account| account == single), "{single} is not among {asked:?}");
    }
    running.stop().await
}

async fn in_turn(office: Office) -> Result<(), Failure> {
    let tenants: BTreeSet<String> = (10..30).map(|number| format!("t{number}")).collect();
    for tenant in &tenants {
        office.owe(tenant, 5, Channel::Email, 10).await?;
    }
    let running = office.dispatch(4, transports([Scripted::quick(Channel::Email)])).await?;
    let asked = office.asked(100).await?;
    let first: BTreeSet<&str> = asked[..24].iter().filter_map(|account| account.split('-').next()).collect();
    assert_eq!(first.len(), tenants.len(), "{asked:?}");
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), 100, "each is asked for once");
    running.stop().await
}

async fn two_dispatchers(office: Office) -> Result<(), Failure> {
    for tenant in ["acme", "beta", "zeta"] {
        office.owe(tenant, 300, Channel::Email, 10).await?;
    }
    let transports = transports([Scripted::quick(Channel::Email)]);
    let (one, other) = (office.dispatch(16, transports.clone()).await?, office.dispatch(16, transports).await?);
    let asked = office.asked(900).await?;
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), 900, "each is asked for once");
    one.stop().await?;
    other.stop().await
}

async fn slow_channel(office: Office) -> Result<(), Failure> {
    office.owe("acme", 10, Channel::Email, 60).await?;
    office.owe("acme", 3, Channel::Sms, 0).await?;
    let (release, released) = watch::channel(false);
    let slow = Scripted { released, ..Scripted::quick(Channel::Email) };
    let running = office.dispatch(2, transports([slow, Scripted::quick(Channel::Sms)])).await?;
    // Two mails are stuck, which is as many as may be under way; the short messages go out meanwhile.
    let mut accepted = office.accepted(3).await?;
    accepted.sort();
    assert_eq!(accepted, ["acme-sms-1", "acme-sms-2", "acme-sms-3"]);
    release.send_replace(true);
    office.accepted(13).await?;
    running.stop().await
}

async fn route_down(office: Office) -> Result<(), Failure> {
    office.owe("acme", 20, Channel::Email, 10).await?;
    let (open, is_open) = watch::channel(false);
    let (probes, probed) = watch::channel(0);
    let closed = Scripted { is_open, probes: Arc::new(probes), ..Scripted::quick(Channel::Email) };
    let running = office.dispatch(4, transports([closed])).await?;
    // One probe at a time: the first by the reminder that came first, the others at growing pauses.
    timeout(PATIENCE, probed.clone().wait_for(|probes| *probes >= 3)).await??;
    assert_eq!(office.seen.borrow().asked, Vec::<String>::new());
    open.send_replace(true);
    assert_eq!(office.accepted(20).await?.len(), 20);
    running.stop().await
}

async fn sender_refused(office: Office) -> Result<(), Failure> {
    office.owe("acme", 50, Channel::Email, 60).await?;
    office.owe("zeta", 50, Channel::Email, 10).await?;
    let (refuse, refuses) = watch::channel(true);
    let email = Scripted { refuses, ..Scripted::quick(Channel::Email) };
    let running = office.dispatch(2, transports([email])).await?;
    let of = |asked: &[String], tenant: &str| asked.iter().filter(|account| account.starts_with(tenant)).count();
    office.until(|seen| of(&seen.asked, "zeta") == 50).await?;
    let asked = of(&office.seen.borrow().asked, "acme");
    assert!((1..=4).contains(&asked), "{asked} were asked for in vain");
    refuse.send_replace(false);
    office.accepted(50 - asked).await?;
    running.stop().await
}

async fn relapsing(office: Office) -> Result<(), Failure> {
    office.owe("acme", 200, Channel::Email, 10).await?;
    let (work, works) = watch::channel(false);
    let (tries, tried) = watch::channel(0);
    let email = Scripted { works, tries: Arc::new(tries), ..Scripted::quick(Channel::Email) };
    let running = office.dispatch(2, transports([email])).await?;
    // Two messages at a time: at first, after the first probe, and after pauses of one, two and four seconds.
    timeout(PATIENCE, tried.clone().wait_for(|tries| *tries >= 7)).await??;
    let lost = *tried.borrow() as usize;
    assert!(lost <= 10, "{lost} messages were begun in vain");
    work.send_replace(true);
    office.accepted(200 - lost - 2).await?;
    running.stop().await
}

async fn without_transport(office: Office) -> Result<(), Failure> {
    office.owe("acme", 2, Channel::Sms, 60).await?;
    office.owe("acme", 1, Channel::Email, 0).await?;
    let running = office.dispatch(2, transports([Scripted::quick(Channel::Email)])).await?;
    assert_eq!(office.accepted(1).await?, ["acme-1"]);
    running.stop().await?;
    assert_eq!(office.asked(1).await?, ["acme-1"], "nobody asked for the others");
    Ok(())
}

/// Read models, logs and accounts that a dispatcher works with.
struct Office {
    pool: PgPool,
    schema: String,
    log: Arc<dyn Log>,
    identity: genesis::Identity,
    catalog_log: Arc<dyn Log>,
    catalog_identity: genesis::Identity,
    seen: watch::Receiver<Seen>,
    address: std::net::SocketAddr,
    issuer: Arc<Issuer>,
    accounts: JoinHandle<()>,
}

/// What reached the accounts, by account.
#[derive(Debug, Clone, Default)]
struct Seen {
    asked: Vec<String>,
    accepted: Vec<String>,
}

impl Office {
    async fn open(server: &EmbeddedPostgres, name: &str) -> Result<Self, Failure> {
        let database = format!("t{:x}", name.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte)));
        server.ensure_database(&database).await?;
        let url = server.url(&database);
        let pool = PgPool::connect(&url).await?;
        let log = EmbeddedLog::connect(&url, "accounts").await?;
        let identity = genesis::create(&log, 1, &LogKeys::fixed([3; 32])).await?;
        let catalog_log = EmbeddedLog::connect(&url, "catalog").await?;
        let catalog_identity = genesis::create(&catalog_log, 1, &identity.keys).await?;
        publish(&catalog_log, &catalog_identity, "acme").await?;
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
            seen,
            address,
            issuer: Arc::new(Issuer::generate()?),
            accounts,
        })
    }

    /// So many of a tenant's accounts have a reminder due, for so many minutes.
    async fn owe(&self, tenant: &str, accounts: i32, channel: Channel, minutes: i32) -> Result<(), Failure> {
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

    async fn dispatch(&self, concurrency: usize, transports: Transports) -> Result<Running, Failure> {
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
    async fn asked(&self, count: usize) -> Result<Vec<String>, Failure> {
        Ok(self.until(|seen| seen.asked.len() >= count).await?.asked)
    }

    /// The accounts whose message was accepted, as soon as there are so many.
    async fn accepted(&self, count: usize) -> Result<Vec<String>, Failure> {
        Ok(self.until(|seen| seen.accepted.len() >= count).await?.accepted)
    }

    async fn until(&self, enough: impl Fn(&Seen) -> bool) -> Result<Seen, Failure> {
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
struct Running {
    stop: CancellationToken,
    running: JoinHandle<Result<(), saldo_dispatcher::DispatcherError>>,
    _following: JoinHandle<Result<(), saldo_catalog::CatalogError>>,
}

impl Running {
    async fn stop(self) -> Result<(), Failure> {
        self.stop.cancel();
        Ok(timeout(PATIENCE, self.running).await???)
    }
}

/// The documentation's policy and templates, in force for a tenant.
async fn publish(log: &EmbeddedLog, identity: &genesis::Identity, tenant: &str) -> Result<(), Failure> {
    let mut events = vec![CatalogEvent::from(PolicyPublished { source: POLICY.to_owned() })];
    for (file, source) in TEMPLATES {
        let (name, language) = file.split_once('.').ok_or("NAME.LANGUAGE")?;
        let (name, language, source) = (name.to_owned(), language.to_owned(), source.to_owned());
        events.push(TemplatePublished { name, language, source }.into());
    }
    let commit = Commit {
        request_id: "1".into(),
        method: "PublishPolicy".into(),
        fingerprint: [0; 32],
        command: Vec::new(),
        sealed: Vec::new(),
        actor: "ana".into(),
        actor_roles: Vec::new(),
        recorded_at: Timestamp::UNIX_EPOCH,
        catalog: CatalogVersions { tenant: 1, system: 0 },
        next_wakeup: None,
        refusal: None,
        events,
    };
    let key = format!("{tenant}/{CHAIN}");
    let parent = frame::first_parent(&identity.log_id, &key);
    let value = frame::encode(Kind::Commit, tenant, CHAIN, 1, parent, &commit.encode(), &identity.keys);
    log.append(vec![NewRecord { partition: 0, key: key.into(), value: value.into(), trace: None }]).await?;
    Ok(())
}

/// Takes every message, once it is released.
#[derive(Clone)]
struct Scripted {
    channel: Channel,
    released: watch::Receiver<bool>,
    /// Whether it can be reached.
    is_open: watch::Receiver<bool>,
    /// Whether it refuses the sender.
    refuses: watch::Receiver<bool>,
    /// How often it was not reached, or refused the sender, without a message.
    probes: Arc<watch::Sender<u32>>,
    /// Whether messages get through that it answers.
    works: watch::Receiver<bool>,
    /// How many did not.
    tries: Arc<watch::Sender<u32>>,
}

impl Scripted {
    const REFUSED: Stage = Stage::new("sender");

    fn quick(channel: Channel) -> Self {
        let always = |value| watch::channel(value).1;
        let counter = || Arc::new(watch::channel(0).0);
        Self {
            channel,
            released: always(true),
            is_open: always(true),
            refuses: always(false),
            probes: counter(),
            works: always(true),
            tries: counter(),
        }
    }
}

fn transports<const N: usize>(all: [Scripted; N]) -> Transports {
    let mut transports = Transports::default();
    transports.extend(all);
    transports
}

impl Transport for Scripted {
    fn channel(&self) -> Channel {
        self.channel
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn capacity(&self) -> usize {
        64
    }

    fn reach<'t>(&'t self, sender: Option<&'t str>) -> BoxFuture<'t, Result<(), RouteFailure>> {
        Box::pin(async move {
            if *self.is_open.borrow() && (sender.is_none() || !*self.refuses.borrow()) {
                return Ok(());
            }
            self.probes.send_modify(|probes| *probes += 1);
            Err(RouteFailure { stage: Self::REFUSED, code: 553, why: "not you".into() })
        })
    }

    fn render(&self, draft: &Draft<'_>) -> Result<Message, RenderError> {
        let text = draft.template.render(draft.variables).map_err(|error| RenderError(error.to_string()))?.text;
        Ok(Message {
            id: draft.id.to_owned(),
            from: draft.sender.name.clone(),
            to: draft.address.to_owned(),
            media_type: "text/plain",
            content: text.into_bytes(),
        })
    }

    fn hand_over<'t>(&'t self, _: &'t Message, last_look: LastLook) -> BoxFuture<'t, Outcome> {
        Box::pin(async move {
            if *self.refuses.borrow() {
                let (why, concerns) = ("not you".into(), Concerns::Sender);
                return Outcome::Deferred { stage: Self::REFUSED, code: 553, why, concerns };
            }
            if !*self.works.borrow() {
                self.tries.send_modify(|tries| *tries += 1);
                let (why, concerns) = ("too busy".into(), Concerns::Route);
                return Outcome::Deferred { stage: Self::REFUSED, code: 421, why, concerns };
            }
            if !last_look() {
                return Outcome::Withdrawn;
            }
            let _ = self.released.clone().wait_for(|released| *released).await;
            Outcome::Accepted { reply: "taken".into() }
        })
    }
}

/// The command service, as far as a dispatcher asks it: every account lets its reminder be sent by the channel that its id
/// names, if the creditor has published a policy.
#[derive(Clone)]
struct Accounts(Arc<watch::Sender<Seen>>);

impl Accounts {
    fn start(&self, request: v1::StartContactAttemptRequest) -> v1::CommandResponse {
        self.0.send_modify(|seen| seen.asked.push(request.account_id.clone()));
        let channel = if request.account_id.contains("-sms-") { v1::Channel::Sms } else { v1::Channel::Email };
        let at = Timestamp::UNIX_EPOCH.as_second();
        let instant = |seconds| Some(saldo_api::Timestamp { seconds, nanos: 0 });
        let snapshot = v1::ContactSnapshot {
            claim: request.claim,
            saying: Some(v1::Saying {
                step: "first".into(),
                tone: v1::Tone::Friendly.into(),
                channel: channel.into(),
                template: "first-reminder".into(),
            }),
            language: "es".into(),
            name: "Ana Gil".into(),
            address: "ana@example.com".into(),
            day: Some(v1::Date { year: 2026, month: 3, day: 2 }),
            items: vec![v1::ListedItem {
                invoice_number: "F-1".into(),
                instalment: 1,
                currency: "EUR".into(),
                due_date: Some(v1::Date { year: 2026, month: 2, day: 15 }),
                open_minor: 123_450,
                takes_offset_days: Some(7),
            }],
            at: instant(at),
            send_before: instant(at + 120),
            stamp: Some(v1::MessageStamp {
                id: "1bb23c2c@example.com".into(),
                at: instant(at),
                day: Some(v1::Date { year: 2026, month: 3, day: 2 }),
            }),
            ..Default::default()
        };
        let contact = match request.account_id.starts_with("acme") {
            true => v1::ContactAnswer {
                state: State::Started.into(),
                attempt: 1,
                snapshot: Some(snapshot),
                ..Default::default()
            },
            false => v1::ContactAnswer { state: State::Withheld.into(), ..Default::default() },
        };
        v1::CommandResponse { contact: Some(contact), policy_version: 1, ..Default::default() }
    }

    fn record(&self, request: v1::RecordContactOutcomeRequest) -> v1::CommandResponse {
        if let Some(Recorded::Accepted(_)) = request.outcome {
            self.0.send_modify(|seen| seen.accepted.push(request.account_id));
        }
        v1::CommandResponse::default()
    }
}

impl NamedService for Accounts {
    const NAME: &'static str = "collections.v1.CommandService";
}

/// Written by hand, so that a method that a dispatcher never calls need not be named here.
impl tower_service::Service<http::Request<Body>> for Accounts {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let accounts = self.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "StartContactAttempt" => {
                    let start = tower::service_fn(move |request: Request<v1::StartContactAttemptRequest>| {
                        let answer = accounts.start(request.into_inner());
                        async move { Ok::<_, Status>(Response::new(answer)) }
                    });
                    tonic::server::Grpc::new(Codec::default()).unary(start, request).await
                }
                "RecordContactOutcome" => {
                    let record = tower::service_fn(move |request: Request<v1::RecordContactOutcomeRequest>| {
                        let answer = accounts.record(request.into_inner());
                        async move { Ok::<_, Status>(Response::new(answer)) }
                    });
                    tonic::server::Grpc::new(Codec::default()).unary(record, request).await
                }
                other => Status::unimplemented(other).into_http(),
            })
        })
    }
}
