//! A refusal in the words of the command line: what is wrong, and the command that helps.

use tonic::Status;
use tonic_types::StatusExt;

use crate::client::{StatusDetails, explain};

/// Fields of requests, and how a command names them.
pub type Names<'n> = &'n [(&'n str, &'n str)];

/// What a person typed, by the field of the request that it became. A command that names a field in another way says so itself.
const FLAGS: Names<'static> = &[
    ("account_id", "ACCOUNT"),
    ("allocation_date", "--on"),
    ("allocations", "--to"),
    ("amount", "AMOUNT"),
    ("as_of", "--as-of"),
    ("credit_date", "--on"),
    ("credit_note_number", "NUMBER"),
    ("deallocation_date", "--on"),
    ("description", "--description"),
    ("draft", "--policy"),
    ("due_date", "--due"),
    ("from", "--from"),
    ("hold_id", "the hold's id"),
    ("instalments", "--instalment"),
    ("invoice_number", "the invoice's number"),
    ("issue_date", "--issued"),
    ("items", "--from"),
    ("known_at", "--known-at"),
    ("most", "--most"),
    ("note", "--note"),
    ("number", "NUMBER"),
    ("page_size", "--most"),
    ("payment_reference", "NUMBER"),
    ("profile.contact_points", "address"),
    ("profile.country", "--country"),
    ("profile.display_name", "--name"),
    ("profile.kind", "--kind"),
    ("profile.language", "--language"),
    ("profile.time_zone", "--time-zone"),
    ("reason", "--reason"),
    ("reference", "the reference"),
    ("refund_date", "--on"),
    ("remittance", "--remittance"),
    ("request_id", "--request-id"),
    ("reversal_date", "--on"),
    ("settings.fiscal_year_start", "--fiscal-year-start"),
    ("settings.languages", "--language"),
    ("settings.name", "--name"),
    ("settings.time_zone", "--time-zone"),
    ("terms.from", "--from"),
    ("terms.invoices", "--invoice"),
    ("terms.reason", "--reason"),
    ("terms.until", "--until"),
    ("total", "AMOUNT"),
    ("value_date", "--value-date"),
    ("void_date", "--on"),
];

/// The advice, by the stable reason of the refusal. A reason whose message says it all has no line.
const ADVICE: &[(&str, &str)] = &[
    ("ACCOUNT_UNKNOWN", "is its id right? `saldo account open` opens one"),
    ("ACCOUNT_ALREADY_OPEN", "`saldo account show` shows it, and `saldo account amend` changes it"),
    ("CONTACT_POINTS_CHANGED", "`saldo account show` shows them; then amend again"),
    ("INVOICE_UNKNOWN", "`saldo account show` lists what is open, and with --history every invoice"),
    ("INVOICE_VOIDED", "`saldo invoice show` shows since when"),
    ("INVOICE_NUMBER_TAKEN", "`saldo invoice show` shows it; another invoice needs a number of its own"),
    (
        "INVOICE_HAS_ALLOCATIONS",
        "`saldo invoice show` shows them, and `saldo payment deallocate` or `saldo credit-note deallocate` takes them back",
    ),
    ("VOID_BEFORE_ISSUE", "name that day or a later one"),
    ("CREDIT_BEFORE_INVOICE", "name that day or a later one"),
    ("CREDIT_NOTE_UNKNOWN", "`saldo account show --history` lists every credit note"),
    ("CREDIT_NOTE_NUMBER_TAKEN", "`saldo credit-note show` shows it; another credit note needs a number of its own"),
    ("PAYMENT_UNKNOWN", "`saldo account show --history` lists every payment"),
    ("PAYMENT_REFERENCE_TAKEN", "`saldo payment show` shows it; another payment needs a reference of its own"),
    ("PAYMENT_ALREADY_REVERSED", "`saldo payment show` shows since when"),
    ("NOTHING_UNAPPLIED", "`saldo payment show` or `saldo credit-note show` shows where it went"),
    ("NOTHING_OPEN", "the money stays unapplied until something is"),
    ("ITEM_NOT_OPEN", "`saldo invoice show` shows what was applied to it"),
    (
        "OVER_ALLOCATION",
        "`saldo invoice show` shows what is open of an invoice, `saldo payment show` or `saldo credit-note show` what can be applied; \
         `saldo payment record --keep-excess` keeps unapplied what does not fit",
    ),
    ("REVERSAL_BEFORE_PAYMENT", "name that day or a later one"),
    ("BEFORE_CREDIT", "name that day or a later one"),
    ("ALLOCATION_UNKNOWN", "`saldo payment show` or `saldo credit-note show` shows where it went"),
    ("NOTHING_ALLOCATED", "`saldo payment show` or `saldo credit-note show` shows what is unapplied"),
    ("PAYMENT_REFUNDED", "`saldo payment show` shows what was paid out"),
    ("REFUND_EXCEEDS_CREDIT", "`saldo payment show` or `saldo credit-note show` shows what is unapplied"),
    ("REFUND_REFERENCE_TAKEN", "another refund needs a reference of its own"),
    ("DATE_IN_FUTURE", "is the year right?"),
    ("HOLD_UNKNOWN", "`saldo hold list ACCOUNT --all` lists every hold"),
    ("HOLD_RELEASED", "`saldo hold place` places another one"),
    ("HOLD_ID_TAKEN", "`saldo hold list ACCOUNT --all` shows it; another hold needs an id of its own"),
    ("NO_CONTACT_POINT", "add one: `saldo account amend`"),
    ("REQUEST_ID_REUSED", "leave --request-id out, or choose another"),
    ("ACCOUNT_PARKED", "an operator can help: its history holds what this release cannot read"),
    ("TOKEN_MISSING", "set SALDO_TOKEN or --token-file"),
    ("TOKEN_INVALID", "copy the whole token again; `saldo dev` prints one, `saldo token` makes one"),
    ("TOKEN_EXPIRED", "`saldo token` makes a new one"),
    ("ROLE_MISSING", "ask an operator for a token with it"),
];

