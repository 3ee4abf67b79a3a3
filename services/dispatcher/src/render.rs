//! From the account's answer to the exact message. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use saldo_api::v1::{self, ContactSnapshot};
use saldo_catalog::TenantCatalog;
use saldo_channels::{Draft, Message, Transport};
use saldo_domain::{dunning::policy::Sender, money::Currency};
use saldo_facts::{date_from_api, tone_from_api};
use saldo_templates::{Item, Language, Party, Total, Variables, amount, day};

use crate::leases::Job;

/// Why there is no message. Never holds personal data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoMessage {
    /// Another attempt would fail in the same way.
    #[error("{0}")]
    Final(String),
    /// The policy in force has changed since the account decided, or cannot be read. Another attempt may do better.
    #[error("{0}")]
    NotNow(String),
}

fn never(why: impl Into<String>) -> NoMessage {
    NoMessage::Final(why.into())
}

/// The message of an attempt that was decided under `policy_version`, by the catalog in force.
pub(crate) fn message(
    job: &Job,
    snapshot: &ContactSnapshot,
    policy_version: u64,
    catalog: &TenantCatalog,
    transport: &dyn Transport,
) -> Result<Message, NoMessage> {
    if catalog.parked().is_some() {
        return Err(NoMessage::NotNow("the policy in force cannot be read by this release".to_owned()));
    }
    if snapshot.address.is_empty() || snapshot.name.is_empty() {
        return Err(never("the debtor's name or address was erased"));
    }
    let policy = catalog.rules.policy.as_ref();
    let notice = snapshot.saying.as_ref().ok_or_else(|| never("the snapshot has no saying"))?;
    let named = (notice.template.clone(), snapshot.language.clone());
    let (Some(policy), Some(template)) = (policy, catalog.templates.get(&named)) else {
        let why = format!("there is no template {}.{}", named.0, named.1);
        // A policy that was published meanwhile may have left the template out. The next attempt goes by the new policy.
        let replaced = catalog.version > policy_version;
        return Err(if replaced { NoMessage::NotNow(why) } else { NoMessage::Final(why) });
    };
    let language = Language::parse(&snapshot.language).ok_or_else(|| never("the language is none of ours"))?;
    let stamp = snapshot.stamp.as_ref().ok_or_else(|| never("the snapshot has no stamp"))?;
    let variables = variables(&job.account, snapshot, notice, language, &policy.sender).map_err(never)?;
    let draft = Draft {
        // The channel names the sender's domain itself.
        id: stamp.id.split('@').next().unwrap_or_default(),
        template,
        variables: &variables,
        sender: &policy.sender,
        address: &snapshot.address,
        at: instant(stamp.at.as_ref()).ok_or_else(|| never("the stamp has no instant"))?,
    };
    transport.render(&draft).map_err(|error| never(error.to_string()))
}

/// An instant of the API; `None` where it is absent or out of range.
pub(crate) fn instant(at: Option<&saldo_api::Timestamp>) -> Option<Timestamp> {
    at.and_then(|at| saldo_facts::timestamp_from_api(*at).ok())
}

fn variables(
    account: &str,
    snapshot: &ContactSnapshot,
    notice: &v1::Saying,
    language: Language,
    sender: &Sender,
) -> Result<Variables, &'static str> {
    let today = snapshot.stamp.as_ref().and_then(|stamp| stamp.day).and_then(date_from_api);
    let today = today.ok_or("the stamp has no day")?;
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
        items.push(Item {
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
    Ok(Variables {
        debtor: Party { name: snapshot.name.clone(), email: snapshot.address.clone() },
        creditor: Party { name: sender.name.clone(), email: sender.email.clone() },
        payment: sender.payment.clone(),
        account: account.to_owned(),
        step: notice.step.clone(),
        tone: tone_from_api(notice.tone).ok_or("the snapshot has no tone")?,
        today: day(today, language),
        overdue: items.iter().any(|item| item.days > 0),
        totals: totals.collect(),
        items,
        more,
    })
}

#[cfg(test)]
mod tests;
