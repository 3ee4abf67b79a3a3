//! An account and its documents, folded from what was decided, and the commands the tests ask.

use std::collections::HashMap;

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use saldo_domain::{
    Context, Decision, Rules,
    account::Account,
    command::Command,
    decide,
    document::{Document, DocumentKey},
    event::Event,
    handle,
    ids::DocumentNumber,
    ledger::{self, Designation, Excess, invoice::schedule},
    money::{Currency, Money},
    party::{self, DebtorKind, Profile},
    refusal::Refusal,
    sealed::Sealed,
};

/// An account and its documents, folded from what was decided.
#[derive(Clone, Default)]
pub struct World {
    pub account: Account,
    documents: HashMap<DocumentKey, Document>,
    pub now: Timestamp,
    pub rules: Rules,
    /// Everything that happened, and when.
    pub history: Vec<(Timestamp, Event)>,
}

impl World {
    pub fn opened() -> Self {
        let mut world = Self { now: at("2026-02-01T12:00"), ..Self::default() };
        let profile = Profile {
            display_name: Sealed(vec![1]),
            kind: DebtorKind::Business,
            language: "es".into(),
            time_zone: "Europe/Madrid".into(),
            country: "ES".into(),
            contact_points: Vec::new(),
        };
        assert_eq!(world.ask(&party::Command::OpenAccount(profile)), Ok(()));
        world
    }

    /// Decides and folds; the refusal's reason where there is one.
    pub fn ask<C: Clone + Into<Command>>(&mut self, command: &C) -> Result<(), &'static str> {
        let context = Context { now: self.now, rules: &self.rules, zones: |name| TimeZone::get(name).ok() };
        let Decision { events, refusal } =
            handle(&mut self.account, &self.documents, &command.clone().into(), &context);
        for event in &events {
            self.history.push((self.now, event.clone()));
            for key in Document::touched(event) {
                let after = Document::evolve(&key, self.documents.remove(&key), event);
                self.documents.insert(key, after.expect("an event leaves its document"));
            }
        }
        refusal.map_or(Ok(()), |refusal| Err(refusal.reason()))
    }

    /// Decides without folding.
    pub fn decide<C: Clone + Into<Command>>(&self, command: &C) -> Result<Vec<Event>, Refusal> {
        let context = Context { now: self.now, rules: &self.rules, zones: |name| TimeZone::get(name).ok() };
        decide(&self.account, &self.documents, &command.clone().into(), &context)
    }

    /// The refusal of a command, where there is one.
    pub fn refusal<C: Clone + Into<Command>>(&mut self, command: &C) -> Option<saldo_domain::refusal::Refusal> {
        let context = Context { now: self.now, rules: &self.rules, zones: |name| TimeZone::get(name).ok() };
        handle(&mut self.account, &self.documents, &command.clone().into(), &context).refusal
    }

    /// Open amounts, oldest due first.
    pub fn open(&self) -> Vec<i64> {
        self.account.ledger.items.iter().map(|item| item.open).collect()
    }

    pub fn unapplied(&self) -> i64 {
        self.account.ledger.credits.iter().map(|credit| credit.remaining).sum()
    }
}

/// An instant, by the clock of UTC.
pub fn at(text: &str) -> Timestamp {
    format!("{text}Z").parse().expect("an instant")
}

pub fn number(text: &str) -> DocumentNumber {
    DocumentNumber::new(text).expect("a number")
}

pub fn money(minor: i64, code: &str) -> Money {
    Money::positive(minor, Currency::new(code).expect("a currency")).expect("positive")
}

pub fn day(n: i8) -> Date {
    Date::constant(2026, 1, n)
}

pub fn invoice(no: &str, parts: &[(Date, i64)]) -> ledger::Command {
    issued_on(no, day(1), parts)
}

/// An invoice of an issue date.
pub fn issued_on(no: &str, issue_date: Date, parts: &[(Date, i64)]) -> ledger::Command {
    let total = money(parts.iter().map(|(_, amount)| amount).sum(), "EUR");
    let instalments = schedule(total, issue_date, None, parts).expect("a schedule");
    ledger::Command::IssueInvoice { number: number(no), total, issue_date, instalments, description: None }
}

pub fn payment(reference: &str, amount: Money, designations: &[(&str, i64)]) -> ledger::Command {
    designated(reference, amount, designations, Excess::Refused)
}

pub fn designated(reference: &str, amount: Money, designations: &[(&str, i64)], excess: Excess) -> ledger::Command {
    ledger::Command::RecordPayment {
        reference: number(reference),
        amount,
        value_date: day(15),
        designations: designations
            .iter()
            .map(|(invoice, amount)| Designation { invoice: number(invoice), instalment: None, amount: *amount })
            .collect(),
        excess,
        keep_unapplied: false,
        remittance: None,
    }
}

pub fn credit_note(note: &str, invoice: &str, minor: i64) -> ledger::Command {
    ledger::Command::CreditInvoice {
        credit_note: number(note),
        invoice: number(invoice),
        amount: money(minor, "EUR"),
        credit_date: day(10),
        reason: None,
    }
}

pub fn reversal(reference: &str) -> ledger::Command {
    ledger::Command::ReversePayment { reference: number(reference), reversal_date: day(20), reason: None }
}

/// The account without the days on which its items were opened again: all else that a reversal leaves is as it was.
pub fn as_if_never_settled(account: &Account) -> Account {
    let mut account = account.clone();
    account.ledger.items.iter_mut().for_each(|item| item.open_from = item.issue_date);
    account
}
