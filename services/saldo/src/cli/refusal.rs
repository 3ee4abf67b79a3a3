//! A refusal in the words of the command line: what is wrong, and the command that helps.

use tonic::Status;

use crate::client::{StatusDetails, explain};

/// What helps, by the stable reason of the refusal. A reason whose message says it all has no line.
const ADVICE: [(&str, &str); 31] = [
    ("ACCOUNT_UNKNOWN", "is its id right? `saldo account open` opens one"),
    ("ACCOUNT_ALREADY_OPEN", "`saldo account show` shows it, and `saldo account amend` changes it"),
    ("CONTACT_POINTS_CHANGED", "`saldo account show` shows them; then amend again"),
    ("INVOICE_UNKNOWN", "`saldo account show` lists what is open, and with --history every invoice"),
    ("INVOICE_VOIDED", "`saldo invoice show` shows since when"),
    ("INVOICE_NUMBER_TAKEN", "`saldo invoice show` shows it"),
    ("PAYMENT_UNKNOWN", "`saldo account show --history` lists every payment"),
    ("PAYMENT_REFERENCE_TAKEN", "`saldo payment show` shows it; another payment needs a reference of its own"),
    ("PAYMENT_ALREADY_REVERSED", "`saldo payment show` shows since when"),
    ("NOTHING_UNAPPLIED", "`saldo payment show` shows where its money went"),
    ("NOTHING_OPEN", "the money stays unapplied until something is"),
    ("ITEM_NOT_OPEN", "`saldo invoice show` shows what was applied to it"),
    (
        "OVER_ALLOCATION",
        "`saldo invoice show` shows what is open; `saldo payment record --keep-excess` keeps the rest unapplied",
    ),
    ("REVERSAL_BEFORE_PAYMENT", "name that day or a later one"),
    ("BEFORE_CREDIT", "name that day or a later one"),
    ("ALLOCATION_UNKNOWN", "`saldo payment show` shows where its money went"),
    ("NOTHING_ALLOCATED", "`saldo payment show` shows what is unapplied"),
    ("PAYMENT_REFUNDED", "`saldo payment show` shows what was paid out"),
    ("REFUND_EXCEEDS_CREDIT", "`saldo payment show` shows what is unapplied"),
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
    let (message, reason) = (explain(status), StatusDetails::of(status).reason);
    match ADVICE.iter().find(|(known, _)| *known == reason) {
        Some((_, advice)) => format!("{message} ({reason}): {advice}"),
        None => message,
    }
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
            let known = OF_THE_EDGE.contains(&reason) || Refusal::reasons().any(|(known, _)| known == reason);
            assert!(known, "nothing is refused with {reason}");
        }
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
