//! Watches whether the log, the catalog, the key store and the database are still those that the process was started with. A process
//! whose log was swapped or restored decides, projects and sends nothing more. It stays and says so in its health: a process that
//! ends would only be started again over the same log.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use saldo_catalog::Catalog;
use saldo_keyring::{Keyring, Mark};
use saldo_log::{
    Log,
    acceptor::Position,
    genesis::Identity,
    same::{Changed, Trust, until_changed},
};
use saldo_telemetry::belongs;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    belonging::{Mismatch, check_catalog, check_database, is_other, mark},
    stores::Identities,
};

/// Between two looks at the key store. Besides, each batch of commands looks before it is appended.
const KEYS_LOOK: Duration = Duration::from_secs(1);
/// Between two looks at the database.
const DATABASE_LOOK: Duration = Duration::from_secs(5);

/// A database is looked at so often before a mismatch is believed: right after a restart a log may not know its end.
const SURE: u32 = 3;

/// The advice for a log that has changed.
const ADVICE: &str = "This process decides, projects and sends nothing more. If this is the wrong server, correct that and restart \
     the process. If an older log was restored on purpose, stop every process and run `saldo log accept --older-log`";

/// The watcher, with everything that it watches and tells.
pub struct Guard {
    pub log: Arc<dyn Log>,
    pub catalog_log: Arc<dyn Log>,
    pub identities: Identities,
    /// Whether the process still trusts its log.
    pub trust: Trust,
    /// The same of its read models: lost with the log, or with the database.
    pub rows: Trust,
    pub keyring: Option<Keyring>,
    /// Whether this process notes in the key store how far the log has come.
    pub notes: bool,
    pub catalog: Option<Catalog>,
    pub pool: Option<PgPool>,
    pub fit: Fit,
}

/// Whether the process is fit to serve. Each thing that is not its own makes it unfit.
#[derive(Clone)]
pub struct Fit {
    foreign: Arc<Mutex<Vec<&'static str>>>,
    told: watch::Sender<bool>,
}

impl Default for Fit {
    fn default() -> Self {
        Self { foreign: Arc::default(), told: watch::channel(true).0 }
    }
}

impl Fit {
    /// Tells of changes.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.told.subscribe()
    }

    /// Notes whether something is the process's own. Returns whether that is news.
    fn note(&self, what: &'static str, own: bool) -> bool {
        belongs(what, own);
        let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        let was_own = !foreign.contains(&what);
        foreign.retain(|one| *one != what);
        if !own {
            foreign.push(what);
        }
        self.told.send_if_modified(|fit| std::mem::replace(fit, foreign.is_empty()) != foreign.is_empty());
        was_own != own
    }
}

