//! `saldo bench`: the command path and the read models against their floors, in one run, since machines are noisy.
//!
//! - echo: a no-op RPC behind the same interceptor.
//! - bare: a record of an invoice's size, appended to a topic of its own and read back by one tail.
//! - invoice: IssueInvoice over many accounts, no account twice at once. The projector is stopped, as it is during the floors. In
//!   production it would run on another machine.
//! - read models: see `rows`.

mod fairness;
mod floor;
mod load;
mod memory;
mod rows;
mod sending;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anstream::println;
use saldo_api::v1;
use saldo_auth::{Issuer, PublicKey, Role, Scope, Verifier};
use saldo_clock::Clock;
use saldo_facts::date_to_api;

use self::load::{Figures, drive};
use super::Run;
use crate::{
    Failure, Outcome,
    client::{Clients, Target},
    config::{Config, Overrides, TlsConfig},
    run::{start::EXPLORING, stores::Stores, system::System, telemetry},
    terminal::{progress, table},
};

/// Accounts opened at once, before the measurements.
const OPENING: usize = 256;

/// Measure the command path and the read models, or sending, against their floors.
///
/// A floor is the cost of the bare thing that a figure rests on, measured in the same run. Each run makes topics and a folder of
/// its own, and leaves the topics on a named Kafka behind. docs/performance.md explains the figures.
#[derive(clap::Parser)]
#[command(
    name = "bench",
    after_help = "Examples:\n  saldo bench\n  saldo bench --kafka localhost:9092 --seconds 5 --partitions 4\n\nEach run makes topics and a folder of its own; topics on a named Kafka are left behind."
)]
pub struct Bench {
    #[command(flatten)]
    settings: Overrides,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Requests in flight; each number gives one row.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256, 1024])]
    in_flight: Vec<usize>,
    /// Accounts that get the invoices; at least as many as requests in flight.
    #[arg(long, default_value_t = 10_000)]
    accounts: usize,
    /// Partitions of the topics; absent: as configured. More partitions make smaller batches.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    partitions: Option<u32>,
    /// Afterwards, run this program with the same --seconds, --in-flight and --accounts. DATABASE_URL names the same Postgres.
    #[arg(long, value_name = "PROGRAM")]
    beside: Option<PathBuf>,
    /// Another measurement; absent: the command path and the read models.
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Measure sending: from a due reminder to an accepted mail.
    #[command(
        after_help = "Examples:\n  saldo bench sending\n  saldo bench --kafka localhost:9092 sending --debtors 100000"
    )]
    Sending(sending::SendingArgs),
    /// Measure one tenant's import beside another tenant's single commands.
    #[command(
        after_help = "Examples:\n  saldo bench fairness\n  saldo bench --kafka localhost:9092 --partitions 1 fairness --import 4096"
    )]
    Fairness(fairness::FairnessArgs),
    /// Measure the memory of accounts with open invoices, and the time of a restart with them.
    #[command(
        after_help = "Examples:\n  saldo bench memory\n  saldo bench --kafka localhost:9092 memory --debtors 10000"
    )]
    Memory(memory::MemoryArgs),
}

impl Run for Bench {
    async fn run(self) -> Outcome {
        match &self.what {
            Some(What::Sending(sending)) => sending::run(&self, sending).await,
            Some(What::Fairness(fairness)) => fairness::run(&self, fairness).await,
            Some(What::Memory(memory)) => memory::run(&self, memory).await,
            None => paths(&self).await,
        }
    }
}

/// A configuration with topics and a folder of its own.
fn prepare(args: &Bench) -> Result<(Config, tempfile::TempDir), Failure> {
    let mut config = Config::load(&args.settings)?;
    config.tracing.filter = "error".to_owned();
    telemetry::start(&config.tracing)?;
    let dir = tempfile::Builder::new().prefix("saldo-bench-").tempdir()?;
    config.data_dir = dir.path().to_owned();
    config.keyring.dir = None;
    config.listen = Some(SocketAddr::new(config.listen(0).ip(), 0));
    // The client of the bench would need an authority that the configuration does not name.
    config.tls = TlsConfig::default();
    config.log.allow_unsafe = true;
    config.log.replication_factor = 1;
    config.log.partitions = args.partitions.unwrap_or(config.log.partitions);
    config.log.topic = format!("saldo.bench.{}", uuid::Uuid::new_v4().simple());
    Ok((config, dir))
}

