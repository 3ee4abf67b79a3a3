//! From commits to rows: pure, and the same for the live projector, a rebuild and a test.

mod contacts;

use std::collections::{BTreeMap, HashMap};

use jiff::{Timestamp, civil::Date};
use saldo_domain::{
    event::Event,
    ids::DocumentNumber,
    ledger::{
        self, AllocationLine, InvoiceCredited, InvoiceIssued, InvoiceVoided, PaymentAllocated, PaymentRecorded,
        PaymentReversed,
    },
    money::Currency,
    party::{self, AccountAmended, AccountOpened, Channel, DebtorKind},
    sealed::Sealed,
};
use saldo_facts::{CatalogVersions, Commit, effective_date, event_type, summarise};
use saldo_log::acceptor::Head;

pub use contacts::{AttemptChange, AttemptKey, Contacts, ReminderChange, ReminderKey};

/// Whose row it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The creditor.
    pub tenant: String,
    /// The debtor's account.
    pub account: String,
}

/// Where a commit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Its version on the account's chain.
    pub version: u64,
    /// The running maximum of recorded_at over the partition's accepted commits.
    pub known_at: Timestamp,
}

/// An item: an instalment, or credit from a payment or a credit note.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// Whose.
    pub owner: Owner,
    /// `invoice`, `payment` or `credit_note`.
    pub kind: &'static str,
    /// Its number or reference.
    pub document: String,
    /// 0 for credit.
    pub instalment: u32,
}

/// A change of an item on a day.
#[derive(Debug, Clone)]
pub struct LedgerRow {
    /// The item.
    pub item: ItemKey,
    /// Its currency.
    pub currency: Currency,
    /// When the item falls due; `None` for credit.
    pub due_date: Option<Date>,
    /// The document's own date.
    pub issue_date: Date,
    /// From this day it is true.
    pub effective_date: Date,
    /// Minor units; negative lowers what is owed.
    pub amount: i64,
    /// Where it comes from.
    pub place: Place,
    /// Its number within the commit.
    pub line: i32,
}

/// What a batch did to an item.
#[derive(Debug, Clone, Copy)]
pub struct ItemChange {
    /// The batch makes the row. A document's number is used once for ever, so nobody else can have made it.
    pub new: bool,
    /// Its currency.
    pub currency: Currency,
    /// The document's own date.
    pub issue_date: Date,
    /// When it falls due; `None` for credit.
    pub due_date: Option<Date>,
    /// What it was at first, where the row is new.
    pub original: i64,
    /// The sum of the batch's entries.
    pub change: i64,
}

/// One event, or one refusal.
#[derive(Debug, Clone)]
pub struct HistoryRow {
    /// Whose.
    pub owner: Owner,
    /// Where.
    pub place: Place,
    /// Its number within the commit.
    pub index: i32,
    /// Its type.
    pub kind: String,
    /// The day it is true of.
    pub effective_date: Option<Date>,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Who asked.
    pub actor: String,
    /// One line.
    pub summary: String,
}

/// What is known of an account without its personal data.
#[derive(Debug, Clone, Default)]
pub struct AccountRow {
    /// The batch holds the account's first commit.
    pub new: bool,
    /// The newest commit.
    pub version: u64,
    /// `consumer` or `business`; absent, as in the next three: unchanged by this batch.
    pub kind: Option<&'static str>,
    /// ISO 639-1.
    pub language: Option<String>,
    /// IANA zone.
    pub time_zone: Option<String>,
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// When it next needs waking.
    pub next_wakeup: Option<Timestamp>,
    /// The version of the tenant's catalog that decided so.
    pub catalog: CatalogVersions,
    /// The partition that the newest commit stands in.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
}

/// Sealed values that the projector opens for the personal tables.
#[derive(Debug, Clone)]
pub struct Personal {
    /// Whose.
    pub owner: Owner,
    /// The event that carries them.
    pub event_type: &'static str,
    /// The name, if it changes.
    pub display_name: Option<Sealed>,
    /// The contact points, if they change.
    pub contact_points: Option<Vec<(Channel, Sealed)>>,
}

/// A chain's new head.
#[derive(Debug, Clone, Copy)]
pub struct HeadRow {
    /// The batch holds the chain's first commit.
    pub new: bool,
    /// The partition.
    pub partition: u32,
    /// The head.
    pub head: Head,
}

