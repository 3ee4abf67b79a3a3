//! A creditor's chain: policy, templates, settings and the switch.

use std::{collections::HashMap, sync::Arc};

use saldo_domain::{Rules, dunning::Policy};
use saldo_facts::{
    CatalogEvent, Commit, PolicyPublished, SendingSet, Settings, SettingsPublished, StoredEvent, TemplatePublished,
};
use saldo_templates::Template;

use crate::{
    fold::{Answers, Revision},
    settings,
    sources::{POLICY, Published, Source},
};

/// The state of one creditor's chain.
#[derive(Debug, Clone, Default)]
pub struct TenantCatalog {
    /// Its chain's version; 0 where nothing was ever published.
    pub version: u64,
    /// The newest version that this release understands, with everything before it.
    pub understood: u64,
    /// The rules, as decisions need them.
    pub rules: Arc<Rules>,
    /// The rules by which nobody is spoken to: for decisions about money while the chain is parked.
    pub silent: Arc<Rules>,
    /// The templates in force, by name and language.
    pub templates: Arc<HashMap<(String, String), Template>>,
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// The files in force, as they were written.
    pub files: Vec<Source>,
    /// Every commit there was.
    pub changes: Vec<Revision>,
    /// The requests answered.
    pub answers: Answers,
    /// The parts of the chain that this release cannot read.
    pub unreadable: Unreadable,
}

/// Why a chain is parked: each cause ends in a way of its own.
#[derive(Debug, Clone, Default)]
pub struct Unreadable {
    /// A fact that this release does not know. Only a release that knows the fact can say what is in force.
    fact: Option<String>,
    /// Faults of the policy in force. Another policy replaces it whole.
    policy: Option<String>,
    /// Faults of the settings in force. Other settings replace them whole.
    settings: Option<String>,
}

impl Unreadable {
    /// By a fact that this release does not know.
    pub fn by_fact(why: impl Into<String>) -> Self {
        Self { fact: Some(why.into()), ..Self::default() }
    }
}

impl TenantCatalog {
    /// Why this release cannot read what is in force, where it cannot.
    pub fn parked(&self) -> Option<&str> {
        let Unreadable { fact, policy, settings } = &self.unreadable;
        fact.as_deref().or(policy.as_deref()).or(settings.as_deref())
    }

    pub(crate) fn take(&mut self, version: u64, commit: Result<Commit<CatalogEvent>, String>) {
        self.version = version;
        match commit {
            Ok(commit) => self.apply(&commit),
            Err(why) => self.park(why),
        }
        if self.parked().is_none() {
            self.understood = version;
        }
    }

    fn apply(&mut self, commit: &Commit<CatalogEvent>) {
        self.answers.insert(commit.request_id.clone(), (commit.fingerprint, self.version));
        let mut said = Vec::new();
        let mut files = Vec::new();
        for event in &commit.events {
            match event {
                CatalogEvent::PolicyPublished(PolicyPublished { source }) => {
                    files.insert(0, Source { name: POLICY.to_owned(), text: source.clone() });
                }
                CatalogEvent::TemplatePublished(TemplatePublished { name, language, source }) => {
                    files.push(Source { name: format!("templates/{name}.{language}.toml"), text: source.clone() });
                }
                CatalogEvent::SendingSet(SendingSet { on }) => {
                    Arc::make_mut(&mut self.rules).sending = *on;
                    said.push(event.declared().summary());
                }
                CatalogEvent::SettingsPublished(SettingsPublished(settings)) => {
                    if self.set(settings) {
                        said.push(event.declared().summary());
                    }
                }
                CatalogEvent::FormatRaised(_)
                | CatalogEvent::KeyStoreBound(_)
                | CatalogEvent::SendingHeld(_)
                | CatalogEvent::SendingReleased(_) => {
                    let (fact, _) = event.declared().declaration();
                    self.park(format!("{fact} does not belong on a creditor's chain"));
                }
            }
        }
        if !files.is_empty() {
            said.extend(self.publish(files));
        }
        self.changes.push(Revision::of(commit, self.version, &said));
    }

    /// Settings were without fault when they were published. A release that reads them otherwise must not guess.
    fn set(&mut self, settings: &Settings) -> bool {
        let faults = settings::check(settings);
        let first = faults.first();
        self.unreadable.settings =
            first.map(|fault| format!("the settings in force have faults: {}: {}", fault.field, fault.rule));
        if faults.is_empty() {
            self.settings = Arc::new(settings.clone());
            for rules in [&mut self.rules, &mut self.silent] {
                let rules = Arc::make_mut(rules);
                rules.time_zone = settings.time_zone.clone();
                rules.apply_credit = settings.apply_credit;
            }
        }
        faults.is_empty()
    }

    /// A policy was without fault when it was published. A release that reads it otherwise must not guess.
    fn publish(&mut self, files: Vec<Source>) -> Option<String> {
        let (published, faults) = Published::read_again(&files);
        match published {
            Some(published) if faults.is_empty() => {
                let said = summary(&published.policy, files.len() - 1);
                self.unreadable.policy = None;
                let rules = Arc::make_mut(&mut self.rules);
                rules.languages = published.languages();
                rules.words = published.words();
                rules.policy = Some(published.policy);
                let named = published.templates.into_iter();
                self.templates = Arc::new(named.map(|one| ((one.name.clone(), one.language.clone()), one)).collect());
                self.files = files;
                Some(said)
            }
            _ => {
                let first = faults.first().map(|fault| format!("{}: {}: {}", fault.file, fault.field, fault.rule));
                self.unreadable.policy = Some(format!("the policy in force has faults: {}", first.unwrap_or_default()));
                None
            }
        }
    }

    fn park(&mut self, why: String) {
        self.unreadable.fact.get_or_insert(why);
    }
}

fn summary(policy: &Policy, templates: usize) -> String {
    let steps: Vec<String> =
        policy.steps.iter().map(|step| format!("{} ({:+})", step.name, step.offset_days)).collect();
    format!("policy published: {}; {templates} templates", steps.join(", "))
}
