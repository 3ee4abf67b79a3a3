//! The command line. Each command is a file or a folder below: its flags, its help with examples, and its run. The tree
//! here lists each of them in one line.

mod account;
mod aging;
mod attempt;
mod bench;
mod change;
mod completions;
mod credit;
mod credit_note;
mod demo;
mod dev;
mod health;
mod hold;
mod import;
mod invoice;
mod log;
mod moved;
mod outbox;
mod payment;
mod policy;
mod postgres;
mod preview;
mod reasons;
mod rebuild;
mod refusal;
mod replay;
mod sending;
mod serve;
mod settings;
mod token;
mod values;
mod verify;

use std::pin::Pin;

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use crate::Outcome;

/// The tree, by purpose, in the order of the overview. A new command is a line here and its module above.
#[rustfmt::skip]
const TREE: [(&str, &[Entry]); 7] = [
    ("Begin", &[
        command::<demo::Demo>(),
        command::<dev::Dev>(),
    ]),
    ("Run services", &[
        command::<serve::Serve>(),
        command::<serve::Command>(),
        command::<serve::Projector>(),
        command::<serve::Scheduler>(),
        command::<serve::Dispatcher>(),
        command::<serve::Query>(),
        command::<health::Health>(),
    ]),
    ("Bring in data and look at it", &[
        command::<import::Import>(),
        command::<aging::Aging>(),
        command::<replay::Replay>(),
    ]),
    ("Look at an account and correct it", &[
        command::<account::Account>(),
        command::<invoice::Invoice>(),
        command::<payment::Payment>(),
        command::<credit_note::CreditNote>(),
    ]),
    ("Speak to debtors", &[
        command::<policy::Policy>(),
        command::<settings::Settings>(),
        command::<sending::Sending>(),
        command::<preview::Preview>(),
        command::<outbox::Outbox>(),
        command::<attempt::Attempt>(),
        command::<hold::Hold>(),
    ]),
    ("Look after log and read models", &[
        command::<log::Log>(),
        command::<verify::Verify>(),
        command::<rebuild::Rebuild>(),
        command::<bench::Bench>(),
    ]),
    ("At the command line", &[
        command::<token::Token>(),
        command::<completions::Completions>(),
    ]),
];

/// Commands that people do not call.
const HIDDEN: [Entry; 1] = [command::<postgres::Postgres>()];

const ABOUT: &str =
    "Collections: what every debtor owes and everything said to them, as one append-only history that stands in court";

const AFTER_HELP: &str = "\
Commands that ask a running service take SALDO_ENDPOINT and SALDO_TOKEN. Commands that work on the log itself take SALDO_CONFIG. \
`saldo dev` prints all three. `saldo COMMAND --help` has examples.

Exit codes:
  0  done
  1  failed; the reason is on standard error
  2  not a valid command line
  3  done, but rows were rejected (import), something differs (verify, rebuild, log accept), some reminders were refused \
(attempt --all), a policy has faults (policy), or a message was not accepted (policy try)
  130  interrupted (rebuild); the next run goes on from there";

/// A command: clap's derive declares its flags and its help.
trait Run: CommandFactory + FromArgMatches {
    async fn run(self) -> Outcome;
}

/// A command, ready to run.
pub type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// A command, as the tree holds it.
struct Entry {
    declare: fn() -> clap::Command,
    start: fn(&ArgMatches) -> Result<Running, clap::Error>,
}

const fn command<C: Run + 'static>() -> Entry {
    Entry {
        declare: C::command,
        start: |matches| {
            let command = C::from_arg_matches(matches)?;
            Ok(Box::pin(command.run()))
        },
    }
}

/// Reads the command line and returns the command that it names; or ends the process with what is wrong with it.
pub fn read() -> Running {
    let matches = root().get_matches();
    let entries = TREE.iter().flat_map(|(_, entries)| *entries).chain(&HIDDEN);
    let named = matches.subcommand().and_then(|(name, matches)| {
        let entry = entries.into_iter().find(|entry| (entry.declare)().get_name() == name)?;
        Some((entry.start)(matches).unwrap_or_else(|error| error.exit()))
    });
    // clap has refused a command line that names no command of the tree.
    named.unwrap_or_else(|| Box::pin(async { Err("no such command; `saldo help` lists all".into()) }))
}

/// The whole command line, its overview by purpose.
fn root() -> clap::Command {
    let mut built = bare();
    built.build();
    let line = |name: &str| {
        let about = built.find_subcommand(name).and_then(clap::Command::get_about);
        format!("  {name:<12} {}\n", about.map(ToString::to_string).unwrap_or_default())
    };
    let section = |(heading, entries): (&str, &[Entry])| {
        let lines: String = entries.iter().map(|entry| line((entry.declare)().get_name())).collect();
        format!("{heading}:\n{lines}")
    };
    let overview = TREE.map(section).join("\n") + &line("help");
    bare().help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{overview}\nOptions:\n{{options}}{{after-help}}"
    ))
}

fn bare() -> clap::Command {
    let entries = TREE.iter().flat_map(|(_, entries)| *entries).chain(&HIDDEN);
    clap::Command::new("saldo")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .about(ABOUT)
        .after_help(AFTER_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(entries.map(|entry| (entry.declare)()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_lists_every_command_once() {
        let mut command = bare();
        command.build();
        let help = root().render_help().to_string();
        for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            let about = one.get_about().map(ToString::to_string).unwrap_or_default();
            let line = format!("\n  {:<12} {about}\n", one.get_name());
            assert_eq!(help.matches(&line).count(), 1, "{line} in {help}");
        }
        assert!(help.contains("Speak to debtors:\n  policy       Check a dunning policy"), "{help}");
        assert!(!help.contains("postgres"), "{help}");
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
        look(&bare(), "saldo");
    }

    #[test]
    fn an_instant_or_a_day_in_another_form_is_answered_with_an_example() {
        for (args, example) in [
            (&["aging", "--known-at", "2026-11-27"][..], "2026-11-27T00:00:00Z"),
            (&["replay", "acme/D-1", "--until", "2026-11-27"], "2026-11-27T00:00:00Z"),
            (&["preview", "D-1", "--from", "today"], "2026-11-27T00:00:00Z"),
            (&["aging", "--as-of", "27.11.2026"], "2026-11-27"),
            (&["replay", "acme/D-1", "--as-of", "27.11.2026"], "2026-11-27"),
            (&["account", "show", "D-1", "--known-at", "2026-11-27"], "2026-11-27T00:00:00Z"),
            (&["invoice", "show", "D-1", "F-7", "--known-at", "2026-11-27"], "2026-11-27T00:00:00Z"),
            (&["payment", "show", "D-1", "P-1", "--as-of", "27/11/2026"], "2026-11-27"),
            (&["payment", "reverse", "D-1", "P-1", "--on", "yesterday"], "2026-11-27"),
        ] {
            let args = ["saldo"].iter().chain(args);
            let error = bare().try_get_matches_from(args).expect_err("not an instant").to_string();
            assert!(error.contains(&format!("such as {example}")), "{error}");
        }
    }

    #[test]
    fn the_tree_is_one_that_clap_takes() {
        bare().debug_assert();
    }
}
