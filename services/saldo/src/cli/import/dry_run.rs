//! Says how an import would end, by the read models. No command is sent.

mod room;

use std::collections::{HashMap, HashSet};

use futures::StreamExt;
use indicatif::ProgressBar;
use saldo_api::v1::{self, find_documents_request::Kind};
use tonic::Status;

use self::room::Room;
use super::{
    document::{Document, Entry},
    load::{Done, ImportError, Unapplied, is_about_the_row},
    plan::{Outcome, Plan, Planned},
    rows::Rows,
    words,
};
use crate::client::{Clients, StatusDetails, explain};

/// The most numbers of one question.
const ASKED_AT_ONCE: usize = 1_000;

/// Compares the plan with what is recorded, so many accounts side by side.
pub async fn compare(
    rows: &Rows,
    plan: &Plan,
    in_flight: usize,
    clients: &Clients,
    bar: &ProgressBar,
) -> Result<Vec<Done>, ImportError> {
    let mut accounts = futures::stream::iter(&plan.accounts)
        .map(|documents| async move {
            let done = account(rows, documents, clients).await;
            bar.inc(documents.iter().map(|planned| planned.rows.len() as u64).sum());
            done
        })
        .buffer_unordered(in_flight);
    let mut all = Vec::new();
    while let Some(done) = accounts.next().await {
        all.extend(done?);
    }
    Ok(all)
}

/// The recorded documents among those asked for, by number; `None` where the account does not exist.
type Recorded = Option<HashMap<String, Vec<v1::OpenItem>>>;

async fn account(rows: &Rows, documents: &[Planned], clients: &Clients) -> Result<Vec<Done>, ImportError> {
    let entries: Vec<_> = documents.iter().map(|planned| planned.entry(rows)).collect();
    let readable = || entries.iter().flatten();
    let line_of = |planned: &Planned| planned.rows.first().map_or(0, |row| rows.line(*row));
    let failed = |status: Status| ImportError::Service {
        line: documents.first().map_or(0, line_of),
        why: explain(&status),
        done: 0,
        rows: rows.len(),
        next: words::next_step(&status),
    };
    let mut recorded: HashMap<Kind, Recorded> = HashMap::new();
    for kind in [Kind::Invoice, Kind::CreditNote, Kind::Payment] {
        let own = readable().filter(|entry| kind_of(entry) == kind).map(|entry| entry.document.number());
        let credited = readable().filter(|entry| kind_of(entry) == Kind::CreditNote && kind == Kind::Invoice);
        let numbers = own.chain(credited.filter_map(|entry| entry.document.invoice()));
        let numbers: Vec<String> = numbers.collect::<HashSet<_>>().into_iter().map(str::to_owned).collect();
        let Some(account) = readable().next().map(|entry| entry.account.as_str()).filter(|_| !numbers.is_empty())
        else {
            continue;
        };
        recorded.insert(kind, find(clients, account, kind, &numbers).await.map_err(failed)?);
    }
    let mut room = Room::default();
    // An account that does not exist has nothing open.
    if let Some(credit) = readable().find(|entry| entry.document.credit().is_some())
        && recorded.values().all(Option::is_some)
    {
        room = Room::of(clients, &credit.account).await.map_err(failed)?;
    }
    let mut issued: HashSet<&str> = HashSet::new();
    let mut all = Vec::with_capacity(documents.len());
    for (planned, entry) in documents.iter().zip(&entries) {
        let (outcome, unapplied) = match entry {
            Ok(entry) => {
                let outcome = match judge(entry, &recorded, &issued) {
                    Outcome::Present => Outcome::recorded(rows, &entry.document),
                    other => other,
                };
                if matches!((&entry.document, &outcome), (Document::Invoice(_), Outcome::Added)) {
                    issued.insert(entry.document.number());
                }
                let applied = match &outcome {
                    Outcome::Added => Some(room.apply(&entry.document)),
                    Outcome::Present => Some(applied_before(entry, &recorded)),
                    _ => None,
                };
                (outcome, applied.and_then(|applied| Unapplied::of(entry, line_of(planned), applied)))
            }
            Err(why) => (Outcome::Rejected(why.clone()), None),
        };
        all.push(Done { rows: planned.rows.clone(), outcome, unapplied });
    }
    Ok(all)
}

/// What is applied now of a recorded payment or credit note.
fn applied_before(entry: &Entry, recorded: &HashMap<Kind, Recorded>) -> i64 {
    let found = recorded.get(&kind_of(entry)).and_then(Option::as_ref);
    let items = found.and_then(|found| found.get(entry.document.number())).into_iter().flatten();
    // Credit is below zero, and so is what is left of it.
    items.fold(0, |sum, item| sum.saturating_add(item.open_minor.saturating_sub(item.original_minor)))
}

fn kind_of(entry: &Entry) -> Kind {
    match entry.document {
        Document::Invoice(_) => Kind::Invoice,
        Document::CreditNote(_) => Kind::CreditNote,
        Document::Payment(_) => Kind::Payment,
    }
}

async fn find(clients: &Clients, account: &str, kind: Kind, numbers: &[String]) -> Result<Recorded, Status> {
    let mut by_number: HashMap<String, Vec<v1::OpenItem>> = HashMap::new();
    for numbers in numbers.chunks(ASKED_AT_ONCE) {
        let asked = v1::FindDocumentsRequest {
            account_id: account.to_owned(),
            kind: kind.into(),
            numbers: numbers.to_vec(),
            ..Default::default()
        };
        match clients.ask_patiently(asked).await {
            Ok(found) => {
                for item in found.items {
                    by_number.entry(item.document.clone()).or_default().push(item);
                }
            }
            Err(status) if is_about_the_row(&status) && StatusDetails::of(&status).reason == "ACCOUNT_UNKNOWN" => {
                return Ok(None);
            }
            Err(status) => return Err(status),
        }
    }
    Ok(Some(by_number))
}

