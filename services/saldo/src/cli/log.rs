//! `saldo log`: creates the log, raises the format that it allows, and accepts a log or a key store that was restored.

use std::process::ExitCode;

use anstream::println;
use clap::Args;
use saldo_catalog::{
    operator,
    upgrade::{Upgraded, allowed, upgrade},
};
use saldo_clock::Clock;
use saldo_facts::{Format, KeyStoreBound};
use saldo_keyring::WithoutKey;
use saldo_log::{keys::LogKeys, same::hex};
use serde_json::json;

use super::{Run, verify::DIFFERENT};
use crate::{
    Failure, Outcome,
    config::{Config, Overrides},
    run::{
        belonging::Examined,
        stores::{Identities, NotConfigured, Stores, UPGRADER, holds_commits},
    },
};

/// Create the log, or allow it to hold the facts of a new release.
#[derive(clap::Parser)]
#[command(name = "log")]
pub enum Log {
    /// Create the accounts topic and the catalog topic, and the Genesis of every partition.
    ///
    /// A second run completes what is missing, and otherwise changes nothing. Prints the identity of the log. The number of
    /// partitions can never be changed. A new log may hold every fact that this release knows.
    #[command(
        after_help = "Examples:\n  saldo log create --config /etc/saldo/saldo.toml\n  saldo log create --kafka broker:9092"
    )]
    Create(Overrides),
    /// Allow the log to hold the facts of this release.
    ///
    /// Run it once every service runs the new release. A service of an older release parks each account in which it meets a newer
    /// fact. Until the upgrade, commands that need a newer fact are refused with FORMAT_NOT_RAISED. A second run changes nothing.
    /// The format never goes back.
    #[command(
        after_help = "Examples:\n  saldo log upgrade --config /etc/saldo/saldo.toml\n  saldo log upgrade --kafka broker:9092 --json"
    )]
    Upgrade(UpgradeArgs),
    /// Go on with a log or a key store that was restored from a backup.
    ///
    /// No process starts where the log and the key store do not belong together, or where one of them is older than the other. This
    /// command shows what was found. With the flag that names it, the processes can start again. Stop every process first: the
    /// command changes nothing while it finds one.
    #[command(
        after_help = "With --older-log sending is held for every creditor until `saldo sending release`, since the log does not know what was sent after it was backed up. The read models are made anew by the next projector.\n\nExit code 0: log and key store belong together; 3: they do not, and nothing was changed.\n\nExamples:\n  saldo log accept\n  saldo log accept --older-log --config /etc/saldo/saldo.toml\n  saldo log accept --missing-keys"
    )]
    Accept(AcceptArgs),
    /// Add a key for the records of the log, and end the one before.
    ///
    /// A record counts only if it was written under a key of `log.keys`. Rotate the key when somebody may have read the file. The
    /// services take the new key by themselves: they write under it after a minute. Ten minutes after that command no new record
    /// counts that was written under the key before. Records of earlier times count for ever, so no key is ever removed. Back up
    /// the key store afterwards.
    #[command(
        after_help = "Examples:\n  saldo log rotate-key --config /etc/saldo/saldo.toml\n  saldo log rotate-key --keyring-dir /var/lib/saldo/keyring --kafka broker:9092"
    )]
    RotateKey(Overrides),
}

#[derive(Args)]
pub struct AcceptArgs {
    /// The log goes on from an earlier state: what was recorded since is given up. Holds sending in any case.
    #[arg(long)]
    older_log: bool,
    /// The personal data whose keys are missing is lost for ever.
    #[arg(long)]
    missing_keys: bool,
    #[command(flatten)]
    settings: Overrides,
}

#[derive(Args)]
pub struct UpgradeArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Overrides,
}

impl Run for Log {
    async fn run(self) -> Outcome {
        let settings = match &self {
            Log::Create(settings) | Log::RotateKey(settings) => settings,
            Log::Upgrade(args) => &args.settings,
            Log::Accept(args) => &args.settings,
        };
        let config = Config::load(settings)?;
        let stores = match &self {
            Log::Create(settings) if !config.log.is_named() => {
                if !config.is_placed(settings) {
                    return Err(NotConfigured::log(&config).into());
                }
                Stores::open_shown(&config).await?
            }
            _ => Stores::open_for_tool(&config, self.sets_rows_back() && config.database.url.is_some()).await?,
        };
        let done = match &self {
            Log::Create(_) => create(&config, &stores).await.map(|()| ExitCode::SUCCESS),
            Log::Upgrade(args) => raise(&config, &stores, args.json).await.map(|()| ExitCode::SUCCESS),
            Log::Accept(args) => accept(&config, &stores, args).await,
            Log::RotateKey(_) => rotate(&config, &stores).await.map(|()| ExitCode::SUCCESS),
        };
        stores.close().await;
        done
    }
}

impl Log {
    fn sets_rows_back(&self) -> bool {
        matches!(self, Log::Accept(AcceptArgs { older_log: true, .. }))
    }
}

