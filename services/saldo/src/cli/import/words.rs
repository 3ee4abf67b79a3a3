//! Answers of the service in the words of a file: its keys are those of the map.

use saldo_api::v1;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    document::Entry,
    map::{index_of, key_of},
};
use crate::client::{StatusDetails, explain};

/// Why a document was not recorded.
pub fn refusal(status: &Status, entry: &Entry) -> String {
    let (account, name) = (&entry.account, entry.name());
    let invoice = entry.document.invoice().unwrap_or_default();
    match StatusDetails::of(status).reason.as_str() {
        "ACCOUNT_UNKNOWN" => account_unknown(account),
        "INVOICE_UNKNOWN" => invoice_unknown(account, invoice),
        "INVOICE_NUMBER_TAKEN" | "CREDIT_NOTE_NUMBER_TAKEN" | "PAYMENT_REFERENCE_TAKEN" => other_content(&name),
        "OVER_ALLOCATION" | "ITEM_NOT_OPEN" => format!("invoice {invoice} has less open than {name}"),
        _ => faults(status, entry).unwrap_or_else(|| explain(status)),
    }
}

/// The advice after an answer that ends the import. The same token would be refused again.
pub fn next_step(status: &Status) -> &'static str {
    match status.code() {
        Code::PermissionDenied => "run the same command with a token that has this role to go on",
        Code::Unauthenticated => "run the same command with a valid token to go on",
        _ => "run the same command again to go on",
    }
}

pub fn account_unknown(account: &str) -> String {
    format!("account {account} does not exist; give the map a section [account.open] with which it is opened")
}

pub fn invoice_unknown(account: &str, invoice: &str) -> String {
    format!("account {account} has no invoice {invoice}; import the invoices first")
}

pub fn other_content(name: &str) -> String {
    format!("{name} was recorded before with other content, or was taken back since; the record stays")
}

/// The fields at fault, by their keys.
fn faults(status: &Status, entry: &Entry) -> Option<String> {
    let violations = status.get_details_bad_request()?.field_violations;
    let points = entry.profile.as_ref().map(|profile| profile.contact_points.as_slice()).unwrap_or_default();
    let key = |field: &str| match index_of(field, "profile.contact_points[").and_then(|(index, _)| points.get(index)) {
        Some(point) if point.channel == i32::from(v1::Channel::Email) => "account.open.email".to_owned(),
        Some(_) => "account.open.phone".to_owned(),
        None => key_of(field),
    };
    let words = violations.iter().map(|fault| format!("{}: {}", key(&fault.field), fault.description));
    Some(words.collect::<Vec<_>>().join("; ")).filter(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::{super::document::Document, *};

    fn entry() -> Entry {
        let email = v1::ContactPoint { channel: v1::Channel::Email.into(), address: "x".into() };
        let phone = v1::ContactPoint { channel: v1::Channel::Phone.into(), address: "x".into() };
        Entry {
            account: "K-1".into(),
            document: Document::CreditNote(v1::CreditInvoiceRequest {
                credit_note_number: "C-1".into(),
                invoice_number: "F-1".into(),
                ..Default::default()
            }),
            stated_total: None,
            profile: Some(v1::Profile { contact_points: vec![email, phone], ..Default::default() }),
        }
    }

    #[test]
    fn a_refused_token_is_not_to_be_tried_again() {
        let next = |status: Status| next_step(&status);
        assert!(next(Status::permission_denied("reader")).contains("a token that has this role"));
        assert!(next(Status::unauthenticated("expired")).contains("a valid token"));
        assert!(next(Status::unavailable("down")).contains("same command again"));
    }

    #[test]
    fn no_word_of_the_interface_reaches_the_person_with_a_file() {
        for (field, key) in [
            ("total.minor_units", "amount"),
            ("instalments[1].due_date", "due_date of instalment 2"),
            ("instalments[0].amount_minor", "amount of instalment 1"),
            ("credit_note_number", "number"),
            ("profile.time_zone", "account.open.time_zone"),
            ("profile.contact_points[0].address", "account.open.email"),
            ("profile.contact_points[1].address", "account.open.phone"),
            ("issue_date", "issue_date"),
        ] {
            let mut details = ErrorDetails::with_error_info("INVALID_REQUEST", "saldo", []);
            details.add_bad_request_violation(field, "must be better");
            let status = Status::with_error_details(Code::InvalidArgument, "bad", details);
            assert_eq!(refusal(&status, &entry()), format!("{key}: must be better"));
        }
        for (reason, word) in [
            ("ACCOUNT_UNKNOWN", "[account.open]"),
            ("INVOICE_UNKNOWN", "account K-1 has no invoice F-1"),
            ("CREDIT_NOTE_NUMBER_TAKEN", "credit note C-1 of account K-1 was recorded before with other content"),
            ("OVER_ALLOCATION", "less open"),
            ("CREDIT_BEFORE_INVOICE", "as the service says"),
        ] {
            let details = ErrorDetails::with_error_info(reason, "saldo", []);
            let status = Status::with_error_details(Code::FailedPrecondition, "as the service says", details);
            let said = refusal(&status, &entry());
            assert!(said.contains(word), "{reason}: {said}");
        }
    }
}
