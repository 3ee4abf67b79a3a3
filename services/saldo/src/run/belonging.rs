//! The accounts log, the catalog, the key store and the read models' database belong together. The operator's chain of the catalog
//! names the accounts log and the key store. The key store names its log, and notes how far that log has come.

use jiff::Timestamp;
use saldo_catalog::{
    State,
    operator::{self, OperatorError},
    publish::PublishError,
};
use saldo_facts::{CatalogEvent, Commit, KeyStoreBound};
use saldo_keyring::{Absent, Keyring, KeyringError, Mark, WhereMissing, WithoutKey};
use saldo_log::{
    Log,
    acceptor::Position,
    frame::{self, Frame, Kind},
    genesis::Identity,
    same::{self, Changed, hex},
};
use saldo_readmodel::MadeFrom;
use sqlx::PgPool;

use super::stores::{Identities, Stores, holds_commits};
use crate::{Failure, config::Config};

/// Records asked of the log at once when it is searched for keys.
const BATCH: usize = 2_000;
/// The actor of the binding in the history of the catalog.
const BINDER: &str = "saldo command";

/// A key store that was opened and compared with the log.
pub struct Examined {
    pub keyring: Keyring,
    /// The binding in the catalog.
    pub bound: Option<KeyStoreBound>,
    /// The log is older than the key store has seen it.
    pub older_log: Option<Changed>,
    /// The catalog names another key store.
    pub other_store: bool,
    /// Seals of the log since the last note.
    pub without_key: WithoutKey,
    /// Where the log stands.
    pub positions: Vec<Position>,
}

/// Why a process does not start with this key store and this log.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    #[error(
        "the catalog belongs to accounts log {named}, and {topic} is log {log}: correct log.kafka, log.topic or log.embedded_url"
    )]
    OtherCatalog { named: String, topic: String, log: String },
    #[error(
        "database.url: the read models are of log {found}, and {topic} is log {log}: name the right database, correct the settings of the log, or make the read models of this log with `saldo rebuild`"
    )]
    OtherDatabase { found: String, topic: String, log: String },
    #[error(
        "the read models have read more than the log has: {0}. Correct log.kafka, log.embedded_url or database.url if one of them is the wrong server. If the older log is meant, stop every process and run `saldo log accept --older-log`, which has the read models made anew"
    )]
    ReadModelsAhead(Changed),
    #[error(
        "key store {dir} is store {found}, and the personal data of this log is sealed with key store {named}: name its folder (keyring.dir), or restore it from its backup. Every process of one log shares one key store. If that store is lost for ever, `saldo log accept --missing-keys` goes on with this one"
    )]
    OtherStore { dir: String, found: String, named: String },
    #[error(
        "key store {dir} is missing, and is not made: an older release created this log, and until its format is raised the catalog cannot name the key store, so that another process could make another one. Run `saldo log upgrade` once every process runs this release, and start again"
    )]
    NotNamedYet { dir: String },
    #[error(
        "{0}. Nothing was changed. Correct log.kafka or log.embedded_url if this is the wrong server. If the older log is meant, stop every process, run `saldo log accept --older-log` and start them again; sending is held then until `saldo sending release --reason TEXT`"
    )]
    OlderLog(Changed),
    #[error(
        "key store {dir} is older than the log: {values} values that were sealed since have no key in it ({keys} keys are missing). Restore the newest backup of the key store, or name the right folder (keyring.dir). If these keys are lost for ever, `saldo log accept --missing-keys` goes on without them"
    )]
    MissingKeys { dir: String, values: u64, keys: u64 },
}

impl Examined {
    /// Opens the key store and compares it with the log. A missing store is made only for a log without commits, or where a
    /// person goes `on_without` it.
    pub async fn open(
        config: &Config,
        stores: &Stores,
        identities: &Identities,
        on_without: bool,
    ) -> Result<Self, Failure> {
        let (log, identity) = (stores.log.as_ref(), &identities.accounts);
        let state = operator::read(stores.catalog_log.clone(), &identities.catalog).await?;
        check_catalog(&state, log, identity)?;
        let bound = state.system().bound;
        let is_new = bound.is_none() && !holds_commits(log, identity).await?;
        let missing = match on_without || (is_new && can_be_named(&state)) {
            true => WhereMissing::Create,
            false => WhereMissing::Refuse,
        };
        let keyring = match Keyring::open(&config.keyring_dir(), identity.log_id, missing) {
            Err(KeyringError::Missing { path }) if is_new => return Err(Mismatch::NotNamedYet { dir: path }.into()),
            opened => opened.map_err(|error| format!("keyring.dir: {error}"))?,
        };
        let other_store = is_other(bound, &keyring);
        let reached = keyring.reached().map_err(|error| format!("keyring.dir: {error}"))?;
        let positions = same::positions(log, identity).await?;
        let (mut older_log, mut from) = (None, vec![0; positions.len()]);
        if let Some(reached) = reached {
            let noted: Vec<Position> = reached.marks.iter().map(position).collect();
            older_log = same::compare(log, identity, &noted).await?;
            if keyring.proves(&reached) && older_log.is_none() {
                from = noted.iter().map(|position| position.next).collect();
            }
        }
        let without_key = without_key(log, identity, &keyring, &from, &positions).await?;
        Ok(Self { keyring, bound, older_log, other_store, without_key, positions })
    }

