//! Folding what happened into the state. Total: any event on any state gives a state.

use crate::{
    account::{Account, CreditKind, OpenItem, UnappliedCredit},
    allocation,
    event::{AllocationLine, Event},
    ids::DocumentNumber,
    money::Currency,
    profile::{Profile, ProfileChange},
    speak,
};

/// The account after an event.
pub fn evolve(account: &mut Account, event: &Event) {
    match event {
        Event::AccountOpened(profile) => account.profile = Some(profile.clone()),
        Event::AccountAmended(change) => {
            if let Some(profile) = &mut account.profile {
                amend(profile, change);
            }
        }
        Event::InvoiceIssued { number, total, issue_date, instalments, .. } => {
            account.currencies.insert(total.currency);
            for instalment in instalments {
                account.items.push(OpenItem {
                    invoice: number.clone(),
                    instalment: instalment.number,
                    currency: total.currency,
                    issue_date: *issue_date,
                    due_date: instalment.due_date,
                    open: instalment.amount,
                    rung: None,
                });
            }
            account.items.sort_by(allocation::order);
        }
        Event::InvoiceCredited { credit_note, amount, lines, .. } => {
            add_credit(account, CreditKind::CreditNote, credit_note, amount.currency, amount.minor);
            apply(account, CreditKind::CreditNote, credit_note, lines);
        }
        Event::InvoiceVoided { number, .. } => account.items.retain(|item| item.invoice != *number),
        Event::PaymentRecorded { reference, amount, .. } => {
            add_credit(account, CreditKind::Payment, reference, amount.currency, amount.minor);
        }
        Event::PaymentAllocated { reference, lines, .. } => apply(account, CreditKind::Payment, reference, lines),
        Event::PaymentReversed { reference, amount, lines, .. } => {
            account.credits.retain(|credit| credit.kind != CreditKind::Payment || credit.document != *reference);
            for line in lines {
                restore(account, line, amount.currency);
            }
            account.items.sort_by(allocation::order);
        }
        Event::ReminderDue { .. }
        | Event::ContactStarted(_)
        | Event::ContactWithheld { .. }
        | Event::ContactDeferred { .. }
        | Event::ContactAccepted { .. }
        | Event::ContactRejected { .. }
        | Event::ContactUnknown { .. } => speak::evolve(account, event),
    }
}

fn amend(profile: &mut Profile, change: &ProfileChange) {
    fn set<T: Clone>(field: &mut T, change: &Option<T>) {
        if let Some(new) = change {
            field.clone_from(new);
        }
    }
    set(&mut profile.display_name, &change.display_name);
    set(&mut profile.kind, &change.kind);
    set(&mut profile.language, &change.language);
    set(&mut profile.time_zone, &change.time_zone);
    set(&mut profile.country, &change.country);
    set(&mut profile.contact_points, &change.contact_points);
}

fn add_credit(account: &mut Account, kind: CreditKind, document: &DocumentNumber, currency: Currency, amount: i64) {
    account.credits.push(UnappliedCredit { kind, document: document.clone(), currency, remaining: amount });
    account.credits.sort_by(|a, b| (a.kind, &a.document).cmp(&(b.kind, &b.document)));
}

fn apply(account: &mut Account, kind: CreditKind, document: &DocumentNumber, lines: &[AllocationLine]) {
    for line in lines {
        if let Some(item) = find(account, line) {
            item.open = item.open.saturating_sub(line.amount);
        }
        if let Some(credit) =
            account.credits.iter_mut().find(|credit| credit.kind == kind && credit.document == *document)
        {
            credit.remaining = credit.remaining.saturating_sub(line.amount);
        }
    }
    account.items.retain(|item| item.open > 0);
    account.credits.retain(|credit| credit.remaining > 0);
}

fn restore(account: &mut Account, line: &AllocationLine, currency: Currency) {
    if let Some(item) = find(account, line) {
        item.open = item.open.saturating_add(line.amount);
        return;
    }
    account.items.push(OpenItem {
        invoice: line.invoice.clone(),
        instalment: line.instalment,
        currency,
        issue_date: line.issue_date,
        due_date: line.due_date,
        open: line.amount,
        rung: line.rung,
    });
}

fn find<'a>(account: &'a mut Account, line: &AllocationLine) -> Option<&'a mut OpenItem> {
    account.items.iter_mut().find(|item| item.invoice == line.invoice && item.instalment == line.instalment)
}
