//! The command line.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    Outcome, aging, bench, completions, config::Overrides, demo, dev, health, import, log_admin, outbox, policy,
    preview, publish, rebuild, replay, serve, service::Service, settings, telemetry, token, verify,
};

/// Collections: what every debtor owes and everything said to them, as one append-only history that stands in court.
#[derive(Debug, Parser)]
#[command(
    name = "saldo",
    version,
    propagate_version = true,
    after_help = "\
Commands that ask a running service take SALDO_ENDPOINT and SALDO_TOKEN, those that work on the log itself SALDO_CONFIG; \
`saldo dev` prints all three. `saldo COMMAND --help` has examples.

Exit codes:
  0  done
  1  failed; the reason stands on stderr
  2  not a command line
  3  done, but rows were rejected (import), something differs (verify, rebuild), is wrong (policy) or was not taken (policy \
try)
  130  interrupted (rebuild); the next one goes on"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Action,
}

/// The commands as the overview lists them.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Begin", &["demo", "dev"]),
    ("Run services", &["serve", "command", "projector", "scheduler", "dispatcher", "query", "health"]),
    ("Bring in data and look at it", &["import", "aging", "replay"]),
    ("Speak to debtors", &["policy", "settings", "sending", "preview", "outbox", "attempt"]),
    ("Look after log and read models", &["log", "verify", "rebuild", "bench"]),
    ("At the command line", &["token", "completions", "help"]),
];

impl Cli {
    /// Reads the command line, or ends the process with what is wrong with it.
    pub fn read() -> Self {
        Self::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit())
    }
}

