//! The facts of dunning. Their lines for people name the step and the figures, never whom.

use std::collections::BTreeMap;

use saldo_domain::{
    dunning::{
        Claim, ContactAccepted, ContactDeferred, ContactRejected, ContactStarted, ContactUnknown, ContactWithheld,
        DeferredReason, HandOverFailure, HandedOver, ItemStep, ListedItem, MessageStamp, Notice, RejectedReason,
        ReminderDue, StepBefore, StepsTaken, Tone, UnknownReason, UnlistedItems, WithheldReason, attempt::LAST_LOOK,
    },
    money::{Currency, format_minor},
    party::Channel,
};

use crate::{
    DecodeError,
    declare::{fact, message},
    rules, tone_from_api, tone_to_api,
    wire::{Decoded, Field, Fields, named},
};

impl Field for Claim {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        self.0.put(tag, out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        Field::get(fields, tag, name).map(Claim)
    }

    fn sample() -> Self {
        Claim(Field::sample())
    }
}

impl Field for Tone {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        (tone_to_api(*self) as u32).put(tag, out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        tone_from_api(u32::get(fields, tag, name)? as i32).ok_or_else(|| DecodeError::malformed(name, "unknown"))
    }

    fn sample() -> Self {
        Tone::Firm
    }
}

named!(WithheldReason, DeferredReason, RejectedReason, UnknownReason);

message!(Notice { 1 => step, 2 => tone, 3 => channel, 4 => template });

message!(ItemStep { 1 => invoice, 2 => instalment [rules::instalment], 3 => offset_days });

message!(StepsTaken { 1 => steps, 2 => on });

message!(StepBefore { 1 => invoice, 2 => instalment [rules::instalment], 3 => last });

message!(ListedItem {
    1 => invoice,
    2 => instalment [rules::instalment],
    3 => currency,
    4 => due_date,
    5 => open [rules::positive],
    6 => takes,
});

message!(UnlistedItems { 1 => currency, 2 => items, 3 => open, 4 => overdue });

message!(MessageStamp { 1 => id, 2 => at, 3 => day });

message!(HandedOver { 1 => message_id, 2 => sha256, 3 => message });

message!(HandOverFailure { 1 => stage, 2 => code, 3 => reply });

fact! {
    "reminder.due" [1, 2] ReminderDue {
        1 => reminder [rules::reminder],
        2 => notice,
        3 => takes,
        4 => retry_of,
        5 since 2 => note,
    }
    date: |_| None,
    summary: |ReminderDue { reminder, notice, takes, retry_of, .. }| {
        let again = retry_of.map_or_else(String::new, |former| format!(", saying reminder {former} again"));
        let (step, tone, channel) = (&notice.step, notice.tone.name(), channel(notice.channel).0);
        format!("Reminder {reminder} due: {step} ({tone}, {channel}), {}{again}", items(takes.len()))
    },
}

fact! {
    "contact.started" [1, 2] ContactStarted {
        1 => reminder [rules::reminder],
        2 => attempt,
        3 => claim,
        4 => notice,
        5 => language,
        6 => name,
        7 => address,
        8 => recipient,
        9 => at,
        10 => day,
        11 => send_before,
        12 => items,
        13 => unapplied,
        14 => unlisted,
        15 since 2 => stamp,
    }
    date: |fact| Some(fact.day),
    // The balance as it was re-checked when the attempt was started.
    summary: |started| {
        let mut open: BTreeMap<Currency, i64> = BTreeMap::new();
        for ListedItem { currency, open: minor, .. } in &started.items {
            let sum = open.entry(*currency).or_default();
            *sum = sum.saturating_add(*minor);
        }
        let unapplied = match started.unapplied.as_slice() {
            [] => String::new(),
            some => format!(", {} not applied yet", amounts(some.iter().copied())),
        };
        format!(
            "Reminder {} on its way {}, attempt {}: {} open in {}{unapplied}",
            started.reminder,
            channel(started.notice.channel).1,
            started.attempt,
            amounts(open),
            items(started.items.len()),
        )
    },
}

fact! {
    "contact.withheld" [1, 2, 2, 2] ContactWithheld {
        1 => reminder [rules::reminder],
        2 => reason,
        3 => took,
        4 since 2 => hold,
        5 since 3 => balances,
        6 since 3 => tried,
        7 since 3 => note,
        8 since 4 => for_every_creditor,
    }
    date: |fact| Some(fact.took.on),
    summary: |ContactWithheld { reminder, reason, hold, for_every_creditor, .. }| {
        let why = match reason {
            WithheldReason::Settled => "withheld: settled, nothing of it is open any more",
            WithheldReason::SendingOff if *for_every_creditor => "withheld: sending is held for every creditor",
            WithheldReason::SendingOff => "withheld: sending is switched off",
            WithheldReason::NoContactPoint => "withheld: there is no address for its channel",
            WithheldReason::Dropped => "dropped: a person decided so",
            WithheldReason::Held => "withheld: what it is about is on hold",
            WithheldReason::NothingOwed => "withheld: the debtor owes nothing, what is open is covered by credit",
        };
        let by = hold.as_ref().map_or_else(String::new, |hold| format!(", by hold {hold}"));
        format!("Reminder {reminder} {why}{by}")
    },
}

