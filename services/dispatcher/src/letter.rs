//! What a message says: from the snapshot that the account answered with to the exact bytes. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use saldo_api::v1::{self, ContactSnapshot};
use saldo_catalog::TenantCatalog;
use saldo_channels::mail::{Envelope, Mail};
use saldo_domain::{dunning::policy::Sender, money::Currency};
use saldo_facts::{date_from_api, tone_from_api};
use saldo_templates::{Language, Letter, Line, Party, Total, amount, day};
use sha2::{Digest, Sha256};

use crate::jobs::Job;

/// Why there is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoLetter {
    /// Another try would fail the same. Never holds personal data.
    #[error("{0}")]
    Final(String),
    /// What is in force here has changed since, or cannot be read: another try may do better.
    #[error("{0}")]
    NotNow(String),
}

fn never(why: impl Into<String>) -> NoLetter {
    NoLetter::Final(why.into())
}

/// The mail for an attempt that was decided under `policy_version`, by what is in force.
pub(crate) fn mail(
    job: &Job,
    snapshot: &ContactSnapshot,
    policy_version: u64,
    catalog: &TenantCatalog,
) -> Result<Envelope, NoLetter> {
    if catalog.parked().is_some() {
        return Err(NoLetter::NotNow("the policy in force cannot be read by this release".to_owned()));
    }
    if snapshot.address.is_empty() || snapshot.name.is_empty() {
        return Err(never("the debtor's name or address was erased"));
    }
    let policy = catalog.rules.policy.as_ref();
    let saying = snapshot.saying.as_ref().ok_or_else(|| never("the snapshot has no saying"))?;
    if saying.channel() != v1::Channel::Email {
        return Err(never("this release hands over e-mails only"));
    }
    let named = (saying.template.clone(), snapshot.language.clone());
    let (Some(policy), Some(template)) = (policy, catalog.templates.get(&named)) else {
        let why = format!("there is no template {}.{}", named.0, named.1);
        // A policy that was replaced meanwhile may have left the template out; the next attempt goes by the new one.
        let replaced = catalog.version > policy_version;
        return Err(if replaced { NoLetter::NotNow(why) } else { NoLetter::Final(why) });
    };
    let language = Language::parse(&snapshot.language).ok_or_else(|| never("the language is none of ours"))?;
    let letter = letter(&job.account, snapshot, saying, language, &policy.sender).map_err(never)?;
    let message = template.render(&letter).map_err(|error| never(error.to_string()))?;
    let mail = Mail {
        from_name: policy.sender.name.clone(),
        from: policy.sender.email.clone(),
        reply_to: policy.sender.reply_to.clone(),
        to: snapshot.address.clone(),
        subject: message.subject,
        text: message.text,
        html: message.html,
        id: message_id(job),
        date: instant(snapshot.at.as_ref()).ok_or_else(|| never("the snapshot has no instant"))?,
    };
    mail.build().map_err(|error| never(error.to_string()))
}

/// The left part of the Message-ID: of the reminder alone, so that a second try of it is seen to be the same message, and
/// without saying whose it is.
fn message_id(job: &Job) -> String {
    let digest = Sha256::digest(format!("{}/{}/{}", job.tenant, job.account, job.reminder));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// An instant of a message; `None` where it is absent or none.
pub(crate) fn instant(at: Option<&saldo_api::Timestamp>) -> Option<Timestamp> {
    at.and_then(|at| saldo_facts::timestamp_from_api(*at).ok())
}

fn letter(
    account: &str,
    snapshot: &ContactSnapshot,
    saying: &v1::Saying,
    language: Language,
    sender: &Sender,
) -> Result<Letter, &'static str> {
    let today = snapshot.day.and_then(date_from_api).ok_or("the snapshot has no day")?;
    let mut items = Vec::with_capacity(snapshot.items.len());
    let mut sums: BTreeMap<Currency, (i64, i64)> = BTreeMap::new();
    for item in &snapshot.items {
        let currency = Currency::new(&item.currency).map_err(|_| "an item has no currency")?;
        let due = item.due_date.and_then(date_from_api).ok_or("an item has no due date")?;
        let days = i64::from((today - due).get_days());
        let (open, overdue) = sums.entry(currency).or_default();
        let add = |sum: i64| sum.checked_add(item.open_minor).ok_or("a total is beyond all bounds");
        *open = add(*open)?;
        if days > 0 {
            *overdue = add(*overdue)?;
        }
        items.push(Line {
            document: item.invoice_number.clone(),
            instalment: item.instalment,
            due: day(due, language),
            days,
            open: amount(item.open_minor, currency, language),
        });
    }
    let mut more = 0u32;
    for rest in &snapshot.unlisted {
        let currency = Currency::new(&rest.currency).map_err(|_| "an item has no currency")?;
        let (open, overdue) = sums.entry(currency).or_default();
        *open = open.checked_add(rest.open_minor).ok_or("a total is beyond all bounds")?;
        *overdue = overdue.checked_add(rest.overdue_minor).ok_or("a total is beyond all bounds")?;
        more = more.saturating_add(rest.items);
    }
    let credit_in = |currency: Currency| {
        let mut own = snapshot.unapplied.iter().filter(|money| money.currency == currency.code());
        own.next().map_or(0, |money| money.minor_units)
    };
    let totals = sums.into_iter().map(|(currency, (open, overdue))| {
        let credit = credit_in(currency);
        Total {
            currency: currency.to_string(),
            open: amount(open, currency, language),
            overdue: amount(overdue, currency, language),
            credit: (credit != 0).then(|| amount(credit, currency, language)),
            balance: amount(open.saturating_sub(credit), currency, language),
        }
    });
    Ok(Letter {
        debtor: Party { name: snapshot.name.clone(), email: snapshot.address.clone() },
        creditor: Party { name: sender.name.clone(), email: sender.email.clone() },
        payment: sender.payment.clone(),
        account: account.to_owned(),
        step: saying.step.clone(),
        tone: tone_from_api(saying.tone).ok_or("the snapshot has no tone")?,
        today: day(today, language),
        overdue: items.iter().any(|item| item.days > 0),
        totals: totals.collect(),
        items,
        more,
    })
}

#[cfg(test)]
mod tests;