/// Everything one batch of commits adds.
#[derive(Debug, Default)]
pub struct Rows {
    /// In log order.
    pub ledger: Vec<LedgerRow>,
    /// What the ledger's entries come to, by item.
    pub items: BTreeMap<ItemKey, ItemChange>,
    /// In log order.
    pub history: Vec<HistoryRow>,
    /// By owner.
    pub accounts: BTreeMap<Owner, AccountRow>,
    /// Reminders and attempts.
    pub contacts: Contacts,
    /// In log order; later ones win.
    pub personal: Vec<Personal>,
    /// New heads, by `tenant/account`.
    pub heads: HashMap<String, HeadRow>,
    /// Accounts that stand still from now on, and why.
    pub parked: BTreeMap<Owner, (Timestamp, String)>,
}

impl Rows {
    /// A chain has a new head, whatever its commit says.
    pub fn extend(&mut self, key: String, partition: u32, head: Head) {
        let new = head.version == 1;
        let row = self.heads.entry(key).or_insert(HeadRow { new, partition, head });
        row.head = head;
    }

    /// Adds a commit.
    pub fn add(&mut self, owner: &Owner, place: Place, trace: Option<&str>, commit: &Commit) {
        let mut ledger = Lines { rows: &mut self.ledger, items: &mut self.items, owner, place, line: 0 };
        for event in &commit.events {
            if let Event::Ledger(fact) = event {
                ledger.post(fact);
            }
        }
        let account = self.accounts.entry(owner.clone()).or_default();
        account.new |= place.version == 1;
        account.version = place.version;
        account.next_wakeup = commit.next_wakeup;
        account.catalog = commit.catalog;
        (account.partition, account.offset) = (place.partition, place.offset);
        self.contacts.add(owner, place, trace, commit);
        for (index, event) in (0..).zip(&commit.events) {
            profile(account, event);
            if let Some(personal) = personal(owner, event) {
                self.personal.push(personal);
            }
            self.history.push(HistoryRow {
                owner: owner.clone(),
                place,
                index,
                kind: event_type(event).to_owned(),
                effective_date: effective_date(event),
                recorded_at: commit.recorded_at,
                actor: commit.actor.clone(),
                summary: summarise(event),
            });
        }
        if let Some(refusal) = &commit.refusal {
            self.history.push(HistoryRow {
                owner: owner.clone(),
                place,
                index: commit.events.len() as i32,
                kind: "refused".to_owned(),
                effective_date: None,
                recorded_at: commit.recorded_at,
                actor: commit.actor.clone(),
                summary: format!("{} refused: {} ({})", commit.method, refusal.message, refusal.reason),
            });
        }
    }
}

struct Lines<'r> {
    rows: &'r mut Vec<LedgerRow>,
    items: &'r mut BTreeMap<ItemKey, ItemChange>,
    owner: &'r Owner,
    place: Place,
    line: i32,
}

/// What an entry is about.
struct Item<'a> {
    kind: &'static str,
    document: &'a DocumentNumber,
    instalment: u32,
    currency: Currency,
    due_date: Option<Date>,
    issue_date: Date,
}

