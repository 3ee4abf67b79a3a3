//! From a due reminder to an accepted mail, against a bare loop of the same mails to the same server.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anstream::println;
use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use saldo_api::v1;
use saldo_auth::{Issuer, Role};
use saldo_catalog::Catalog;
use saldo_channels::{
    Outcome as Sent, Transports,
    email::{Email, Mail, Pool},
};
use saldo_client::ServiceClients;
use saldo_clock::Clock;
use saldo_dispatcher::Dispatcher;
use saldo_facts::date_to_api;
use saldo_mail_sink::MailSink;
use sqlx::{AssertSqlSafe, PgPool};
use tonic::transport::Endpoint;

use super::{Bench, load};
use crate::{
    Failure, Outcome,
    cli::policy::example,
    client::{Clients, Target, explain},
    config::{Config, MailServer},
    run::{system::System, task::Task},
    terminal::{progress, table},
};

/// Requests in flight while the accounts are made.
const OPENING: usize = 128;
/// How often the tables are read. The measured times are seconds.
const POLL: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, clap::Args)]
pub struct SendingArgs {
    /// Debtors whose reminder falls due at the same moment.
    #[arg(long, default_value_t = 5_000)]
    debtors: usize,
    /// Connections to the mail server.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    #[command(flatten)]
    mail_server: MailServer,
    /// Reminders that fall due in the paced minute; 0 leaves it out.
    #[arg(long, default_value_t = 1_000)]
    paced: usize,
}

pub async fn run(bench: &Bench, args: &SendingArgs) -> Outcome {
    let (mut config, dir) = super::prepare(bench)?;
    config.sending.rewakes_per_second = NonZeroU32::MAX;
    let sink = MailSink::start(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), None).await?;
    let built_in = || format!("smtp://{}?tls=none", sink.smtp_address());
    let url = args.mail_server.url()?.map_or_else(built_in, |url| url.expose().to_owned());
    let issuer = Arc::new(Issuer::generate()?);
    let system = System::start_shown(&config, &issuer, Clock::system()).await?;
    let measured = measure(&config, args, &system, issuer, &url).await;
    system.stop().await;
    sink.stop().await;
    dir.close()?;
    measured?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    config: &Config,
    args: &SendingArgs,
    system: &System,
    issuer: Arc<Issuer>,
    url: &str,
) -> Result<(), Failure> {
    let token = issuer.issue("bench", "bench", &[Role::Writer, Role::Operator], Duration::from_secs(86_400))?;
    let target = Target::new(system.endpoint(), token);
    let mut clients = target.connect().await?;
    let files = example::files().into_iter().map(always_open).collect();
    let publish = v1::PublishPolicyRequest { request_id: "policy".into(), files, validate_only: false };
    clients.catalog.publish_policy(publish).await.map_err(|status| explain(&status))?;
    owe(&clients, 0..args.debtors, "making debtors").await?;
    reached(system, "accounts", "true", args.debtors, "reading them").await?;

    let begun = Instant::now();
    let switch = v1::SetSendingRequest { request_id: "sending".into(), on: true };
    clients.catalog.set_sending(switch).await.map_err(|status| explain(&status))?;
    reached(system, "reminders", "true", args.debtors, "falling due").await?;
    let waking = begun.elapsed();

    let pool = Pool::new(url.parse()?, args.connections as usize);
    let begun = Instant::now();
    let mut dispatcher = dispatch(config, args, system, issuer, pool.clone()).await?;
    reached(system, "reminders", "status = 'accepted'", args.debtors, "sending").await?;
    let sending = begun.elapsed();

    let begun = Instant::now();
    bare(&pool, args).await?;
    let floor = begun.elapsed();

    let per_second = |span: Duration| (args.debtors as u128 * 1_000_000 / span.as_micros().max(1)).to_string();
    let percent = floor.as_micros() * 100 / sending.as_micros().max(1);
    println!(
        "{} debtors at once, {} connections:\n{}",
        args.debtors,
        args.connections,
        table::plain(
            &["woken/s", "sent/s", "bare/s", "of bare"],
            0,
            [vec![per_second(waking), per_second(sending), per_second(floor), format!("{percent} %")]],
        )
    );
    if args.paced > 0 {
        let (p50, p99) = paced(args, system, &clients).await?;
        println!(
            "{} due in a minute: from due to taken by the mail server p50 {} ms, p99 {} ms",
            args.paced,
            super::millis(p50),
            super::millis(p99)
        );
    }
    dispatcher.stop(Duration::from_secs(60)).await
}

