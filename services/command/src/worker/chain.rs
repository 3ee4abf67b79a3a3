//! Deciding what waits for one account as one chain of commits.

use std::{cell::RefCell, collections::HashMap, time::Instant};

use bytes::Bytes;
use jiff::Timestamp;
use saldo_catalog::InForce;
use saldo_domain::{
    Context, Decision,
    command::{Command, NO_RULES},
    document::{Document, DocumentKey, Documents},
    dunning, handle, next_wakeup, party,
    refusal::Refusal as Refused,
};
use saldo_facts::{CatalogVersions, Commit, Refusal};
use saldo_log::{
    NewRecord,
    acceptor::Head,
    frame::{self, MAX_COMMIT_BYTES},
};

use super::{
    Ask, Given,
    live::{Live, Pending},
};
use crate::{
    answer::Answer,
    failure::Failure,
    store::{Store, StoreError, StoredAnswer},
    violations::Violation,
};

/// Commits of one chain; what is beyond waits for the next.
const MAX_CHAIN: usize = 256;
/// Until an account is woken again that a newer release has decided on, by a catalog which this one cannot read: a rolling
/// upgrade is under way and takes some minutes.
const REREAD: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);
/// A request id is remembered for 30 days of the account's own recorded_at.
const REMEMBERED: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);

/// Documents as the chain's own commits leave them, over the store.
struct Overlay<'s> {
    store: &'s Store,
    account: &'s str,
    changed: HashMap<DocumentKey, Document>,
    failed: RefCell<Option<StoreError>>,
}

impl Documents for Overlay<'_> {
    fn get(&self, key: &DocumentKey) -> Option<Document> {
        if let Some(document) = self.changed.get(key) {
            return Some(document.clone());
        }
        self.store.document(self.account, key).unwrap_or_else(|error| {
            *self.failed.borrow_mut() = Some(error);
            None
        })
    }
}

/// Where a chain goes.
pub struct Place {
    /// The account's partition.
    pub partition: u32,
    /// The account's head.
    pub head: Head,
    /// The chain's number.
    pub chain: u64,
}

/// Decides what waits, unless a chain is on its way, by what the creditor has in force. Records to append are pushed to
/// `records`.
pub fn decide(
    live: &mut Live,
    store: &Store,
    Place { partition, mut head, chain }: Place,
    in_force: &InForce,
    now: Timestamp,
    records: &mut Vec<NewRecord>,
) -> Result<(), StoreError> {
    let started = now;
    if !live.pending.is_empty() {
        return Ok(());
    }
    let mut asks = std::mem::take(&mut live.waiting);
    let Some(key) = asks.front().map(|ask| ask.key.clone()) else { return Ok(()) };
    let mut account = live.stored.account.clone();
    let mut recorded_at = live.stored.recorded_at;
    let mut documents = Overlay { store, account: &key, changed: HashMap::new(), failed: RefCell::new(None) };

    while let Some(mut ask) = asks.pop_front() {
        if ask.is_over(Instant::now()) {
            let _ = ask.reply.send(Err(Failure::TimedOut));
            continue;
        }
        // A twin of a request in this chain is answered from memory once the chain is read back.
        if live.pending.len() >= MAX_CHAIN
            || live.pending.iter().any(|pending| pending.commit.request_id == ask.draft.request_id)
        {
            live.waiting.push_back(ask);
            continue;
        }
        // recorded_at never goes back along a chain.
        let now = recorded_at.map_or(started, |last| last.max(started));
        if let Some(known) = remembered(store, &ask, now)? {
            let answer = if known.fingerprint == ask.draft.fingerprint {
                Ok(Given { answer: known.answer, replayed: true })
            } else {
                Err(Failure::RequestIdReused)
            };
            let _ = ask.reply.send(answer);
            continue;
        }
        if let Some(why) = &live.stored.parked {
            let _ = ask.reply.send(Err(Failure::Parked(why.clone())));
            continue;
        }
        // By a policy that cannot be read nobody is spoken to; money goes on.
        let speaks = matches!(
            ask.command,
            Command::Dunning(dunning::Command::StartContactAttempt { .. } | dunning::Command::RetryContact { .. })
        );
        let rules = match in_force.parked() {
            Some(why) if speaks => {
                let _ = ask.reply.send(Err(Failure::PolicyParked(why.to_owned())));
                continue;
            }
            Some(_) => &NO_RULES,
            None => in_force.tenant.rules.as_ref(),
        };
        let (used, reread) = used(in_force, live.stored.catalog, now);
        ask.steps.next("decide");
        let context = Context { now, rules, zones: saldo_catalog::zone };
        let mut after = account.clone();
        let Decision { events, refusal } = handle(&mut after, &documents, &ask.command, &context);
        if let Some(error) = documents.failed.take() {
            return Err(error);
        }
        if matches!(refusal, Some(Refused::Party(party::Refusal::AccountUnknown))) {
            let _ = ask.reply.send(Err(Failure::AccountUnknown));
            continue;
        }
        let wakeup = soonest(next_wakeup(&after, &context), reread);
        if events.is_empty() && refusal.is_none() {
            let answer = Answer::of_nothing(&ask.command, &account, head.version, now, wakeup, used);
            let _ = ask.reply.send(Ok(Given { answer, replayed: false }));
            continue;
        }
        if let Err(why) = in_force.system.admit(&events) {
            let _ = ask.reply.send(Err(why.into()));
            continue;
        }
        let commit = commit(&ask, now, wakeup, used, refusal, events);
        let version = head.version + 1;
        let value = frame::encode(frame::Kind::Commit, &ask.tenant, &ask.account, version, head.hash, &commit.encode());
        if value.len() > MAX_COMMIT_BYTES {
            let rule = format!("the commit would have {} bytes; at most {MAX_COMMIT_BYTES} are kept", value.len());
            let _ = ask.reply.send(Err(Failure::Invalid(vec![Violation { field: "request".into(), rule }])));
            continue;
        }
        for event in &commit.events {
            for touched in Document::touched(event) {
                if let Some(document) = Document::evolve(&touched, documents.get(&touched), event) {
                    documents.changed.insert(touched, document);
                }
            }
        }
        account = after;
        recorded_at = Some(now);
        head = Head { hash: frame::hash(&value), version };
        let trace = ask.steps.next("append").traceparent();
        let key = Bytes::copy_from_slice(key.as_bytes());
        records.push(NewRecord { partition, key, value: Bytes::from(value), trace });
        live.pending.push_back(Pending { hash: head.hash, commit, ask, chain });
    }
    Ok(())
}

