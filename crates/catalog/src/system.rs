//! The operator's own chain: which facts the log may hold, which key store and accounts log belong to the catalog, and whether
//! sending is held for every creditor. Statutory tables will stand here too.

use saldo_facts::{CatalogEvent, Commit, Format, FormatRaised, KeyStoreBound, StoredEvent};

use crate::fold::{Answers, Revision};

/// The state of the operator's chain, which is in force for every creditor.
#[derive(Debug, Clone, Default)]
pub struct SystemCatalog {
    /// The chain's version; 0 where nothing was ever published.
    pub version: u64,
    /// The newest version that this release understands, with everything before it.
    pub understood: u64,
    /// Facts up to this format may be written.
    pub format: Format,
    /// The key store and the accounts log; `None` until a command service has started.
    pub bound: Option<KeyStoreBound>,
    /// Why nothing is sent for any creditor, while that is so.
    pub held: Option<String>,
    /// Every commit there was.
    pub changes: Vec<Revision>,
    /// The requests answered.
    pub answers: Answers,
    /// Why a fact of the chain cannot be read by this release.
    unknown_fact: Option<String>,
}

/// A fact that the log may not hold yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{fact} needs format {needed} of the log, which allows {allowed}: nothing was done. Once every service runs this release, \
     raise the format with `saldo log upgrade` and ask again"
)]
pub struct FormatNotRaised {
    /// The fact's type.
    pub fact: &'static str,
    /// The format that brought it.
    pub needed: Format,
    /// The format that the log allows.
    pub allowed: Format,
}

impl SystemCatalog {
    /// Why this release cannot read what is in force, where it cannot.
    pub fn parked(&self) -> Option<&str> {
        self.unknown_fact.as_deref()
    }

    /// Whether the log may hold these facts: the gate that every commit passes before it is appended.
    pub fn admit<E: StoredEvent>(&self, facts: &[E]) -> Result<(), FormatNotRaised> {
        match facts.iter().find(|fact| fact.format() > self.format) {
            None => Ok(()),
            Some(fact) => Err(FormatNotRaised {
                fact: fact.declared().declaration().0,
                needed: fact.format(),
                allowed: self.format,
            }),
        }
    }

    pub(crate) fn take(&mut self, version: u64, commit: Result<Commit<CatalogEvent>, String>) {
        self.version = version;
        match commit {
            Ok(commit) => self.apply(&commit),
            Err(why) => self.park(why),
        }
        if self.unknown_fact.is_none() {
            self.understood = version;
        }
    }

    fn apply(&mut self, commit: &Commit<CatalogEvent>) {
        self.answers.insert(commit.request_id.clone(), (commit.fingerprint, self.version));
        let mut said = Vec::new();
        for event in &commit.events {
            match event {
                // A format never goes back: facts of it may stand in the log. One that was raised behind an unknown fact may
                // rest on that fact.
                CatalogEvent::FormatRaised(FormatRaised { format }) => {
                    if self.unknown_fact.is_none() {
                        self.format = self.format.max(*format);
                    }
                }
                CatalogEvent::KeyStoreBound(bound) => self.bound = Some(*bound),
                CatalogEvent::SendingHeld(held) => self.held = Some(held.reason.clone()),
                CatalogEvent::SendingReleased(_) => self.held = None,
                other => {
                    let (fact, _) = other.declared().declaration();
                    self.park(format!("{fact} does not belong on the operator's chain"));
                    continue;
                }
            }
            said.push(event.declared().summary());
        }
        self.changes.push(Revision::of(commit, self.version, &said));
    }

    /// Later facts may rest on the unknown fact, so only a release that knows the fact goes beyond it.
    fn park(&mut self, why: String) {
        self.unknown_fact.get_or_insert(why);
    }
}