/// Opens the windows of the example for the whole week, so that a measurement need not wait for the morning.
fn always_open(file: v1::PolicyFile) -> v1::PolicyFile {
    let source = file
        .source
        .replace(r#""thu", "fri"]"#, r#""thu", "fri", "sat", "sun"]"#)
        .replace(r#"from = "09:00""#, r#"from = "00:00""#)
        .replace(r#"to = "20:00""#, r#"to = "24:00""#);
    v1::PolicyFile { source, ..file }
}

async fn dispatch(
    config: &Config,
    args: &SendingArgs,
    system: &System,
    issuer: Arc<Issuer>,
    smtp: Pool,
) -> Result<Task, Failure> {
    let catalog_log = system.stores.catalog_log.clone();
    let identity = saldo_log::genesis::open(catalog_log.as_ref(), &system.identity.keys).await?;
    let (catalog, _) = Catalog::open(catalog_log, &identity).await?;
    let channel = Endpoint::from_shared(format!("http://{}", system.address))?.connect_lazy();
    let mut transports = Transports::default();
    transports.add(Email::new(smtp));
    let dispatcher = Dispatcher {
        pool: crate::run::stores::connect(&system.stores.database()?.url, 6, None).await?,
        log: system.stores.log.clone(),
        identity: system.identity.clone(),
        catalog,
        clients: ServiceClients::new([channel], issuer, "dispatcher"),
        clock: Clock::system(),
        transports,
        options: saldo_dispatcher::Options {
            concurrency: config.sending.attempts.max(2 * args.connections as usize),
            ..Default::default()
        },
    };
    Ok(Task::spawn("dispatcher", |stop| dispatcher.run(stop)))
}

/// Debtors with an invoice that fell due ten days ago.
async fn owe(clients: &Clients, numbers: std::ops::Range<usize>, what: &'static str) -> Result<(), Failure> {
    let today = Clock::system().now().to_zoned(TimeZone::UTC).date();
    load::each(what, numbers, OPENING, |number| {
        let clients = clients.clone();
        async move { one_owes(clients, number, today).await.map_err(|status| explain(&status).into()) }
    })
    .await
}

async fn one_owes(mut clients: Clients, number: usize, today: Date) -> Result<(), tonic::Status> {
    let account_id = format!("S-{number}");
    let mut open = super::open(number);
    open.account_id.clone_from(&account_id);
    if let Some(profile) = &mut open.profile {
        let point =
            v1::ContactPoint { channel: v1::Channel::Email.into(), address: format!("debtor{number}@example.com") };
        profile.contact_points.push(point);
    }
    clients.command.open_account(open).await?;
    let invoice = v1::IssueInvoiceRequest {
        request_id: "invoice".into(),
        account_id,
        number: format!("F-{number}"),
        total: Some(v1::Money { minor_units: 12_345, currency: "EUR".into() }),
        issue_date: Some(date_to_api(today.saturating_sub(40.days()))),
        due_date: Some(date_to_api(today.saturating_sub(10.days()))),
        ..Default::default()
    };
    clients.command.issue_invoice(invoice).await.map(|_| ())
}

/// Waits until so many rows of a read model fulfil the condition.
async fn reached(
    system: &System,
    rows: &str,
    condition: &str,
    count: usize,
    what: &'static str,
) -> Result<(), Failure> {
    let bar = progress::records(what);
    bar.set_length(count as u64);
    loop {
        let found = counted(&system.stores.database()?.pool, rows, condition).await?;
        bar.set_position(found);
        if found >= count as u64 {
            bar.finish_and_clear();
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn counted(pool: &PgPool, rows: &str, condition: &str) -> Result<u64, Failure> {
    let number: i64 = sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(pool).await?;
    let statement = format!("SELECT count(*) FROM rm_{number}.{rows} WHERE {condition}");
    let found: i64 = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(pool).await?;
    Ok(found.unsigned_abs())
}

/// The floor: as many mails of the same kind, over as many connections.
async fn bare(pool: &Pool, args: &SendingArgs) -> Result<(), Failure> {
    let text = "Dear Bench,\n\nBy our records the following was still open: F-1, 123.45 EUR.\n".repeat(8);
    load::each("bare loop", 0..args.debtors, args.connections as usize, |number| {
        let (pool, text) = (pool.clone(), text.clone());
        async move {
            let mail = Mail {
                from_name: "Ejemplo, S.L.".into(),
                from: "cobros@example.com".into(),
                reply_to: None,
                to: format!("debtor{number}@example.com"),
                subject: "Payment reminder".into(),
                html: Some(format!("<p>{text}</p>")),
                text,
                id: format!("bare-{number}"),
                date: Timestamp::UNIX_EPOCH,
            };
            match pool.hand_over(&mail.build()?, || true).await {
                Sent::Accepted { .. } => Ok(()),
                other => Err(format!("the mail server did not take a bare mail: {other:?}").into()),
            }
        }
    })
    .await
}

/// Opens overdue debtors evenly over a minute, and measures from the commit of each reminder to the commit of its outcome.
async fn paced(args: &SendingArgs, system: &System, clients: &Clients) -> Result<(Duration, Duration), Failure> {
    let today = Clock::system().now().to_zoned(TimeZone::UTC).date();
    let bar = progress::records("a paced minute");
    bar.set_length(args.paced as u64);
    let mut ticks = tokio::time::interval(Duration::from_secs(60) / u32::try_from(args.paced)?);
    let mut debtors = tokio::task::JoinSet::new();
    for number in args.debtors..args.debtors + args.paced {
        ticks.tick().await;
        debtors.spawn(one_owes(clients.clone(), number, today));
        bar.inc(1);
    }
    while let Some(done) = debtors.join_next().await {
        done?.map_err(|status| explain(&status))?;
    }
    bar.finish_and_clear();
    reached(system, "reminders", "status = 'accepted'", args.debtors + args.paced, "the last of them").await?;
    let number: i64 =
        sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(&system.stores.database()?.pool).await?;
    let micros: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT (extract(epoch FROM a.ended_at - r.due_at) * 1000000)::bigint
         FROM rm_{number}.attempts a JOIN rm_{number}.reminders r USING (tenant, account, reminder)
         ORDER BY r.due_at DESC LIMIT $1"
    )))
    .bind(args.paced as i64)
    .fetch_all(&system.stores.database()?.pool)
    .await?;
    let mut micros: Vec<u64> = micros.into_iter().map(|one| one.unsigned_abs()).collect();
    micros.sort_unstable();
    let at = |percent: usize| {
        let index = (micros.len() * percent / 100).min(micros.len().saturating_sub(1));
        Duration::from_micros(micros.get(index).copied().unwrap_or_default())
    };
    Ok((at(50), at(99)))
}
