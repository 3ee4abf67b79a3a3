//! The facts of agreements.

use saldo_domain::{
    agreement::{HoldAmended, HoldPlaced, HoldReason, HoldReleased, HoldScope, HoldTerms},
    ids::DocumentNumber,
};

use crate::{
    DecodeError,
    declare::{fact, message},
    wire::{Decoded, Field, Fields, named},
};

named!(HoldReason);

/// Chosen invoices, in ascending order and each once; none stands for the whole account.
impl Field for HoldScope {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        if let HoldScope::Invoices(invoices) = self {
            invoices.put(tag, out);
        }
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        let invoices: Vec<DocumentNumber> = Field::get(fields, tag, name)?;
        if !invoices.is_sorted_by(|one, next| one < next) {
            return Err(DecodeError::malformed(name, "not in ascending order"));
        }
        Ok(if invoices.is_empty() { HoldScope::Account } else { HoldScope::Invoices(invoices) })
    }

    fn sample() -> Self {
        HoldScope::Invoices(Field::sample())
    }
}

message!(HoldTerms { 1 => scope, 2 => from, 3 => until, 4 => reason });

fact! {
    "hold.placed" [2] HoldPlaced { 1 => hold, 2 => terms, 3 => placed_on, 4 => note }
    date: |fact| Some(fact.terms.from.unwrap_or(fact.placed_on)),
    summary: |fact| format!("Hold {} placed {}", fact.hold, covers(&fact.terms)),
}

fact! {
    "hold.amended" [2] HoldAmended { 1 => hold, 2 => terms, 3 => amended_on, 4 => note }
    date: |fact| Some(fact.amended_on),
    summary: |fact| format!("Hold {} amended: now {}", fact.hold, covers(&fact.terms)),
}

fact! {
    "hold.released" [2] HoldReleased { 1 => hold, 2 => terms, 3 => released_on, 4 => note }
    date: |fact| Some(fact.released_on),
    summary: |fact| format!("Hold {} released", fact.hold),
}

fn covers(terms: &HoldTerms) -> String {
    let scope = match &terms.scope {
        HoldScope::Account => "on the account".to_owned(),
        HoldScope::Invoices(invoices) => match invoices.as_slice() {
            [only] => format!("on invoice {only}"),
            many => format!("on {} invoices", many.len()),
        },
    };
    let from = terms.from.map_or_else(String::new, |from| format!(" from {from}"));
    let until = terms.until.map_or_else(|| " until released".to_owned(), |until| format!(" until {until}"));
    format!("{scope}{from}{until} ({})", terms.reason.name())
}
