//! The fold of the catalog's commits: what each creditor has in force.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use saldo_domain::{Rules, dunning::Policy};
use saldo_facts::{CatalogEvent, Commit};
use saldo_log::{
    Record,
    acceptor::{Acceptor, Diverged, Head, Verdict},
};
use saldo_templates::Template;

use crate::sources::{POLICY, Published, Source};

/// What one creditor has published.
#[derive(Debug, Clone, Default)]
pub struct TenantCatalog {
    /// Its chain's version; 0 where nothing was ever published.
    pub version: u64,
    /// What decisions need of it.
    pub rules: Arc<Rules>,
    /// The templates in force, by name and language.
    pub templates: Arc<HashMap<(String, String), Template>>,
    /// The files in force, as they were written.
    pub files: Vec<Source>,
    /// Every commit there was.
    pub changes: Vec<Change>,
    /// Why what is in force cannot be read by this release, where it cannot.
    pub parked: Option<String>,
    /// Fingerprint and version by request id. The catalog is small: they are remembered for ever.
    pub answers: HashMap<String, ([u8; 32], u64)>,
}

/// One commit on a tenant's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its version.
    pub version: u64,
    /// When it was decided.
    pub recorded_at: Timestamp,
    /// Who asked.
    pub actor: String,
    /// One line.
    pub summary: String,
}

/// The catalog up to a position of its log.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The offset behind the last record read.
    pub next: u64,
    tenants: BTreeMap<String, (Head, Arc<TenantCatalog>)>,
    nothing: Arc<TenantCatalog>,
}

impl State {
    /// What a creditor has in force.
    pub fn tenant(&self, tenant: &str) -> &Arc<TenantCatalog> {
        self.tenants.get(tenant).map_or(&self.nothing, |(_, catalog)| catalog)
    }

    /// Every creditor that has ever published, with its version.
    pub fn versions(&self) -> impl Iterator<Item = (&str, u64)> {
        self.tenants.iter().map(|(tenant, (_, catalog))| (tenant.as_str(), catalog.version))
    }

    /// The head of a creditor's chain, where it has one.
    pub fn head(&self, tenant: &str) -> Option<Head> {
        self.tenants.get(tenant).map(|(head, _)| *head)
    }

    /// Takes in the next record.
    pub fn read(&mut self, acceptor: &mut Acceptor, record: &Record) -> Result<(), Diverged> {
        let verdict = acceptor.judge(record)?;
        self.next = record.offset + 1;
        let Verdict::Accepted { frame, hash } = verdict else { return Ok(()) };
        let mut catalog = self.tenant(frame.tenant).as_ref().clone();
        catalog.version = frame.version;
        match Commit::<CatalogEvent>::decode(frame.payload) {
            Ok(commit) => catalog.apply(&commit),
            Err(why) => {
                tracing::error!(tenant = frame.tenant, offset = record.offset, %why, "the tenant's policy is parked");
                catalog.parked = Some(why.to_string());
            }
        }
        let head = Head { hash, version: frame.version };
        self.tenants.insert(frame.tenant.to_owned(), (head, Arc::new(catalog)));
        Ok(())
    }
}

impl TenantCatalog {
    /// When the newest change was decided.
    pub fn recorded_at(&self) -> Option<Timestamp> {
        self.changes.last().map(|change| change.recorded_at)
    }

    fn apply(&mut self, commit: &Commit<CatalogEvent>) {
        self.answers.insert(commit.request_id.clone(), (commit.fingerprint, self.version));
        let mut said = Vec::new();
        let mut rules = self.rules.as_ref().clone();
        let mut files = Vec::new();
        for event in &commit.events {
            match event {
                CatalogEvent::PolicyPublished { source } => {
                    files.insert(0, Source { name: POLICY.to_owned(), text: source.clone() });
                }
                CatalogEvent::TemplatePublished { name, language, source } => {
                    files.push(Source { name: format!("templates/{name}.{language}.toml"), text: source.clone() });
                }
                CatalogEvent::SendingSet { on } => {
                    rules.sending = *on;
                    said.push(format!("sending switched {}", if *on { "on" } else { "off" }));
                }
            }
        }
        if !files.is_empty() {
            // It was without fault when it was published; a release that reads it otherwise must not guess.
            let (published, faults) = Published::read(&files);
            match published {
                Some(published) if faults.is_empty() => {
                    said.push(summary(&published.policy, files.len() - 1));
                    self.parked = None;
                    rules.languages = published.languages();
                    rules.policy = Some(published.policy);
                    let named = published.templates.into_iter();
                    self.templates =
                        Arc::new(named.map(|one| ((one.name.clone(), one.language.clone()), one)).collect());
                    self.files = files;
                }
                _ => {
                    let first = faults.first().map(|fault| format!("{}: {}: {}", fault.file, fault.field, fault.rule));
                    self.parked = Some(format!("the policy in force has faults: {}", first.unwrap_or_default()));
                }
            }
        }
        self.rules = Arc::new(rules);
        self.changes.push(Change {
            version: self.version,
            recorded_at: commit.recorded_at,
            actor: commit.actor.clone(),
            summary: said.join("; "),
        });
    }
}

fn summary(policy: &Policy, templates: usize) -> String {
    let steps: Vec<String> =
        policy.steps.iter().map(|step| format!("{} ({:+})", step.name, step.offset_days)).collect();
    format!("policy published: {}; {templates} templates", steps.join(", "))
}