/// A status in one line: the message, its reason, and what helps.
pub fn explained(status: &Status) -> String {
    explained_naming(status, &[])
}

/// The same for a command that names some fields in its own way.
pub fn explained_naming(status: &Status, names: Names<'_>) -> String {
    let (message, reason) =
        (faults(status, names).unwrap_or_else(|| explain(status)), StatusDetails::of(status).reason);
    match ADVICE.iter().find(|(known, _)| *known == reason) {
        Some((_, advice)) => format!("{message} ({reason}): {advice}"),
        None => message,
    }
}

/// What is wrong with the values that a person typed, each named as it was typed.
fn faults(status: &Status, names: Names<'_>) -> Option<String> {
    let violations = status.get_details_bad_request()?.field_violations;
    let faults: Vec<String> =
        violations.iter().map(|fault| format!("{}: {}", typed(&fault.field, names), fault.description)).collect();
    (!faults.is_empty()).then(|| faults.join("; "))
}

/// How a person typed a field: `allocations[1].amount_minor` is the second --to. A field that nobody types stays as it is.
fn typed(field: &str, names: Names<'_>) -> String {
    let (list, place) = match field.split_once('[') {
        Some((list, rest)) => (list, rest.split(']').next().and_then(|place| place.parse::<usize>().ok())),
        None => (field, None),
    };
    let Some((_, flag)) = names.iter().chain(FLAGS).find(|(known, _)| *known == list) else { return field.to_owned() };
    place.map_or_else(|| (*flag).to_owned(), |place| format!("{flag} no. {}", place + 1))
}

#[cfg(test)]
mod tests {
    use saldo_domain::refusal::Refusal;
    use tonic::Code;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    /// Reasons that no subject of the domain refuses with.
    const OF_THE_EDGE: [&str; 6] =
        ["REQUEST_ID_REUSED", "ACCOUNT_PARKED", "TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED", "ROLE_MISSING"];

    #[test]
    fn advice_is_about_reasons_that_there_are() {
        for (reason, _) in ADVICE {
            let known = OF_THE_EDGE.contains(reason) || Refusal::reasons().any(|(known, _)| known == *reason);
            assert!(known, "nothing is refused with {reason}");
        }
    }

    #[test]
    fn a_fault_names_the_flag_that_was_typed_and_no_field() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("terms.until", "must not be before the first day");
        details.add_bad_request_violation("allocations[1].amount_minor", "must be greater than zero");
        details.add_bad_request_violation("reference", "must be printable");
        details.add_bad_request_violation("policy.toml: step[0].tone", "must be there");
        let status = Status::with_error_details(Code::InvalidArgument, "faults", details);
        let told = "--until: must not be before the first day; --to no. 2: must be greater than zero; --refund: must be \
                    printable; policy.toml: step[0].tone: must be there";
        assert_eq!(explained_naming(&status, &[("reference", "--refund")]), told);
    }

    #[test]
    fn a_refusal_names_its_case_and_what_helps() {
        let details = ErrorDetails::with_error_info("PAYMENT_UNKNOWN", "saldo", []);
        let status = Status::with_error_details(Code::NotFound, "the account has no payment P-9", details);
        let told =
            "the account has no payment P-9 (PAYMENT_UNKNOWN): `saldo account show --history` lists every payment";
        assert_eq!(explained(&status), told);
        assert_eq!(explained(&Status::internal("broken")), "broken");
    }
}