impl Lines<'_> {
    /// The entry that makes an item.
    fn make(&mut self, item: Item<'_>, amount: i64) {
        let day = item.issue_date;
        self.enter(item, day, amount, true);
    }

    /// An entry that changes one.
    fn push(&mut self, item: Item<'_>, effective_date: Date, amount: i64) {
        self.enter(item, effective_date, amount, false);
    }

    fn enter(&mut self, item: Item<'_>, effective_date: Date, amount: i64, new: bool) {
        let key = ItemKey {
            owner: self.owner.clone(),
            kind: item.kind,
            document: item.document.to_string(),
            instalment: item.instalment,
        };
        let change = self.items.entry(key.clone()).or_insert(ItemChange {
            new,
            currency: item.currency,
            issue_date: item.issue_date,
            due_date: item.due_date,
            original: amount,
            change: 0,
        });
        change.change += amount;
        self.rows.push(LedgerRow {
            item: key,
            currency: item.currency,
            due_date: item.due_date,
            issue_date: item.issue_date,
            effective_date,
            amount,
            place: self.place,
            line: self.line,
        });
        self.line += 1;
    }

    /// Entries of one event. What a payment or credit brings is first all unapplied; applying it moves it to the item.
    fn post(&mut self, fact: &ledger::Fact) {
        match fact {
            ledger::Fact::InvoiceIssued(InvoiceIssued { number, total, issue_date, instalments, .. }) => {
                for part in instalments {
                    let item = Item {
                        kind: "invoice",
                        document: number,
                        instalment: part.number,
                        currency: total.currency,
                        due_date: Some(part.due_date),
                        issue_date: *issue_date,
                    };
                    self.make(item, part.amount);
                }
            }
            ledger::Fact::InvoiceVoided(InvoiceVoided { number, currency, void_date, instalments, .. }) => {
                for part in instalments {
                    let item = Item {
                        kind: "invoice",
                        document: number,
                        instalment: part.number,
                        currency: *currency,
                        due_date: Some(part.due_date),
                        issue_date: *void_date,
                    };
                    self.push(item, *void_date, -part.amount);
                }
            }
            ledger::Fact::InvoiceCredited(InvoiceCredited { credit_note, amount, credit_date, lines, .. }) => {
                self.make(credit("credit_note", credit_note, amount.currency, *credit_date), -amount.minor);
                self.apply("credit_note", credit_note, amount.currency, lines);
            }
            ledger::Fact::PaymentRecorded(PaymentRecorded { reference, amount, value_date, .. }) => {
                self.make(credit("payment", reference, amount.currency, *value_date), -amount.minor);
            }
            ledger::Fact::PaymentAllocated(PaymentAllocated { reference, currency, lines, .. }) => {
                self.apply("payment", reference, *currency, lines);
            }
            // What was applied is first unapplied again, not before the day it took effect, and then all of it goes.
            ledger::Fact::PaymentReversed(PaymentReversed { reference, amount, reversal_date, lines, .. }) => {
                for line in lines {
                    let day = line.effective_date.max(*reversal_date);
                    self.push(applied(line, amount.currency), day, line.amount);
                    self.push(credit("payment", reference, amount.currency, day), day, -line.amount);
                }
                let payment = credit("payment", reference, amount.currency, *reversal_date);
                self.push(payment, *reversal_date, amount.minor);
            }
        }
    }

    fn apply(&mut self, kind: &'static str, document: &DocumentNumber, currency: Currency, lines: &[AllocationLine]) {
        for line in lines {
            self.push(applied(line, currency), line.effective_date, -line.amount);
            self.push(credit(kind, document, currency, line.effective_date), line.effective_date, line.amount);
        }
    }
}

fn applied(line: &AllocationLine, currency: Currency) -> Item<'_> {
    Item {
        kind: "invoice",
        document: &line.invoice,
        instalment: line.instalment,
        currency,
        due_date: Some(line.due_date),
        issue_date: line.issue_date,
    }
}

fn credit<'a>(kind: &'static str, document: &'a DocumentNumber, currency: Currency, issue_date: Date) -> Item<'a> {
    Item { kind, document, instalment: 0, currency, due_date: None, issue_date }
}

fn profile(row: &mut AccountRow, event: &Event) {
    let kind = |kind: DebtorKind| match kind {
        DebtorKind::Consumer => "consumer",
        DebtorKind::Business => "business",
    };
    match event {
        Event::Party(party::Fact::AccountOpened(AccountOpened(profile))) => {
            row.kind = Some(kind(profile.kind));
            row.language = Some(profile.language.clone());
            row.time_zone = Some(profile.time_zone.clone());
            row.country = Some(profile.country.clone());
        }
        Event::Party(party::Fact::AccountAmended(AccountAmended(change))) => {
            row.kind = change.kind.map(kind).or(row.kind);
            row.language = change.language.clone().or(row.language.take());
            row.time_zone = change.time_zone.clone().or(row.time_zone.take());
            row.country = change.country.clone().or(row.country.take());
        }
        _ => {}
    }
}

fn personal(owner: &Owner, event: &Event) -> Option<Personal> {
    let (display_name, contact_points) = match event {
        Event::Party(party::Fact::AccountOpened(AccountOpened(profile))) => {
            (Some(profile.display_name.clone()), Some(&profile.contact_points))
        }
        Event::Party(party::Fact::AccountAmended(AccountAmended(change))) => {
            (change.display_name.clone(), change.contact_points.as_ref())
        }
        _ => return None,
    };
    let points =
        |points: &Vec<party::ContactPoint>| points.iter().map(|point| (point.channel, point.address.clone())).collect();
    Some(Personal {
        owner: owner.clone(),
        event_type: event_type(event),
        display_name,
        contact_points: contact_points.map(points),
    })
}
