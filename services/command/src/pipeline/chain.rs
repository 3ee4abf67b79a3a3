//! Decides the commands that wait for one account as one chain of commits on top of the account's head.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    time::Instant,
};

use bytes::Bytes;
use jiff::Timestamp;
use saldo_catalog::InForce;
use saldo_domain::{
    Context, Decision, Rules,
    account::Account,
    command::Command,
    document::{Document, DocumentKey, Documents},
    dunning,
    event::Event,
    evolve, handle, next_wakeup, party,
    refusal::Refusal as Refused,
};
use saldo_facts::{CatalogVersions, Commit, Refusal};
use saldo_log::{
    NewRecord,
    acceptor::Head,
    frame::{self, MAX_COMMIT_BYTES},
    keys::LogKeys,
};

use super::{
    account::{InFlight, LiveAccount},
    request::{QueuedCommand, Reply},
    store::{Store, StoreError, StoredAnswer},
};
use crate::{answer::Answer, failure::Failure, violations::Violation};

/// Commits of one chain; further commands wait for the next.
const MAX_CHAIN: usize = 256;
/// Until an account is woken again that a newer release has decided on, by a catalog which this one cannot read: a rolling
/// upgrade is under way and takes some minutes.
const REREAD: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);
/// A request id is remembered for 30 days of the account's own recorded_at.
const REMEMBERED: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);

/// Where a chain begins.
pub struct ChainStart<'k> {
    /// The account's partition.
    pub partition: u32,
    /// The account's head.
    pub head: Head,
    /// The chain's number.
    pub number: u64,
    /// The keys that its records are written under.
    pub keys: &'k LogKeys,
}

/// Decides the commands that wait, unless a chain is in flight already. Records to append are pushed to `records`.
pub fn decide(
    live: &mut LiveAccount,
    store: &Store,
    start: ChainStart<'_>,
    in_force: &InForce,
    now: Timestamp,
    records: &mut Vec<NewRecord>,
) -> Result<(), StoreError> {
    if !live.in_flight.is_empty() {
        return Ok(());
    }
    let mut waiting = std::mem::take(&mut live.waiting);
    let Some(key) = waiting.front().map(|queued| queued.key.clone()) else { return Ok(()) };
    let mut chain = Chain {
        head: start.head,
        keys: start.keys,
        before: &live.stored.account,
        account: live.stored.account.clone(),
        recorded_at: live.stored.recorded_at,
        parked: live.stored.parked.as_deref(),
        documents: Overlay { store, account: &key, changed: HashMap::new(), failed: RefCell::new(None) },
        in_force,
        catalog: live.stored.catalog,
    };
    while let Some(mut queued) = waiting.pop_front() {
        if queued.is_over(Instant::now()) {
            queued.answer(Err(Failure::TimedOut));
            continue;
        }
        // A second request with the id of one in this chain is answered from memory once the chain is read back.
        let id_in_flight = |commit: &InFlight| commit.commit.request_id == queued.draft.request_id;
        if live.in_flight.len() >= MAX_CHAIN || live.in_flight.iter().any(id_in_flight) {
            live.waiting.push_back(queued);
            continue;
        }
        match chain.decide(&mut queued, &live.in_flight, now)? {
            Decided::Answer(reply) => queued.answer(reply.map(|reply| *reply)),
            Decided::Commit(commit, value) => {
                let trace = queued.steps.next("append").traceparent();
                let key = Bytes::copy_from_slice(key.as_bytes());
                records.push(NewRecord { partition: start.partition, key, value: value.into(), trace });
                live.in_flight.push_back(InFlight {
                    hash: chain.head.hash,
                    commit: *commit,
                    queued,
                    chain: start.number,
                });
            }
        }
    }
    Ok(())
}

/// The outcome of one decision.
enum Decided {
    /// An answer, with nothing to append.
    Answer(Result<Box<Reply>, Failure>),
    /// A commit to append, and the value of its record.
    Commit(Box<Commit>, Vec<u8>),
}

/// The account as the commits of the chain leave it. It is copied once for the whole chain and folded in place.
struct Chain<'c> {
    head: Head,
    keys: &'c LogKeys,
    before: &'c Account,
    account: Account,
    recorded_at: Option<Timestamp>,
    parked: Option<&'c str>,
    documents: Overlay<'c>,
    /// The catalog in force, as decisions use it.
    in_force: &'c InForce,
    /// The versions of the catalog that the account's commits have used before this chain.
    catalog: CatalogVersions,
}

