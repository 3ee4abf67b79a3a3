//! Reminders and contacts in one line, free of personal data: the step and the figures, never whom.

use std::collections::BTreeMap;

use saldo_domain::{
    contact::{Deferred, Failed, ListedItem, Rejected, Saying, Started, Unknown, Withheld},
    event::Event,
    money::{Currency, format_minor},
    profile::Channel,
};

use crate::models::reminders::tone;

/// What happened, for people; empty for an event of another kind.
pub fn summarise(event: &Event) -> String {
    match event {
        Event::ReminderDue { reminder, saying, takes, retry_of } => {
            let again = retry_of.map_or_else(String::new, |former| format!(", saying reminder {former} again"));
            format!("Reminder {reminder} due: {}, {}{again}", speaks(saying), items(takes.len()))
        }
        Event::ContactStarted(started) => on_its_way(started),
        Event::ContactWithheld { reminder, reason, .. } => {
            let why = match reason {
                Withheld::Settled => "withheld: settled, nothing of it is open any more",
                Withheld::SendingOff => "withheld: sending is switched off",
                Withheld::NoContactPoint => "withheld: there is no address for its channel",
                Withheld::Dropped => "dropped: a person decided so",
            };
            format!("Reminder {reminder} {why}")
        }
        Event::ContactDeferred { reminder, attempt, reason, until, failed } => {
            let why = match reason {
                Deferred::OutsideHours => "not at this hour".to_owned(),
                Deferred::Budget => "contacted often enough for now".to_owned(),
                Deferred::HandOverFailed => {
                    format!("attempt {attempt} failed{}", failed.as_ref().map_or_else(String::new, stage))
                }
            };
            format!("Reminder {reminder} waits until {until}: {why}")
        }
        Event::ContactAccepted { reminder, attempt, .. } => {
            format!("Reminder {reminder} sent: attempt {attempt} accepted by the provider")
        }
        Event::ContactRejected { reminder, attempt, reason, failed, .. } => {
            let why = match reason {
                Rejected::Refused => "not sent: the provider refused attempt",
                Rejected::RetriesExhausted => "given up: the last retry failed, attempt",
            };
            format!("Reminder {reminder} {why} {attempt}{}", stage(failed))
        }
        Event::ContactUnknown { reminder, attempt, reason, .. } => {
            let why = match reason {
                Unknown::NoAnswer => "the provider did not answer",
                Unknown::NoOutcome => "its sender recorded no outcome in time",
            };
            format!("Reminder {reminder} may or may not have been sent, attempt {attempt}: {why}")
        }
        _ => String::new(),
    }
}

/// The balance as it was re-checked when the attempt was started.
fn on_its_way(started: &Started) -> String {
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
        channel(started.saying.channel).1,
        started.attempt,
        amounts(open),
        items(started.items.len()),
    )
}

fn speaks(saying: &Saying) -> String {
    format!("{} ({}, {})", saying.step, tone(saying.tone), channel(saying.channel).0)
}

/// A channel, and "by" it.
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

fn stage(failed: &Failed) -> String {
    match failed.code {
        0 => format!(" ({})", failed.stage),
        code => format!(" ({} {code})", failed.stage),
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