/// The versions of the catalog that a decision names, and when the account wants to be asked again because of them.
///
/// While a chain is parked, decisions rest on what was read before that: they name the versions that this release
/// understands, so that the scheduler wakes the account again for a release that understands more. Where a newer release has
/// already decided on the account, its versions stay, since none goes back; then the account asks to be woken by itself.
fn used(in_force: &InForce, before: CatalogVersions, now: Timestamp) -> (CatalogVersions, Option<Timestamp>) {
    let understood = in_force.understood();
    let reread = match understood.reach(before) {
        true => None,
        false => now.checked_add(REREAD).ok(),
    };
    (understood.max(before), reread)
}

fn soonest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

fn remembered(store: &Store, ask: &Ask, now: Timestamp) -> Result<Option<StoredAnswer>, StoreError> {
    let known = store.answer(&ask.key, &ask.draft.request_id)?;
    Ok(known.filter(|known| now.duration_since(known.answer.recorded_at) <= REMEMBERED))
}

fn commit(
    ask: &Ask,
    recorded_at: Timestamp,
    next_wakeup: Option<Timestamp>,
    catalog: CatalogVersions,
    refusal: Option<Refused>,
    events: Vec<saldo_domain::event::Event>,
) -> Commit {
    Commit {
        request_id: ask.draft.request_id.clone(),
        method: ask.draft.method.to_owned(),
        fingerprint: ask.draft.fingerprint,
        command: ask.draft.command.clone(),
        sealed: ask.draft.sealed.clone(),
        actor: ask.draft.actor.clone(),
        actor_roles: ask.draft.actor_roles.clone(),
        recorded_at,
        catalog,
        next_wakeup,
        refusal: refusal.map(|refused| Refusal {
            reason: refused.reason().to_owned(),
            message: refused.to_string(),
            details: refused.details().into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }),
        events,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use saldo_catalog::{SystemCatalog, TenantCatalog};

    use super::*;

    fn in_force(version: u64, understood: u64) -> InForce {
        InForce {
            tenant: Arc::new(TenantCatalog { version, understood, ..TenantCatalog::default() }),
            system: Arc::new(SystemCatalog::default()),
        }
    }

    #[test]
    fn a_decision_names_what_this_release_understands_and_never_goes_back() {
        let now = Timestamp::UNIX_EPOCH;
        let tenant = |tenant| CatalogVersions { tenant, system: 0 };
        assert_eq!(used(&in_force(3, 3), tenant(2), now), (tenant(3), None));
        // Parked at version 3: a release that understands it wakes the account again.
        assert_eq!(used(&in_force(3, 2), tenant(2), now), (tenant(2), None));
        // That release has decided already: the account asks for it by itself.
        assert_eq!(used(&in_force(3, 2), tenant(3), now), (tenant(3), now.checked_add(REREAD).ok()));
    }
}
