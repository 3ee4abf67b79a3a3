//! The fold of the catalog's commits: what is in force, chain by chain.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use saldo_domain::ids::SYSTEM_TENANT;
use saldo_facts::{CatalogEvent, CatalogVersions, Commit, Format};
use saldo_log::{
    Record,
    acceptor::{Acceptor, Diverged, Head, Verdict},
};

use crate::{system::SystemCatalog, tenant::TenantCatalog};

/// Fingerprint and version by request id. The catalog is small: they are remembered for ever.
pub type Answers = HashMap<String, ([u8; 32], u64)>;

/// One commit on a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The chain's version with it.
    pub version: u64,
    /// When it was decided.
    pub recorded_at: jiff::Timestamp,
    /// The person or system that asked for it.
    pub actor: String,
    /// One line.
    pub summary: String,
}

impl Revision {
    pub(crate) fn of(commit: &Commit<CatalogEvent>, version: u64, said: &[String]) -> Self {
        Self { version, recorded_at: commit.recorded_at, actor: commit.actor.clone(), summary: said.join("; ") }
    }
}

/// The catalog's part of a decision about an account of one creditor.
#[derive(Debug, Clone, Default)]
pub struct InForce {
    /// The creditor's chain.
    pub tenant: Arc<TenantCatalog>,
    /// The operator's chain.
    pub system: Arc<SystemCatalog>,
}

impl InForce {
    /// How far both chains were read.
    pub fn read(&self) -> CatalogVersions {
        CatalogVersions { tenant: self.tenant.version, system: self.system.version }
    }

    /// The newest versions that this release understands: what a decision can rest on. Both are those read unless a chain
    /// is parked.
    pub fn understood(&self) -> CatalogVersions {
        CatalogVersions { tenant: self.tenant.understood, system: self.system.understood }
    }

    /// Why this release cannot read what is in force, where it cannot.
    pub fn parked(&self) -> Option<&str> {
        self.tenant.parked().or_else(|| self.system.parked())
    }
}

/// The catalog up to a position of its log.
#[derive(Debug, Clone)]
pub struct State {
    /// The offset behind the last record read.
    pub next: u64,
    reader: Format,
    tenants: BTreeMap<String, (Head, Arc<TenantCatalog>)>,
    nothing: Arc<TenantCatalog>,
    system: (Option<Head>, Arc<SystemCatalog>),
}

impl Default for State {
    fn default() -> Self {
        Self::read_as(Format::NEWEST)
    }
}

impl State {
    /// Nothing read yet, by a reader that knows no fact beyond `format`.
    pub fn read_as(format: Format) -> Self {
        Self {
            next: 0,
            reader: format,
            tenants: BTreeMap::new(),
            nothing: Arc::default(),
            system: (None, Arc::default()),
        }
    }

    /// The chain of a creditor.
    pub fn tenant(&self, tenant: &str) -> &Arc<TenantCatalog> {
        self.tenants.get(tenant).map_or(&self.nothing, |(_, catalog)| catalog)
    }

    /// Every creditor that has ever published.
    pub fn tenants(&self) -> impl Iterator<Item = (&str, &Arc<TenantCatalog>)> {
        self.tenants.iter().map(|(tenant, (_, catalog))| (tenant.as_str(), catalog))
    }

    /// The operator's chain, which is in force for every creditor.
    pub fn system(&self) -> &Arc<SystemCatalog> {
        &self.system.1
    }

    /// Both chains that decisions about a creditor's accounts rest on. The rules say so while sending is held for all.
    pub fn in_force(&self, tenant: &str) -> InForce {
        let mut in_force = InForce { tenant: self.tenant(tenant).clone(), system: self.system().clone() };
        if in_force.system.held.is_some() {
            Arc::make_mut(&mut Arc::make_mut(&mut in_force.tenant).rules).held = true;
        }
        in_force
    }

    /// The head of a chain, where it has one.
    pub fn head(&self, tenant: &str) -> Option<Head> {
        match tenant {
            SYSTEM_TENANT => self.system.0,
            _ => self.tenants.get(tenant).map(|(head, _)| *head),
        }
    }

    /// When the newest change of a chain was decided.
    pub fn recorded_at(&self, tenant: &str) -> Option<jiff::Timestamp> {
        let changes = match tenant {
            SYSTEM_TENANT => &self.system().changes,
            _ => &self.tenant(tenant).changes,
        };
        changes.last().map(|change| change.recorded_at)
    }

    /// The fingerprint and version that a request id of a chain was answered with.
    pub fn answer(&self, tenant: &str, request_id: &str) -> Option<([u8; 32], u64)> {
        let answers = match tenant {
            SYSTEM_TENANT => &self.system().answers,
            _ => &self.tenant(tenant).answers,
        };
        answers.get(request_id).copied()
    }

    /// Takes in the next record.
    pub fn read(&mut self, acceptor: &mut Acceptor, record: &Record) -> Result<(), Diverged> {
        let verdict = acceptor.judge(record)?;
        self.next = record.offset + 1;
        let (frame, hash) = match verdict {
            Verdict::Accepted { frame, hash } => (frame, hash),
            Verdict::Void(reason) if reason.is_foreign() => {
                saldo_telemetry::foreign_records("catalog", 1);
                tracing::warn!(offset = record.offset, %reason, "somebody else has written the catalog; the record counts for nobody");
                return Ok(());
            }
            Verdict::Void(_) | Verdict::Genesis | Verdict::Resumed => return Ok(()),
        };
        let head = Head { hash, version: frame.version };
        let commit = Commit::<CatalogEvent>::decode_as(self.reader, frame.payload).map_err(|why| why.to_string());
        if let Err(why) = &commit {
            tracing::error!(tenant = frame.tenant, offset = record.offset, %why, "a chain of the catalog is parked");
        }
        if frame.tenant == SYSTEM_TENANT {
            let mut catalog = self.system().as_ref().clone();
            catalog.take(frame.version, commit);
            self.system = (Some(head), Arc::new(catalog));
        } else {
            let mut catalog = self.tenant(frame.tenant).as_ref().clone();
            catalog.take(frame.version, commit);
            self.tenants.insert(frame.tenant.to_owned(), (head, Arc::new(catalog)));
        }
        Ok(())
    }
}
