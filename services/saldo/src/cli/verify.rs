//! `saldo verify`.

use std::{process::ExitCode, time::Duration};

use anstream::{print, println};
use saldo_keyring::{Keyring, KeyringError, WhereMissing};
use saldo_log::acceptor::VoidReason;
use saldo_projector::{Difference, Differences, Report};

use super::Run;
use crate::{
    Outcome,
    config::{Config, Overrides},
    run::{stores::Stores, telemetry},
    terminal::progress,
};

/// How long the check waits for the read models to reach the log's end.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Exit code when differences were found, or the read models are behind the log.
pub const DIFFERENT: u8 = 3;

/// Read the whole log; check chains, acceptance and read models.
///
/// Folds the log twice, with the projector's rules and with the domain itself, and compares both with the live read models. The
/// services can run meanwhile. Sealed values are counted whose key is not in the key store. Exit code 0: everything is equal and
/// every key is there; 3: differences, read models behind the log, or keys that are missing.
#[derive(clap::Parser)]
#[command(
    name = "verify",
    after_help = "Examples:\n  saldo verify\n  saldo verify --config /etc/saldo/saldo.toml --json"
)]
pub struct Verify {
    #[command(flatten)]
    settings: Overrides,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Run for Verify {
    async fn run(self) -> Outcome {
        let config = Config::load(&self.settings)?;
        telemetry::start(&config.tracing)?;
        let stores = Stores::open_for_tool(&config, true).await?;
        let identity = stores.identities(&config, false).await?.accounts;
        let bar = progress::records("verifying");
        // Without the key store, everything but personal values can be checked.
        let keyring = match Keyring::open(&config.keyring_dir(), identity.log_id, WhereMissing::Refuse) {
            Ok(keyring) => Some(keyring),
            Err(KeyringError::Missing { .. }) => None,
            Err(error) => return Err(format!("keyring.dir: {error}").into()),
        };
        let keys = keyring.as_ref();
        let pool = &stores.database()?.pool;
        let report = saldo_projector::verify(stores.log.as_ref(), &identity, pool, keys, LONGEST_WAIT, |progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        });
        let report = report.await;
        bar.finish_and_clear();
        stores.close().await;
        let report = report?;
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print!("{}", describe(&report));
        }
        Ok(if equal(&report) { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
    }
}

pub fn equal(report: &Report) -> bool {
    report.found.differences == 0 && report.behind == 0 && report.seals_without_key.unwrap_or_default() == 0
}

pub fn describe(report: &Report) -> String {
    let probe = VoidReason::Probe.to_string();
    let probes = report.void.get(&probe).copied().unwrap_or_default();
    let void = report.void.values().sum::<u64>() - probes;
    let mut text = format!(
        "{} records read: {} commits accepted, {void} void; {} events on {} accounts, {} parked\n",
        report.records, report.accepted, report.events, report.accounts, report.parked
    );
    for (reason, count) in report.void.iter().filter(|(reason, _)| **reason != probe) {
        text += &format!("  void: {count} x {reason}\n");
    }
    if report.foreign > 0 {
        text += &format!(
            "  {} of them were NOT WRITTEN BY SALDO: somebody else can write the topic; they count for nobody, see docs/security.md\n",
            report.foreign
        );
    }
    if probes > 0 {
        let noun = if probes == 1 { "probe" } else { "probes" };
        text += &format!("  {probes} {noun} of the clock: a command service compares its clock with the log's\n");
    }
    match (report.seals_without_key, report.missing_keys) {
        (None, _) => text += "no key store was found: personal values were not compared\n",
        (Some(0), _) => {}
        (Some(values), keys) => {
            let keys = keys.unwrap_or_default();
            text += &format!(
                "{values} sealed values have NO KEY in the key store ({keys} keys are missing): their names and addresses cannot be read; restore the newest backup of the key store\n"
            );
        }
    }
    if report.behind > 0 {
        text += &format!(
            "every chain holds, but the read models are {} records BEHIND the log; is a projector running?\n",
            report.behind
        );
    }
    if report.found.differences == 0 && report.behind == 0 {
        text += "every chain holds, and the read models equal the log\n";
    } else if report.found.differences == 0 {
        text += "up to there they equal the log\n";
    } else {
        text += &format!("{} DIFFERENCES; `saldo rebuild` rebuilds the read models:\n", report.found.differences);
        text += &examples(&report.found);
    }
    text
}

/// One line for each listed difference.
pub fn examples(found: &Differences) -> String {
    let line = |one: &Difference| format!("  {} {}: log {}, rows {}\n", one.account, one.what, one.log, one.rows);
    found.examples.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_of_the_clock_is_explained_and_is_no_void_commit() {
        let void = [(VoidReason::Probe.to_string(), 2), (VoidReason::NotTheHead.to_string(), 1)].into();
        let text = describe(&Report { records: 20, accepted: 16, void, ..Report::default() });
        assert!(text.contains("16 commits accepted, 1 void;"), "{text}");
        assert!(text.contains("2 probes of the clock: a command service"), "{text}");
    }

    #[test]
    fn o1_seals_without_a_key_are_counted_and_no_success() {
        let report = Report { seals_without_key: Some(7), missing_keys: Some(3), ..Report::default() };
        let text = describe(&report);
        assert!(text.contains("7 sealed values have NO KEY in the key store (3 keys are missing)"), "{text}");
        assert!(!equal(&report));
        assert!(equal(&Report { seals_without_key: Some(0), ..Report::default() }));
    }
}
