//! The state of one account: bounded by what is open, never by the length of its history.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{
    contact::{Contacts, Rung},
    ids::DocumentNumber,
    money::Currency,
    profile::Profile,
};

/// Open items and unapplied credits one account can have; a limit keeps decisions and states bounded.
pub const MAX_OPEN_ITEMS: usize = 10_000;

/// An instalment not fully settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenItem {
    /// Its invoice.
    pub invoice: DocumentNumber,
    /// Its number in the invoice, from 1.
    pub instalment: u32,
    /// The invoice's currency.
    pub currency: Currency,
    /// The invoice's issue date.
    pub issue_date: Date,
    /// The day it falls due.
    pub due_date: Date,
    /// What is left, in minor units; positive.
    pub open: i64,
    /// The highest step of the dunning ladder that it has taken.
    pub rung: Option<Rung>,
}

/// What kind of document left a credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CreditKind {
    /// A payment.
    Payment,
    /// A credit note.
    CreditNote,
}

/// Money received or credited and not yet applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnappliedCredit {
    /// Where it comes from.
    pub kind: CreditKind,
    /// Payment reference or credit note number.
    pub document: DocumentNumber,
    /// Its currency.
    pub currency: Currency,
    /// What is left, in minor units; positive.
    pub remaining: i64,
}

/// One debtor's account with one creditor. The default is an account that was never opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Who owes; `None` before the account is opened.
    pub profile: Option<Profile>,
    /// What is open, in the order of [`crate::allocation::order`].
    pub items: Vec<OpenItem>,
    /// What is not applied, by kind and document.
    pub credits: Vec<UnappliedCredit>,
    /// Every currency ever invoiced.
    pub currencies: BTreeSet<Currency>,
    /// What is being said to the debtor.
    pub contacts: Contacts,
}

impl Account {
    /// What is open in a currency less what is unapplied, in minor units.
    pub fn balance(&self, currency: Currency) -> i128 {
        let open: i128 =
            self.items.iter().filter(|item| item.currency == currency).map(|item| i128::from(item.open)).sum();
        let credit: i128 = self
            .credits
            .iter()
            .filter(|credit| credit.currency == currency)
            .map(|credit| i128::from(credit.remaining))
            .sum();
        open - credit
    }

    /// What is open of one invoice, in minor units.
    pub fn open_of(&self, invoice: &DocumentNumber) -> i128 {
        self.items.iter().filter(|item| item.invoice == *invoice).map(|item| i128::from(item.open)).sum()
    }
}
