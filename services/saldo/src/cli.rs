//! The command line.

use clap::{Parser, Subcommand};

use crate::{
    Outcome, aging, bench, config::Overrides, demo, dev, import, log_admin, outbox, policy, preview, publish, rebuild,
    replay, telemetry, token, verify,
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
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole system on a small synthetic portfolio, then clean up.
    #[command(after_help = "Example:\n  saldo demo")]
    Demo,
    /// Run everything in one process for exploration; prints endpoints, a token and things to try.
    #[command(after_help = dev::EXAMPLES)]
    Dev(dev::DevArgs),
    /// Run everything in one process as configured; needs auth.public_keys.
    #[command(after_help = "Example:\n  saldo serve --config /etc/saldo/saldo.toml")]
    Serve(Overrides),
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
    /// Measure the command path and the read models against their floors.
    Bench(bench::BenchArgs),
    /// The embedded Postgres's own process.
    #[command(hide = true)]
    Postgres,
}

/// Runs one command.
pub async fn run(cli: Cli) -> Outcome {
    match cli.command {
        Command::Demo => demo::run().await,
        Command::Dev(args) => dev::run(args).await,
        Command::Serve(flags) => dev::serve(flags).await,
        Command::Import(import) => import::command(import).await,
        Command::Aging(args) => aging::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Rebuild(args) => rebuild::run(args).await,
        Command::Log(command) => log_admin::run(command).await,
        Command::Policy(command) => policy::run(command).await,
        Command::Sending(switch) => publish::sending(switch).await,
        Command::Outbox(args) => outbox::run(args).await,
        Command::Attempt(attempt) => outbox::attempt(attempt).await,
        Command::Preview(args) => preview::run(args).await,
        Command::Token(args) => token::run(args),
        Command::Bench(args) => bench::run(args).await,
        Command::Postgres => {
            telemetry::show_download();
            Ok(saldo_embedded_postgres::run_child().await)
        }
    }
}