    /// The reason not to start, if there is one.
    pub fn mismatch(&self) -> Option<Mismatch> {
        let dir = || self.keyring.dir().display().to_string();
        if let Some(changed) = &self.older_log {
            return Some(Mismatch::OlderLog(changed.clone()));
        }
        if let (true, Some(bound)) = (self.other_store, self.bound) {
            let found = self.keyring.binding().map_or_else(|| "without an id".to_owned(), |own| hex(&own.store_id));
            return Some(Mismatch::OtherStore { dir: dir(), found, named: hex(&bound.key_store) });
        }
        let WithoutKey { values, keys } = self.without_key;
        (values > 0).then(|| Mismatch::MissingKeys { dir: dir(), values, keys })
    }

    /// Where the log stands, as the key store notes it.
    pub fn marks(&self) -> Vec<Mark> {
        self.positions.iter().map(mark).collect()
    }
}

pub fn mark(position: &Position) -> Mark {
    Mark { next: position.next, last_hash: position.last_hash }
}

fn position(mark: &Mark) -> Position {
    Position { next: mark.next, last_hash: mark.last_hash }
}

/// Whether the format of the log allows that the catalog names a key store.
fn can_be_named(state: &State) -> bool {
    let any = KeyStoreBound { accounts_log: [0; 16], key_store: [0; 16] };
    state.system().admit(&[CatalogEvent::from(any)]).is_ok()
}

/// Whether the catalog names another key store than this one.
pub fn is_other(bound: Option<KeyStoreBound>, keyring: &Keyring) -> bool {
    bound.is_some_and(|bound| keyring.binding().map(|own| own.store_id) != Some(bound.key_store))
}

/// Opens the key store for a process, or says what to do. `claim` notes in the catalog that it is this log's, where nothing is
/// noted yet: two services with folders of their own must not both begin a log.
pub async fn open_keyring(
    config: &Config,
    stores: &Stores,
    identities: &Identities,
    claim: Option<Timestamp>,
) -> Result<Keyring, Failure> {
    let examined = Examined::open(config, stores, identities, false).await?;
    if let Some(mismatch) = examined.mismatch() {
        return Err(mismatch.into());
    }
    examined.keyring.bind().await?;
    let (None, Some(now), Some(own)) = (examined.bound, claim, examined.keyring.binding()) else {
        return Ok(examined.keyring);
    };
    let bound = KeyStoreBound { accounts_log: own.log_id, key_store: own.store_id };
    match operator::bind(stores.catalog_log.clone(), &identities.catalog, bound, BINDER, now).await {
        Ok(bound) => {
            let examined = Examined { other_store: is_other(bound, &examined.keyring), bound, ..examined };
            examined.mismatch().map_or(Ok(examined.keyring), |mismatch| Err(mismatch.into()))
        }
        Err(OperatorError::Publish(PublishError::FormatNotRaised(_))) => {
            tracing::info!(
                "the catalog does not name the key store until the format is raised: see `saldo log upgrade`"
            );
            Ok(examined.keyring)
        }
        Err(error) => Err(error.into()),
    }
}

/// The catalog must be that of this accounts log.
pub fn check_catalog(state: &State, log: &dyn Log, identity: &Identity) -> Result<(), Mismatch> {
    match state.system().bound {
        Some(bound) if bound.accounts_log != identity.log_id => Err(Mismatch::OtherCatalog {
            named: hex(&bound.accounts_log),
            topic: log.topic().to_owned(),
            log: hex(&identity.log_id),
        }),
        _ => Ok(()),
    }
}

/// The read models must be of this accounts log, where there are any, and must not have read what it does not have. The last
/// records are compared too where that is asked for.
pub async fn check_database(
    pool: &PgPool,
    log: &dyn Log,
    identity: &Identity,
    records_too: bool,
) -> Result<(), Failure> {
    let made_from = saldo_readmodel::made_from(&mut *pool.acquire().await?).await?;
    let Some(MadeFrom { log_id, positions }) = made_from else { return Ok(()) };
    if log_id != identity.log_id {
        let (found, topic) = (hex(&log_id), log.topic().to_owned());
        return Err(Mismatch::OtherDatabase { found, topic, log: hex(&identity.log_id) }.into());
    }
    let changed = match records_too {
        true => same::compare(log, identity, &positions).await?,
        false => same::went_back(log, identity, &positions).await?,
    };
    match changed {
        Some(changed) => Err(Mismatch::ReadModelsAhead(changed).into()),
        None => Ok(()),
    }
}

/// The seals in the log whose keys are not in the key store, from these offsets on.
async fn without_key(
    log: &dyn Log,
    identity: &Identity,
    keyring: &Keyring,
    from: &[u64],
    positions: &[Position],
) -> Result<WithoutKey, Failure> {
    let ends: Vec<u64> = positions.iter().map(|position| position.next).collect();
    let places = || (0u32..).zip(from.iter().zip(&ends)).filter(|(_, (from, end))| from < end);
    let wanted: Vec<(u32, u64)> = places().map(|(partition, (from, _))| (partition, *from)).collect();
    let mut left: u64 = places().map(|(_, (from, end))| end - from).sum();
    let mut absent = Absent::default();
    if left == 0 {
        return Ok(WithoutKey::default());
    }
    let mut tail = log.tail(&wanted).await?;
    while left > 0 {
        for record in tail.next(BATCH).await? {
            if ends.get(record.partition as usize).is_none_or(|end| record.offset >= *end) {
                continue;
            }
            left -= 1;
            // A stranger could name keys that never were.
            if let Some(Frame { kind: Kind::Commit, payload, .. }) = frame::ours(&record, &identity.keys)? {
                Commit::key_ids(payload).iter().for_each(|id| absent.note(keyring, id));
            }
        }
    }
    Ok(absent.count(keyring).await?)
}