/// The whole command line, its overview by purpose.
pub fn command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    let mut overview = String::new();
    for (heading, names) in GROUPS {
        overview.push_str(&format!("{heading}:\n"));
        for found in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = found.get_about().map(ToString::to_string).unwrap_or_default();
            overview.push_str(&format!("  {:<12} {about}\n", found.get_name()));
        }
        overview.push('\n');
    }
    Cli::command().help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{overview}Options:\n{{options}}{{after-help}}"
    ))
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the whole system on a small made-up portfolio, then clean up.
    ///
    /// Starts everything in this process, a mail server with it, loads debtors and invoices through the API and lets its
    /// clock walk through ten weeks of dunning. Needs nothing and leaves nothing behind.
    #[command(after_help = "Example:\n  saldo demo")]
    Demo,
    /// Run everything in one process for exploration.
    ///
    /// Prints the endpoints, a token and things to try, and runs until it is interrupted. Makes its own keys, log, Postgres and
    /// mail server unless told to use yours.
    #[command(after_help = dev::EXAMPLES)]
    Dev(dev::DevArgs),
    /// Run every service in one process, as configured.
    ///
    /// Needs auth.public_keys and the key store; deploy/saldo.example.toml has every key.
    #[command(after_help = "Example:\n  saldo serve --config /etc/saldo/saldo.toml")]
    Serve(Overrides),
    /// Run the command service alone: decides and appends.
    ///
    /// Any number of instances, each with a data_dir of its own. Needs auth.public_keys, log.kafka and the key store; no
    /// Postgres. Listens on 127.0.0.1:50051.
    #[command(
        after_help = "Examples:\n  saldo command --config /etc/saldo/saldo.toml\n  saldo command --config /etc/saldo/saldo.toml --listen 127.0.0.1:50061 --data-dir /var/lib/saldo/second --keyring-dir /var/lib/saldo/keyring"
    )]
    Command(Overrides),
    /// Run the projector alone: folds the log into the read models.
    ///
    /// Several are harmless; one works at a time. Needs log.kafka, database.url and the key store. Health on 127.0.0.1:50053.
    #[command(after_help = "Example:\n  saldo projector --config /etc/saldo/saldo.toml")]
    Projector(Overrides),
    /// Run the scheduler alone: wakes accounts whose time has come.
    ///
    /// Several are harmless; one works at a time. Needs log.kafka, database.url, services.command and auth.service_key. Health
    /// on 127.0.0.1:50054.
    #[command(after_help = "Example:\n  saldo scheduler --config /etc/saldo/saldo.toml")]
    Scheduler(Overrides),
    /// Run the dispatcher alone: sends messages.
    ///
    /// Several share the work. Needs log.kafka, database.url, services.command, auth.service_key and sending.smtp. Health on
    /// 127.0.0.1:50055.
    #[command(after_help = "Example:\n  saldo dispatcher --config /etc/saldo/saldo.toml")]
    Dispatcher(Overrides),
    /// Run the query service alone: answers from the read models.
    ///
    /// Any number of instances. Needs auth.public_keys, log.kafka and database.url. Listens on 127.0.0.1:50052.
    #[command(after_help = "Example:\n  saldo query --config /etc/saldo/saldo.toml")]
    Query(Overrides),
    /// Ask a process whether it is serving.
    ///
    /// For health checks: needs no token, waits three seconds. Exit code 0: it is; 1: it is not, or does not answer.
    #[command(
        after_help = "Examples:\n  saldo health\n  saldo health --endpoint http://127.0.0.1:50055\n  saldo health --service collections.v1.QueryService --endpoint http://127.0.0.1:50052"
    )]
    Health(health::HealthArgs),
    /// Load a CSV file through the gRPC command service.
    ///
    /// Run again it adds nothing; run after a crash it completes. Needs a token of role writer.
    #[command(subcommand)]
    Import(import::Import),
    /// Show receivables by age.
    ///
    /// Per account and currency: what was true on a day, as it was known at an instant. Needs a token of role reader.
    #[command(
        after_help = "Examples:\n  saldo aging\n  saldo aging --as-of 2013-06-30\n  saldo aging --as-of 2013-06-30 --known-at 2013-07-15T00:00:00Z --json\n  saldo aging --account D-0001"
    )]
    Aging(aging::AgingArgs),
    /// Show an account's commits and its state at any moment, straight from the log.
    ///
    /// Asks no service and no read model: reads the account's partition and applies the acceptance rule itself. Needs the
    /// configuration, and no token.
    #[command(
        after_help = "Examples:\n  saldo replay acme/D-0001\n  saldo replay acme/D-0001 --until 2026-03-01T12:00:00Z --as-of 2026-02-28\n  saldo replay acme/D-0001 --config /etc/saldo/saldo.toml --json"
    )]
    Replay(replay::ReplayArgs),
    /// Read the whole log; check chains, acceptance and read models.
    ///
    /// Folds the log twice, by the projector's rules and by the domain itself, and compares both with the live read models,
    /// which may go on meanwhile. Exit code 0: everything equal; 3: differences, or read models behind the log.
    #[command(after_help = "Examples:\n  saldo verify\n  saldo verify --config /etc/saldo/saldo.toml --json")]
    Verify(verify::VerifyArgs),
    /// Make the read models anew from the log, beside the live ones, compare, and swap.
    ///
    /// Queries go on meanwhile, and after the swap at once with the new ones. Needs room in Postgres for a second copy.
    #[command(after_help = rebuild::HELP)]
    Rebuild(rebuild::RebuildArgs),
    /// Create the log, and raise the format that it allows.
    #[command(subcommand)]
    Log(log_admin::LogCommand),
    /// Check a dunning policy and its templates, try its messages, and put it in force.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Switch sending on or off.
    ///
    /// It is off until it is switched on. Needs a token of role operator.
    #[command(subcommand)]
    Sending(publish::Sending),
    /// Show or set how the creditor's organisation works: name, time zone, languages, fiscal year.
    #[command(subcommand)]
    Settings(settings::SettingsCommand),
    /// Show what waits to be said, why and until when, and what wants a person.
    ///
    /// Without --all only what waits (due, deferred, started) or wants a person (unknown, rejected, nobody to reach). Needs a
    /// token of role reader.
    #[command(after_help = "Examples:\n  saldo outbox\n  saldo outbox D-0001 --all\n  saldo outbox --json")]
    Outbox(outbox::OutboxArgs),
    /// Decide what becomes of a reminder that wants a person.
    ///
    /// `saldo outbox` shows which do. Needs a token of role operator.
    #[command(subcommand)]
    Attempt(outbox::Attempt),
    /// Show what would be sent to an account and when, if nothing is paid.
    ///
    /// Under the policy in force, as if sending were on, or under a draft on disk. Nothing is sent and nothing recorded. Needs
    /// a token of role reader.
    #[command(
        after_help = "Examples:\n  saldo preview D-0001\n  saldo preview D-0001 --policy docs/policy\n  saldo preview D-0001 --policy docs/policy --from 2026-03-01T08:00:00Z --json"
    )]
    Preview(preview::PreviewArgs),
    /// Make a token for trying, or a key pair.
    ///
    /// In earnest tokens come from an identity provider whose public keys auth.public_keys names.
    #[command(
        after_help = "Examples:\n  saldo token --key dev-key.pem --tenant acme --subject me --role writer --role reader\n  saldo token --key dev-key.pem --public-key > dev-key.pub.pem"
    )]
    Token(token::TokenArgs),
    /// Print completions for a shell.
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::CompletionsArgs),
    /// Measure the command path and the read models, or sending, against their floors.
    ///
    /// Each figure stands beside that of the bare thing it rests on, measured in the same run. Each run makes topics and a
    /// folder of its own; topics on a named Kafka are left behind. docs/performance.md reads the figures.
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
        Action::Settings(command) => settings::run(command).await,
        Action::Sending(switch) => publish::sending(switch).await,
        Action::Outbox(args) => outbox::run(args).await,
        Action::Attempt(attempt) => outbox::attempt(attempt).await,
        Action::Preview(args) => preview::run(args).await,
        Action::Token(args) => token::run(args),
        Action::Completions(args) => completions::run(args),
        Action::Bench(args) => bench::run(args).await,
        Action::Postgres => {
            telemetry::show_download();
            Ok(saldo_embedded_postgres::run_child().await)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_lists_every_command_once() {
        let mut command = Cli::command();
        command.build();
        let mut all: Vec<&str> =
            command.get_subcommands().filter(|one| !one.is_hide_set()).map(clap::Command::get_name).collect();
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        all.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, all);
        let help = super::command().render_help().to_string();
        assert!(help.contains("Speak to debtors:\n  policy       Check a dunning policy"), "{help}");
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_an_example() {
        fn look(command: &clap::Command, path: &str) {
            for one in command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
                let path = format!("{path} {}", one.get_name());
                assert!(one.get_about().is_some(), "{path} says nothing");
                if one.is_subcommand_required_set() {
                    look(one, &path);
                } else {
                    let after = one.get_after_help().map(ToString::to_string).unwrap_or_default();
                    assert!(after.contains("Example") && after.contains(&format!("\n  {path}")), "{path}: {after:?}");
                }
            }
        }
        look(&Cli::command(), "saldo");
    }
}