fact! {
    "contact.deferred" [1, 2] ContactDeferred {
        1 => reminder [rules::reminder],
        2 => attempt,
        3 => reason,
        4 => until,
        5 => failure,
        6 since 2 => route,
    }
    date: |_| None,
    summary: |ContactDeferred { reminder, attempt, reason, until, failure, route }| {
        let why = match reason {
            DeferredReason::HandOverFailed if *route => {
                format!("the route failed at attempt {attempt}{}", failure.as_ref().map_or_else(String::new, stage))
            }
            DeferredReason::HandOverFailed if failure.as_ref().is_some_and(|failure| failure.stage == LAST_LOOK) => {
                format!("the message of attempt {attempt} was too late to leave")
            }
            DeferredReason::OutsideHours => "not at this hour".to_owned(),
            DeferredReason::Budget => "contacted often enough for now".to_owned(),
            DeferredReason::HandOverFailed => {
                format!("attempt {attempt} failed{}", failure.as_ref().map_or_else(String::new, stage))
            }
        };
        format!("Reminder {reminder} waits until {until}: {why}")
    },
}

fact! {
    "contact.accepted" [1] ContactAccepted {
        1 => reminder [rules::reminder],
        2 => attempt,
        3 => handed,
        4 => reply,
        5 => took,
    }
    date: |_| None,
    summary: |fact| format!("Reminder {} sent: attempt {} accepted by the provider", fact.reminder, fact.attempt),
}

fact! {
    "contact.rejected" [1, 2, 2] ContactRejected {
        1 => reminder [rules::reminder],
        2 => attempt,
        3 => reason,
        4 => failure,
        5 => handed,
        6 => took,
        7 since 2 => tried,
        8 since 3 => steps_before,
    }
    date: |_| None,
    summary: |ContactRejected { reminder, attempt, reason, failure, .. }| {
        let why = match reason {
            RejectedReason::Refused => "not sent: the provider refused attempt",
            RejectedReason::AddressRefused => "not sent: the provider refused the address, attempt",
            RejectedReason::RetriesExhausted => "given up: the last retry failed, attempt",
        };
        format!("Reminder {reminder} {why} {attempt}{}", stage(failure))
    },
}

fact! {
    "contact.unknown" [1] ContactUnknown {
        1 => reminder [rules::reminder],
        2 => attempt,
        3 => reason,
        4 => handed,
        5 => took,
    }
    date: |_| None,
    summary: |ContactUnknown { reminder, attempt, reason, .. }| {
        let why = match reason {
            UnknownReason::NoAnswer => "the provider did not answer",
            UnknownReason::NoOutcome => "its sender recorded no outcome in time",
        };
        format!("Reminder {reminder} may or may not have been sent, attempt {attempt}: {why}")
    },
}

/// A channel, and "by" the channel.
fn channel(channel: Channel) -> (&'static str, &'static str) {
    match channel {
        Channel::Email => ("e-mail", "by e-mail"),
        Channel::Sms => ("SMS", "by SMS"),
        Channel::Whatsapp => ("WhatsApp", "by WhatsApp"),
        Channel::Phone => ("telephone", "by telephone"),
        Channel::Post => ("post", "by post"),
    }
}

fn items(number: usize) -> String {
    if number == 1 { "1 item".to_owned() } else { format!("{number} items") }
}

fn amounts(sums: impl IntoIterator<Item = (Currency, i64)>) -> String {
    let texts =
        sums.into_iter().map(|(currency, minor)| format!("{} {currency}", grouped(&format_minor(minor, currency))));
    texts.collect::<Vec<_>>().join(" and ")
}

/// `1234.50` as `1,234.50`.
fn grouped(amount: &str) -> String {
    let (major, fraction) = amount.split_at(amount.find('.').unwrap_or(amount.len()));
    let mut text = String::with_capacity(amount.len() + major.len() / 3);
    for (at, digit) in major.char_indices() {
        if at > 0 && (major.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

fn stage(failure: &HandOverFailure) -> String {
    match failure.code {
        0 => format!(" ({})", failure.stage),
        code => format!(" ({} {code})", failure.stage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let grouped: Vec<String> = ["0.05", "999", "1234.50", "1234567.890"].map(grouped).into();
        assert_eq!(grouped, ["0.05", "999", "1,234.50", "1,234,567.890"]);
    }
}
