//! Why a reminder waits, was not sent, or is unknown: the codes of the services in words.

use saldo_domain::dunning::attempt::{DeferredReason, RejectedReason, UnknownReason, WithheldReason};

/// A code such as `retries_exhausted: rcpt 451` in words. A code of a newer service stays as it is.
pub fn words(code: &str) -> String {
    let (name, detail) = code.split_once(": ").map_or((code, None), |(name, detail)| (name, Some(detail)));
    let withheld = WithheldReason::parse(name).map(|reason| match reason {
        WithheldReason::Settled => "settled meanwhile",
        WithheldReason::SendingOff => "sending is off",
        WithheldReason::NoContactPoint => "no address",
        WithheldReason::Dropped => "dropped by a person",
        WithheldReason::Held => "on hold",
        WithheldReason::NothingOwed => "credit covers what is open",
    });
    let deferred = || {
        DeferredReason::parse(name).map(|reason| match reason {
            DeferredReason::OutsideHours => "not at this hour",
            DeferredReason::Budget => "contacted often enough for now",
            DeferredReason::HandOverFailed => "not handed over",
        })
    };
    let rejected = || {
        RejectedReason::parse(name).map(|reason| match reason {
            RejectedReason::Refused => "refused by the provider",
            RejectedReason::RetriesExhausted => "retries used up",
            RejectedReason::AddressRefused => "address refused",
        })
    };
    let unknown = || {
        UnknownReason::parse(name).map(|reason| match reason {
            UnknownReason::NoAnswer => "the provider did not answer",
            UnknownReason::NoOutcome => "no outcome was recorded",
        })
    };
    // The read models tell these two apart from other deferrals.
    let route = || match name {
        "route_failed" => Some("the way out failed"),
        "too_late" => Some("too late to leave"),
        _ => None,
    };
    let Some(words) = withheld.or_else(deferred).or_else(rejected).or_else(unknown).or_else(route) else {
        return code.to_owned();
    };
    detail.map_or_else(|| words.to_owned(), |detail| format!("{words} ({detail})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_as_words_with_its_detail() {
        for (code, told) in [
            ("held: H-1", "on hold (H-1)"),
            ("retries_exhausted: rcpt 451", "retries used up (rcpt 451)"),
            ("outside_hours", "not at this hour"),
            ("no_outcome", "no outcome was recorded"),
            ("route_failed: connect", "the way out failed (connect)"),
            ("of_a_newer_release: x", "of_a_newer_release: x"),
            ("", ""),
        ] {
            assert_eq!(words(code), told);
        }
    }
}
