//! The command line.

use clap::{Parser, Subcommand};

use crate::{
    Outcome, aging, bench, config::Overrides, demo, dev, health, import, log_admin, outbox, policy, preview, publish,
    rebuild, replay, serve, service::Service, telemetry, token, verify,
};

/// Collections: what every debtor owes and everything said to them, as one append-only history that stands in court.
#[derive(Debug, Parser)]
#[command(
    name = "saldo",
    version,
    propagate_version = true,
    after_help = "Begin with:\n  saldo demo     see it work, nothing needed, nothing left behind\n  saldo dev      keep it running and explore"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the whole system on a small synthetic portfolio, then clean up.
    #[command(after_help = "Example:\n  saldo demo")]
    Demo,
    /// Run everything in one process for exploration; prints endpoints, a token and things to try.
    #[command(after_help = dev::EXAMPLES)]
    Dev(dev::DevArgs),
    /// Run everything in one process as configured; needs auth.public_keys.
    #[command(after_help = "Example:\n  saldo serve --config /etc/saldo/saldo.toml")]
    Serve(Overrides),
    /// Run the command service alone: decides and appends. Any number of instances, each with a data_dir of its own.
    #[command(
        after_help = "Needs auth.public_keys, log.kafka and the key store; no Postgres. Listens on 127.0.0.1:50051.\n\nExamples:\n  saldo command --config /etc/saldo/saldo.toml\n  saldo command --config /etc/saldo/saldo.toml --listen 127.0.0.1:50061 --data-dir /var/lib/saldo/second"
    )]
    Command(Overrides),
    /// Run the projector alone: folds the log into the read models. Several are harmless; one works at a time.
    #[command(
        after_help = "Needs log.kafka, database.url and the key store. Health on 127.0.0.1:50053.\n\nExample:\n  saldo projector --config /etc/saldo/saldo.toml"
    )]
    Projector(Overrides),
    /// Run the scheduler alone: wakes accounts whose time has come. Several are harmless; one works at a time.
    #[command(
        after_help = "Needs log.kafka, database.url, services.command and auth.service_key. Health on 127.0.0.1:50054.\n\nExample:\n  saldo scheduler --config /etc/saldo/saldo.toml"
    )]
    Scheduler(Overrides),
    /// Run the dispatcher alone: sends messages. Several share the work.
    #[command(
        after_help = "Needs log.kafka, database.url, services.command, auth.service_key and sending.smtp. Health on 127.0.0.1:50055.\n\nExample:\n  saldo dispatcher --config /etc/saldo/saldo.toml"
    )]
    Dispatcher(Overrides),
    /// Run the query service alone: answers from the read models. Any number of instances.
    #[command(
        after_help = "Needs auth.public_keys, log.kafka and database.url. Listens on 127.0.0.1:50052.\n\nExample:\n  saldo query --config /etc/saldo/saldo.toml"
    )]
    Query(Overrides),
    /// Ask a process whether it is serving; exit code 0 if so. For health checks.
    #[command(
        after_help = "Examples:\n  saldo health\n  saldo health --endpoint http://127.0.0.1:50055\n  saldo health --service collections.v1.QueryService --endpoint http://127.0.0.1:50052"
    )]
    Health(health::HealthArgs),
    /// Load a CSV file through the gRPC command service.
    #[command(subcommand)]
    Import(import::Import),
    /// Show receivables by age.
    #[command(
        after_help = "Examples:\n  saldo aging\n  saldo aging --as-of 2013-06-30\n  saldo aging --as-of 2013-06-30 --known-at 2013-07-15T00:00:00Z --json"
    )]
    Aging(aging::AgingArgs),
    /// Show an account's commits and its state at any moment, straight from the log.
    #[command(
        after_help = "Examples:\n  saldo replay acme/D-0001\n  saldo replay acme/D-0001 --until 2026-03-01T12:00:00Z --as-of 2026-02-28"
    )]
    Replay(replay::ReplayArgs),
    /// Read the whole log; check chains, acceptance and read models.
    #[command(
        after_help = "Exit code 0: everything equal; 3: differences, or read models behind the log.\n\nExamples:\n  saldo verify\n  saldo verify --config /etc/saldo/saldo.toml --json"
    )]
    Verify(verify::VerifyArgs),
    /// Make the read models anew from the log, beside the live ones, compare, and swap.
    #[command(after_help = rebuild::HELP)]
    Rebuild(rebuild::RebuildArgs),
    /// Create the log (topic and Genesis). Run again it completes or changes nothing.
    #[command(subcommand)]
    Log(log_admin::LogCommand),
    /// Check a dunning policy and its templates, try its messages, and put it in force.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Switch sending on or off.
    #[command(subcommand)]
    Sending(publish::Sending),
    /// Show what waits to be said, why and until when, and what wants a person.
    #[command(after_help = "Examples:\n  saldo outbox\n  saldo outbox D-0001 --all\n  saldo outbox --json")]
    Outbox(outbox::OutboxArgs),
    /// Decide what becomes of a reminder that wants a person.
    #[command(subcommand)]
    Attempt(outbox::Attempt),
    /// Show what would be sent to an account and when, under the policy in force or a draft, if nothing is paid.
    #[command(
        after_help = "Examples:\n  saldo preview D-0001\n  saldo preview D-0001 --policy docs/policy\n  saldo preview D-0001 --policy docs/policy --from 2026-03-01T08:00:00Z --json"
    )]
    Preview(preview::PreviewArgs),
    /// Make a token for trying, or a key pair.
    #[command(
        after_help = "Examples:\n  saldo token --key dev-key.pem --tenant acme --subject me --role writer --role reader\n  saldo token --key dev-key.pem --public-key"
    )]
    Token(token::TokenArgs),
    /// Measure the command path and the projector against their floors.
    Bench(bench::BenchArgs),
    /// The embedded Postgres's own process.
    #[command(hide = true)]
    Postgres,
}

/// Runs one command.
pub async fn run(cli: Cli) -> Outcome {
    match cli.command {
        Action::Demo => demo::run().await,
        Action::Dev(args) => dev::run(args).await,
        Action::Serve(flags) => serve::run(flags, Service::ALL).await,
        Action::Command(flags) => serve::run(flags, &[Service::Command]).await,
        Action::Projector(flags) => serve::run(flags, &[Service::Projector]).await,
        Action::Scheduler(flags) => serve::run(flags, &[Service::Scheduler]).await,
        Action::Dispatcher(flags) => serve::run(flags, &[Service::Dispatcher]).await,
        Action::Query(flags) => serve::run(flags, &[Service::Query]).await,
        Action::Health(args) => health::run(args).await,
        Action::Import(import) => import::command(import).await,
        Action::Aging(args) => aging::run(args).await,
        Action::Replay(args) => replay::run(args).await,
        Action::Verify(args) => verify::run(args).await,
        Action::Rebuild(args) => rebuild::run(args).await,
        Action::Log(command) => log_admin::run(command).await,
        Action::Policy(command) => policy::run(command).await,
        Action::Sending(switch) => publish::sending(switch).await,
        Action::Outbox(args) => outbox::run(args).await,
        Action::Attempt(attempt) => outbox::attempt(attempt).await,
        Action::Preview(args) => preview::run(args).await,
        Action::Token(args) => token::run(args),
        Action::Bench(args) => bench::run(args).await,
        Action::Postgres => {
            telemetry::show_download();
            Ok(saldo_embedded_postgres::run_child().await)
        }
    }
}