fn judge(entry: &Entry, recorded: &HashMap<Kind, Recorded>, issued: &HashSet<&str>) -> Outcome {
    let of =
        |kind: Kind, number: &str| recorded.get(&kind).and_then(Option::as_ref).and_then(|found| found.get(number));
    let is_unknown = recorded.values().any(Option::is_none);
    if is_unknown && entry.profile.is_none() {
        return Outcome::Rejected(words::account_unknown(&entry.account));
    }
    if let Some(items) = of(kind_of(entry), entry.document.number()) {
        return match is_same(&entry.document, items) {
            true => Outcome::Present,
            false => Outcome::Rejected(words::other_content(&entry.name())),
        };
    }
    match &entry.document {
        Document::CreditNote(note) if !issued.contains(note.invoice_number.as_str()) => {
            let Some(items) = of(Kind::Invoice, &note.invoice_number) else {
                return Outcome::Rejected(words::invoice_unknown(&entry.account, &note.invoice_number));
            };
            let before = items.iter().any(|item| day(item.issue_date) > day(note.credit_date));
            match before {
                true => Outcome::Rejected("a credit note is not dated before its invoice's issue date".to_owned()),
                false => Outcome::Added,
            }
        }
        _ => Outcome::Added,
    }
}

fn day(date: Option<v1::Date>) -> Option<(i32, i32, i32)> {
    date.map(|date| (date.year, date.month, date.day))
}

/// Whether what is recorded has the content of a row, as the service would compare it.
fn is_same(document: &Document, items: &[v1::OpenItem]) -> bool {
    let single = |amount: &Option<v1::Money>, date: Option<v1::Date>| {
        let amount = amount.clone().unwrap_or_default();
        matches!(items, [item] if item.original_minor == -amount.minor_units
            && item.currency == amount.currency && item.issue_date == date)
    };
    match document {
        Document::Payment(payment) => single(&payment.amount, payment.value_date),
        Document::CreditNote(note) => single(&note.amount, note.credit_date),
        Document::Invoice(invoice) => {
            let total = invoice.total.clone().unwrap_or_default();
            let parts: Vec<_> = match invoice.due_date {
                Some(due) => vec![(Some(due), total.minor_units)],
                None => invoice.instalments.iter().map(|part| (part.due_date, part.amount_minor)).collect(),
            };
            parts.len() == items.len()
                && parts.iter().zip(items).all(|((due, amount), item)| {
                    (item.due_date, item.original_minor, &item.currency, item.issue_date)
                        == (*due, *amount, &total.currency, invoice.issue_date)
                })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(day: i32) -> Option<v1::Date> {
        Some(v1::Date { year: 2026, month: 1, day })
    }

    fn item(document: &str, due: Option<v1::Date>, original_minor: i64) -> v1::OpenItem {
        v1::OpenItem {
            document: document.into(),
            currency: "EUR".into(),
            issue_date: date(1),
            due_date: due,
            original_minor,
            ..Default::default()
        }
    }

    fn entry(document: Document) -> Entry {
        Entry { account: "K".into(), document, stated_total: None, profile: None }
    }

    fn eur(minor_units: i64) -> Option<v1::Money> {
        Some(v1::Money { minor_units, currency: "EUR".into() })
    }

    #[test]
    fn a_dry_run_tells_new_rows_from_present_ones_and_from_faults() {
        let invoice = |number: &str, minor| {
            entry(Document::Invoice(v1::IssueInvoiceRequest {
                number: number.into(),
                total: eur(minor),
                issue_date: date(1),
                due_date: date(9),
                ..Default::default()
            }))
        };
        let credit = |invoice: &str, day| {
            entry(Document::CreditNote(v1::CreditInvoiceRequest {
                credit_note_number: "C".into(),
                invoice_number: invoice.into(),
                amount: eur(5),
                credit_date: date(day),
                ..Default::default()
            }))
        };
        let invoices = HashMap::from([("F-1".to_owned(), vec![item("F-1", date(9), 100)])]);
        let recorded = HashMap::from([(Kind::Invoice, Some(invoices)), (Kind::CreditNote, Some(HashMap::new()))]);
        let issued = HashSet::from(["F-2"]);
        let judged = |entry: &Entry| judge(entry, &recorded, &issued);
        assert_eq!(judged(&invoice("F-1", 100)), Outcome::Present);
        assert_eq!(judged(&invoice("F-3", 100)), Outcome::Added);
        assert_eq!(judged(&credit("F-1", 2)), Outcome::Added);
        assert_eq!(judged(&credit("F-2", 2)), Outcome::Added, "a row before it issues the invoice");
        for (entry, word) in [(invoice("F-1", 101), "other content"), (credit("F-9", 2), "no invoice F-9")] {
            assert!(matches!(judged(&entry), Outcome::Rejected(why) if why.contains(word)), "{word}");
        }
        let nobody = HashMap::from([(Kind::Invoice, None)]);
        assert!(
            matches!(judge(&invoice("F-1", 1), &nobody, &issued), Outcome::Rejected(why) if why.contains("does not exist"))
        );
    }
}