/// The actor of an acceptance in the history of the catalog.
const ACCEPTER: &str = "saldo log accept";

async fn accept(config: &Config, stores: &Stores, args: &AcceptArgs) -> Outcome {
    let identities = stores.identities(config, false).await?;
    let found = Examined::open(config, stores, &identities, args.missing_keys).await?;
    let WithoutKey { values, keys } = found.without_key;
    let is_whole = found.older_log.is_none() && values == 0 && !found.other_store;
    let accepted =
        (found.older_log.is_none() || args.older_log) && ((values == 0 && !found.other_store) || args.missing_keys);
    if let Some(changed) = &found.older_log {
        println!("the log: {changed}");
    }
    if found.other_store {
        println!("key store {} is not the one that the catalog names", found.keyring.dir().display());
    }
    if values > 0 {
        println!("{values} sealed values have no key in the key store ({keys} keys are missing)");
    }
    if !accepted {
        println!("nothing was changed; `saldo log accept --help` says how to go on");
        return Ok(ExitCode::from(DIFFERENT));
    }
    if let Some(who) = still_running(stores, &found, args.older_log).await? {
        if is_whole && !args.older_log {
            println!("log and key store belong together");
            return Ok(ExitCode::SUCCESS);
        }
        return Err(format!(
            "{who}. Nothing was changed. Stop every process, on every host, and run this command again"
        )
        .into());
    }
    let now = Clock::system().now();
    let catalog = || stores.catalog_log.clone();
    if args.older_log {
        let reason = "an older log was restored".to_owned();
        operator::hold_sending(catalog(), &identities.catalog, true, reason, ACCEPTER, now).await?;
        println!("sending is held for every creditor until `saldo sending release --reason TEXT`");
        match stores.database() {
            Ok(database) => {
                saldo_readmodel::forget(&database.pool).await?;
                println!("the next projector makes the read models anew");
            }
            Err(_) => println!("database.url is not set: empty the read models' database before the next start"),
        }
    }
    found.keyring.bind().await?;
    if let (true, Some(own)) = (found.other_store, found.keyring.binding()) {
        let bound = KeyStoreBound { accounts_log: own.log_id, key_store: own.store_id };
        operator::bind_anew(catalog(), &identities.catalog, bound, ACCEPTER, now).await?;
    }
    found.keyring.accept_reached(found.marks()).await?;
    println!("log and key store belong together; start the processes");
    Ok(ExitCode::SUCCESS)
}

/// What shows that processes still run. A command service or a projector uses the key store; every other service the database.
async fn still_running(stores: &Stores, found: &Examined, rows_too: bool) -> Result<Option<String>, Failure> {
    if !found.keyring.is_alone()? {
        return Ok(Some(format!("another process uses key store {}", found.keyring.dir().display())));
    }
    match stores.database() {
        Ok(database) if rows_too => {
            let sessions = saldo_postgres::others(&database.pool).await?;
            let told = || format!("other processes of Saldo have {sessions} sessions in the database of database.url");
            Ok((sessions > 0).then(told))
        }
        _ => Ok(None),
    }
}

async fn create(config: &Config, stores: &Stores) -> Result<(), Failure> {
    let Identities { accounts, catalog } = stores.identities(config, true).await?;
    // Services of an older release may read a log that holds something. A person raises what such a log allows.
    let in_use = holds_commits(stores.log.as_ref(), &accounts).await?
        || holds_commits(stores.catalog_log.as_ref(), &catalog).await?;
    let format = match in_use {
        true => allowed(stores.catalog_log.clone(), &catalog).await?,
        false => upgrade(stores.catalog_log.clone(), &catalog, Clock::system().now(), UPGRADER).await?.to,
    };
    for (topic, identity) in [(&config.log.topic, accounts), (&config.log.catalog_topic(), catalog)] {
        println!("{topic}: log {}, partitions: {}", hex(&identity.log_id), identity.partitions);
    }
    match format < Format::NEWEST {
        true => println!("format {format}; this release knows {}: see `saldo log upgrade --help`", Format::NEWEST),
        false => println!("format {format}"),
    }
    Ok(())
}

async fn rotate(config: &Config, stores: &Stores) -> Result<(), Failure> {
    // Fails for the keys of another log.
    stores.identities(config, false).await?;
    let path = config.log_keys();
    let number = LogKeys::rotate(&path, Clock::system().now())?;
    println!("key {number} was added to {}; back up the key store", path.display());
    Ok(())
}

async fn raise(config: &Config, stores: &Stores, as_json: bool) -> Result<(), Failure> {
    let Identities { catalog, .. } = stores.identities(config, false).await?;
    let now = Clock::system().now();
    let Upgraded { from, to } = upgrade(stores.catalog_log.clone(), &catalog, now, UPGRADER).await?;
    if as_json {
        println!("{}", json!({ "from": from, "to": to, "raised": from != to }));
    } else if from == to {
        println!("nothing to do: the log allows format {to}");
    } else {
        println!("from now on the log allows format {to}; before, it allowed format {from}");
    }
    Ok(())
}