impl Guard {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let watching = async {
            tokio::join!(self.accounts(), self.catalog(), self.log_keys(), self.keys(), self.rows());
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = watching => {}
        }
        Ok(())
    }

    async fn accounts(&self) {
        let (seen, reached) = watch::channel(Vec::new());
        let identity = &self.identities.accounts;
        self.fit.note("log", true);
        let noting = async {
            let mut reached = reached;
            while reached.changed().await.is_ok() {
                let marks = reached.borrow_and_update().iter().map(mark).collect();
                if let (true, Some(keyring)) = (self.notes, &self.keyring)
                    && let Err(error) = keyring.note_reached(marks).await
                {
                    warn!(%error, "the key store could not note how far the log has come");
                }
            }
        };
        tokio::select! {
            () = self.until_lost("log", self.log.as_ref(), identity, &seen) => {}
            // A reader has met it first.
            why = self.trust.until_lost() => self.lose("log", &why),
            () = noting => {}
        }
        self.rows.lose(&self.trust.until_lost().await);
    }

    async fn catalog(&self) {
        self.fit.note("catalog", true);
        let (seen, _) = watch::channel(Vec::new());
        let swapped = async {
            let Some(catalog) = &self.catalog else { return std::future::pending().await };
            // It may be bound to another log by who starts later.
            let identity = &self.identities.accounts;
            catalog.wait_for(|state| check_catalog(state, self.log.as_ref(), identity).is_err()).await;
            if let Err(why) = check_catalog(&catalog.state(), self.log.as_ref(), identity) {
                self.lose("catalog", &why);
            }
        };
        tokio::select! {
            () = self.until_lost("catalog", self.catalog_log.as_ref(), &self.identities.catalog, &seen) => {}
            () = swapped => {}
        }
    }

    async fn until_lost(
        &self,
        what: &'static str,
        log: &dyn Log,
        identity: &Identity,
        seen: &watch::Sender<Vec<Position>>,
    ) {
        // Readers tell of the accounts log alone.
        let nothing_read = Trust::default();
        let trust = if what == "log" { &self.trust } else { &nothing_read };
        let changed = until_changed(log, identity, trust, seen).await;
        if what == "log" {
            self.note_loss(&changed).await;
        }
        self.lose(what, &changed);
    }

    /// Notes in the key store what is gone, for the next start: the last note may be some seconds old.
    async fn note_loss(&self, changed: &Changed) {
        let (Some(keyring), Changed::WentBack { partition, reached, .. }) = (&self.keyring, changed) else { return };
        // No record has this hash, so the log stays another one even when it comes to the offset again.
        let none = Mark { next: 0, last_hash: [0; 32] };
        let mut marks = vec![none; self.identities.accounts.partitions as usize];
        if let Some(mark) = marks.get_mut(*partition as usize) {
            mark.next = *reached;
        }
        if let Err(error) = keyring.note_reached(marks).await {
            warn!(%error, "the key store could not note that the log went back");
        }
    }

    fn lose(&self, what: &'static str, why: &impl std::fmt::Display) {
        if self.fit.note(what, false) {
            error!("{why}. {ADVICE}");
        }
        self.trust.lose(why);
    }

    /// Another process may add a key for the records of the log.
    async fn log_keys(&self) {
        loop {
            let read = self.identities.accounts.keys.refresh();
            if self.fit.note("log_keys", read.is_ok()) {
                match read {
                    Err(why) => error!("{why}"),
                    Ok(()) => info!("the keys of the log can be read"),
                }
            }
            tokio::time::sleep(KEYS_LOOK).await;
        }
    }

    async fn keys(&self) {
        let Some(keyring) = &self.keyring else { return std::future::pending().await };
        loop {
            let other = self.catalog.as_ref().is_some_and(|catalog| is_other(catalog.state().system().bound, keyring));
            let why = match keyring.check() {
                Err(error) => Some(error.to_string()),
                Ok(()) if other => Some(format!(
                    "key store {} is not the one that the catalog names for this log: name its folder (keyring.dir) and restart the process",
                    keyring.dir().display()
                )),
                Ok(()) => None,
            };
            if self.fit.note("key_store", why.is_none()) {
                match &why {
                    Some(why) => error!("{why}"),
                    None => info!("the key store is there again"),
                }
            }
            if let (true, Some(why)) = (other, &why) {
                // No other process could open values that are sealed here.
                self.trust.lose(why);
            }
            tokio::time::sleep(KEYS_LOOK).await;
        }
    }

    async fn rows(&self) {
        let Some(pool) = &self.pool else { return std::future::pending().await };
        self.fit.note("database", true);
        let mut doubts = 0;
        loop {
            let checked = check_database(pool, self.log.as_ref(), &self.identities.accounts, false).await;
            // A server that does not answer shows nothing.
            let why = checked.err().and_then(|why| why.downcast::<Mismatch>().ok());
            doubts = if why.is_some() { doubts + 1 } else { 0 };
            if let Some(why) = why.filter(|_| doubts >= SURE) {
                if self.fit.note("database", false) {
                    error!("{why}. This process reads and sends nothing more; restart it afterwards");
                }
                return self.rows.lose(&why);
            }
            tokio::time::sleep(if doubts > 0 { KEYS_LOOK } else { DATABASE_LOOK }).await;
        }
    }
}