async fn paths(args: &Bench) -> Outcome {
    let (config, dir) = prepare(args)?;
    let issuer = Issuer::generate()?;
    let token = issuer.issue("bench", "bench", &[Role::Writer, Role::Reader], EXPLORING)?;
    let key = PublicKey { name: "the key of the bench".to_owned(), pem: issuer.public_pem()?, scope: Scope::people() };
    let verifier = Verifier::new([key], EXPLORING)?;
    let mut system = System::start_shown(&config, &issuer, Clock::system()).await?;
    // The bare topic is in the same Kafka, or in the same embedded database.
    let mut bare = config.clone();
    bare.log.topic = format!("{}.bare", config.log.topic);
    bare.log.embedded_url = system.stores.log_url.clone();
    bare.database.url = Some(system.stores.database()?.url.clone());
    let bare = Stores::open(&bare, |_| {}).await?;
    system.stop_projector().await?;
    let measured = measure(args, &system, &bare, verifier, token).await;
    bare.close().await;
    system.stop().await;
    dir.close()?;
    measured?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    args: &Bench,
    system: &System,
    bare: &Stores,
    verifier: Verifier,
    token: String,
) -> Result<(), Failure> {
    let span = Duration::from_secs(args.seconds);
    let target = Target::new(system.endpoint(), token.clone());
    let clients = target.connect().await?;
    let most = args.in_flight.iter().copied().max().unwrap_or(1);
    let accounts = args.accounts.max(most);
    open_accounts(&clients, accounts).await?;
    let echo = floor::Echo::start(verifier, &token).await?;
    let round_trip = floor::RoundTrip::start(bare.log.clone(), system.identity.partitions).await?;
    let mut lines = Vec::new();
    let bar = progress::spinner("measuring");
    let measuring = |in_flight: usize, what: &str| bar.set_message(format!("{in_flight} in flight: {what}"));
    for (round, in_flight) in args.in_flight.iter().copied().enumerate() {
        measuring(in_flight, "echo");
        let by_echo = drive(in_flight, span, |_, _| echo.call()).await?;
        measuring(in_flight, "bare");
        let by_log = drive(in_flight, span, |_, _| round_trip.call()).await?;
        measuring(in_flight, "invoice");
        let by_invoice = drive(in_flight, span, |worker, count| {
            // Each loop goes round its own share of the accounts.
            let account = worker + in_flight * (count as usize % (accounts / in_flight));
            let (mut clients, request) = (clients.clone(), invoice(account, round, worker, count));
            async move { clients.command.issue_invoice(request).await.map(|_| ()).map_err(Failure::from) }
        })
        .await?;
        lines.push(line(in_flight, &by_echo, &by_log, &by_invoice));
    }
    bar.finish_and_clear();
    echo.stop().await;
    let header = [
        "in flight",
        "echo/s",
        "p50",
        "p99",
        "bare/s",
        "p50",
        "p99",
        "invoice/s",
        "p50",
        "p99",
        "of slower floor",
        "of both in turn",
        "p50 above both",
    ];
    println!("Command path; times in milliseconds:\n{}", table::plain(&header, 0, lines));
    rows::compare(system, &clients).await?;
    if let Some(program) = &args.beside {
        run_beside(program, args, system).await?;
    }
    Ok(())
}

async fn run_beside(program: &Path, args: &Bench, system: &System) -> Result<(), Failure> {
    println!("{}:", program.display());
    let mut command = tokio::process::Command::new(program);
    command.env("DATABASE_URL", system.stores.database()?.url.expose());
    let in_flight: Vec<String> = args.in_flight.iter().map(usize::to_string).collect();
    let (seconds, accounts) = (args.seconds.to_string(), args.accounts.to_string());
    command.args(["--seconds", &seconds, "--in-flight", &in_flight.join(","), "--accounts", &accounts]);
    let ended = command.status().await.map_err(|error| format!("{}: {error}", program.display()))?;
    if ended.success() { Ok(()) } else { Err(format!("{}: {ended}", program.display()).into()) }
}

async fn open_accounts(clients: &Clients, count: usize) -> Result<(), Failure> {
    load::each("opening accounts", 0..count, OPENING, |account| {
        let mut clients = clients.clone();
        async move { clients.command.open_account(open(account)).await.map(|_| ()).map_err(Failure::from) }
    })
    .await
}

fn line(in_flight: usize, echo: &Figures, bare: &Figures, invoice: &Figures) -> Vec<String> {
    let mut line = vec![in_flight.to_string()];
    for figures in [echo, bare, invoice] {
        line.extend([figures.per_second.to_string(), millis(figures.p50), millis(figures.p99)]);
    }
    let slower = echo.per_second.min(bare.per_second).max(1);
    line.push(format!("{} %", invoice.per_second * 100 / slower));
    // A command costs both floors; on shared cores this is the best possible rate.
    let both = (echo.per_second * bare.per_second / (echo.per_second + bare.per_second).max(1)).max(1);
    line.push(format!("{} %", invoice.per_second * 100 / both));
    line.push(millis(invoice.p50.saturating_sub(echo.p50 + bare.p50)));
    line
}

fn millis(time: Duration) -> String {
    let micros = time.as_micros();
    format!("{}.{:02}", micros / 1_000, micros % 1_000 / 10)
}

fn open(account: usize) -> v1::OpenAccountRequest {
    v1::OpenAccountRequest {
        request_id: "open".into(),
        account_id: format!("B-{account}"),
        profile: Some(v1::Profile {
            display_name: "Bench".into(),
            kind: v1::DebtorKind::Business.into(),
            language: "en".into(),
            time_zone: "UTC".into(),
            country: "ES".into(),
            contact_points: Vec::new(),
        }),
    }
}

fn invoice(account: usize, round: usize, worker: usize, count: u64) -> v1::IssueInvoiceRequest {
    let day = |day| Some(date_to_api(jiff::civil::Date::constant(2026, 1, day)));
    v1::IssueInvoiceRequest {
        request_id: format!("{round}-{worker}-{count}"),
        account_id: format!("B-{account}"),
        number: format!("F-{round}-{worker}-{count}"),
        total: Some(v1::Money { minor_units: 12_345, currency: "EUR".into() }),
        issue_date: day(1),
        due_date: day(31),
        ..Default::default()
    }
}

pub(crate) type SharedLog = Arc<dyn saldo_log::Log>;