impl Chain<'_> {
    /// Decides one command behind the commits `decided` of this chain.
    fn decide(
        &mut self,
        queued: &mut QueuedCommand,
        decided: &VecDeque<InFlight>,
        now: Timestamp,
    ) -> Result<Decided, StoreError> {
        // recorded_at never goes back along a chain.
        let now = self.recorded_at.map_or(now, |last| last.max(now));
        if let Some(known) = self.remembered(queued, now)? {
            let same = known.fingerprint == queued.draft.fingerprint;
            let reply = Box::new(Reply { answer: known.answer, replayed: true });
            return Ok(Decided::Answer(if same { Ok(reply) } else { Err(Failure::RequestIdReused) }));
        }
        if let Some(why) = self.parked {
            return Ok(Decided::Answer(Err(Failure::Parked(why.to_owned()))));
        }
        let rules = match rules(self.in_force, &queued.command) {
            Ok(rules) => rules,
            Err(failure) => return Ok(Decided::Answer(Err(failure))),
        };
        queued.steps.next("decide");
        let context = Context { now, rules, zones: saldo_catalog::zone };
        let Decision { events, refusal } = handle(&mut self.account, &self.documents, &queued.command, &context);
        if let Some(error) = self.documents.failed.take() {
            return Err(error);
        }
        if matches!(refusal, Some(Refused::Party(party::Refusal::AccountUnknown))) {
            return Ok(Decided::Answer(Err(Failure::AccountUnknown)));
        }
        let (catalog, reread) = used(self.in_force, self.catalog, now);
        let wakeup = next_wakeup(&self.account, &context).into_iter().chain(reread).min();
        if events.is_empty() && refusal.is_none() {
            let answer = Answer::of_nothing(&queued.command, &self.account, self.head.version, now, wakeup, catalog);
            return Ok(Decided::Answer(Ok(Box::new(Reply { answer, replayed: false }))));
        }
        if let Err(why) = self.in_force.system.admit(&events) {
            self.go_back(decided);
            return Ok(Decided::Answer(Err(why.into())));
        }
        let commit = commit(queued, now, wakeup, catalog, refusal, events);
        let version = self.head.version + 1;
        let (tenant, account, payload) = (&queued.tenant, &queued.account, commit.encode());
        let value = frame::encode(frame::Kind::Commit, tenant, account, version, self.head.hash, &payload, self.keys);
        if value.len() > MAX_COMMIT_BYTES {
            self.go_back(decided);
            let rule = format!("the commit would have {} bytes; at most {MAX_COMMIT_BYTES} are kept", value.len());
            let violation = Violation { field: "request".into(), rule };
            return Ok(Decided::Answer(Err(Failure::Invalid(vec![violation]))));
        }
        commit.events.iter().for_each(|event| self.documents.evolve(event));
        self.recorded_at = Some(now);
        self.head = Head { hash: frame::hash(&value), version };
        Ok(Decided::Commit(Box::new(commit), value))
    }

    /// Takes back the newest decision: the account stands behind the commits `decided` again. It is folded anew, since a
    /// decision is seldom taken back.
    fn go_back(&mut self, decided: &VecDeque<InFlight>) {
        self.account = self.before.clone();
        let events = decided.iter().flat_map(|in_flight| &in_flight.commit.events);
        events.for_each(|event| evolve(&mut self.account, event));
    }

    /// The answer that was given to this request id.
    fn remembered(&self, queued: &QueuedCommand, now: Timestamp) -> Result<Option<StoredAnswer>, StoreError> {
        let known = self.documents.store.answer(&queued.key, &queued.draft.request_id)?;
        Ok(known.filter(|known| now.duration_since(known.answer.recorded_at) <= REMEMBERED))
    }
}

/// The rules to decide by. By a policy that cannot be read nobody is spoken to; decisions about money go on.
fn rules<'c>(in_force: &'c InForce, command: &Command) -> Result<&'c Rules, Failure> {
    let speaks = matches!(
        command,
        Command::Dunning(dunning::Command::StartContactAttempt { .. } | dunning::Command::RetryContact { .. })
    );
    match in_force.parked() {
        Some(why) if speaks => Err(Failure::PolicyParked(why.to_owned())),
        Some(_) => Ok(in_force.tenant.silent.as_ref()),
        None => Ok(in_force.tenant.rules.as_ref()),
    }
}

/// The versions of the catalog that a decision names, and when the account wants to be asked again because of them.
///
/// While a chain is parked, decisions rest on the part that was read before. They name the versions that this release
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

/// Documents as the commits of the chain leave them, over the store.
struct Overlay<'s> {
    store: &'s Store,
    account: &'s str,
    changed: HashMap<DocumentKey, Document>,
    failed: RefCell<Option<StoreError>>,
}

impl Overlay<'_> {
    fn evolve(&mut self, event: &Event) {
        for touched in Document::touched(event) {
            if let Some(document) = Document::evolve(&touched, self.get(&touched), event) {
                self.changed.insert(touched, document);
            }
        }
    }
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

fn commit(
    queued: &QueuedCommand,
    recorded_at: Timestamp,
    next_wakeup: Option<Timestamp>,
    catalog: CatalogVersions,
    refusal: Option<Refused>,
    events: Vec<Event>,
) -> Commit {
    let draft = &queued.draft;
    Commit {
        request_id: draft.request_id.clone(),
        method: draft.method.to_owned(),
        fingerprint: draft.fingerprint,
        command: draft.command.clone(),
        sealed: draft.sealed.clone(),
        actor: draft.actor.clone(),
        actor_roles: draft.actor_roles.clone(),
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
        // The account asks for that release by itself, since it has decided already.
        assert_eq!(used(&in_force(3, 2), tenant(3), now), (tenant(3), now.checked_add(REREAD).ok()));
    }
}
