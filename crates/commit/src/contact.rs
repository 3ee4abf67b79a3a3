//! Events of reminders and contacts: domain facts to bytes and back.

use prost::Message;
use saldo_api::v1;
use saldo_domain::{
    contact::{Claim, Failed, Handed, ItemStep, ListedItem, Saying, Started, Took, Unlisted},
    event::Event,
    policy::Tone,
};

use crate::{
    DecodeError, channel_from_api, channel_to_api, date_to_api,
    event::{amount, currency, date, instalment_number, need, number, read, sealed_from_api, sealed_to_api},
    payload::{timestamp_from_api, timestamp_to_api},
};

type Decoded<T> = Result<T, DecodeError>;

/// The body of an event of a contact; empty for any other.
pub fn encode(event: &Event) -> Vec<u8> {
    match event {
        Event::ReminderDue { reminder, saying, takes, retry_of } => v1::ReminderDue {
            reminder: *reminder,
            saying: Some(saying_to_api(saying)),
            takes: takes.iter().map(step_to_api).collect(),
            retry_of: retry_of.unwrap_or_default(),
        }
        .encode_to_vec(),
        Event::ContactStarted(started) => v1::ContactStarted {
            reminder: started.reminder,
            attempt: started.attempt,
            claim: started.claim.0.to_vec(),
            saying: Some(saying_to_api(&started.saying)),
            language: started.language.clone(),
            name: Some(sealed_to_api(&started.name)),
            address: Some(sealed_to_api(&started.address)),
            recipient: started.recipient.to_vec(),
            at: Some(timestamp_to_api(started.at)),
            day: Some(date_to_api(started.day)),
            send_before: Some(timestamp_to_api(started.send_before)),
            items: started.items.iter().map(listed_to_api).collect(),
            unapplied: (started.unapplied.iter())
                .map(|(currency, minor)| v1::Money { minor_units: *minor, currency: currency.to_string() })
                .collect(),
            unlisted: started.unlisted.iter().map(unlisted_to_api).collect(),
        }
        .encode_to_vec(),
        Event::ContactWithheld { reminder, reason, took } => {
            v1::ContactWithheld { reminder: *reminder, reason: reason.name().to_owned(), took: Some(took_to_api(took)) }
                .encode_to_vec()
        }
        Event::ContactDeferred { reminder, attempt, reason, until, failed } => v1::ContactDeferred {
            reminder: *reminder,
            attempt: *attempt,
            reason: reason.name().to_owned(),
            until: Some(timestamp_to_api(*until)),
            failure: failed.as_ref().map(failed_to_api),
        }
        .encode_to_vec(),
        Event::ContactAccepted { reminder, attempt, handed, reply, took } => v1::ContactAccepted {
            reminder: *reminder,
            attempt: *attempt,
            handed: Some(handed_to_api(handed)),
            reply: reply.as_ref().map(sealed_to_api),
            took: Some(took_to_api(took)),
        }
        .encode_to_vec(),
        Event::ContactRejected { reminder, attempt, reason, failed, handed, took } => v1::ContactRejected {
            reminder: *reminder,
            attempt: *attempt,
            reason: reason.name().to_owned(),
            failure: Some(failed_to_api(failed)),
            handed: handed.as_ref().map(handed_to_api),
            took: Some(took_to_api(took)),
        }
        .encode_to_vec(),
        Event::ContactUnknown { reminder, attempt, reason, handed, took } => v1::ContactUnknown {
            reminder: *reminder,
            attempt: *attempt,
            reason: reason.name().to_owned(),
            handed: handed.as_ref().map(handed_to_api),
            took: Some(took_to_api(took)),
        }
        .encode_to_vec(),
        _ => Vec::new(),
    }
}

/// Reads a stored event of a contact; `None` where its type is another.
pub fn decode(stored: &v1::Event) -> Decoded<Option<Event>> {
    let body = stored.body.as_slice();
    Ok(Some(match stored.r#type.as_str() {
        "reminder.due" => {
            let m: v1::ReminderDue = read(stored, body)?;
            Event::ReminderDue {
                reminder: reminder(m.reminder)?,
                saying: saying(m.saying)?,
                takes: m.takes.into_iter().map(step).collect::<Decoded<_>>()?,
                retry_of: (m.retry_of != 0).then_some(m.retry_of),
            }
        }
        "contact.started" => {
            let m: v1::ContactStarted = read(stored, body)?;
            Event::ContactStarted(Box::new(Started {
                reminder: reminder(m.reminder)?,
                attempt: m.attempt,
                claim: Claim(m.claim.try_into().map_err(|_| DecodeError::malformed("claim", "not 16 bytes"))?),
                saying: saying(m.saying)?,
                language: text("language", m.language)?,
                name: need("name", sealed_from_api(m.name))?,
                address: need("address", sealed_from_api(m.address))?,
                recipient: (m.recipient.try_into()).map_err(|_| DecodeError::malformed("recipient", "not 32 bytes"))?,
                at: timestamp_from_api(need("at", m.at)?)?,
                day: date("day", m.day)?,
                send_before: timestamp_from_api(need("send_before", m.send_before)?)?,
                items: m.items.into_iter().map(listed).collect::<Decoded<_>>()?,
                unapplied: (m.unapplied.into_iter())
                    .map(|money| Ok((currency(&money.currency)?, money.minor_units)))
                    .collect::<Decoded<_>>()?,
                unlisted: m.unlisted.into_iter().map(unlisted).collect::<Decoded<_>>()?,
            }))
        }
        "contact.withheld" => {
            let m: v1::ContactWithheld = read(stored, body)?;
            Event::ContactWithheld {
                reminder: reminder(m.reminder)?,
                reason: named(&m.reason, saldo_domain::contact::Withheld::parse)?,
                took: took(m.took)?,
            }
        }
        "contact.deferred" => {
            let m: v1::ContactDeferred = read(stored, body)?;
            Event::ContactDeferred {
                reminder: reminder(m.reminder)?,
                attempt: m.attempt,
                reason: named(&m.reason, saldo_domain::contact::Deferred::parse)?,
                until: timestamp_from_api(need("until", m.until)?)?,
                failed: m.failure.map(failed).transpose()?,
            }
        }
        "contact.accepted" => {
            let m: v1::ContactAccepted = read(stored, body)?;
            Event::ContactAccepted {
                reminder: reminder(m.reminder)?,
                attempt: m.attempt,
                handed: handed(need("handed", m.handed)?)?,
                reply: sealed_from_api(m.reply),
                took: took(m.took)?,
            }
        }
        "contact.rejected" => {
            let m: v1::ContactRejected = read(stored, body)?;
            Event::ContactRejected {
                reminder: reminder(m.reminder)?,
                attempt: m.attempt,
                reason: named(&m.reason, saldo_domain::contact::Rejected::parse)?,
                failed: failed(need("failure", m.failure)?)?,
                handed: m.handed.map(handed).transpose()?,
                took: took(m.took)?,
            }
        }
        "contact.unknown" => {
            let m: v1::ContactUnknown = read(stored, body)?;
            Event::ContactUnknown {
                reminder: reminder(m.reminder)?,
                attempt: m.attempt,
                reason: named(&m.reason, saldo_domain::contact::Unknown::parse)?,
                handed: m.handed.map(handed).transpose()?,
                took: took(m.took)?,
            }
        }
        _ => return Ok(None),
    }))
}

/// A tone, to the wire.
pub fn tone_to_api(tone: Tone) -> v1::Tone {
    match tone {
        Tone::Friendly => v1::Tone::Friendly,
        Tone::Firm => v1::Tone::Firm,
        Tone::Formal => v1::Tone::Formal,
    }
}

/// A tone, from the wire; `None` where it is unspecified or unknown.
pub fn tone_from_api(tone: i32) -> Option<Tone> {
    match v1::Tone::try_from(tone).ok()? {
        v1::Tone::Friendly => Some(Tone::Friendly),
        v1::Tone::Firm => Some(Tone::Firm),
        v1::Tone::Formal => Some(Tone::Formal),
        v1::Tone::Unspecified => None,
    }
}

/// How a contact speaks, to the wire.
pub fn saying_to_api(saying: &Saying) -> v1::Saying {
    v1::Saying {
        step: saying.step.clone(),
        tone: tone_to_api(saying.tone).into(),
        channel: channel_to_api(saying.channel).into(),
        template: saying.template.clone(),
    }
}

/// How a contact speaks, from the wire.
pub fn saying_from_api(saying: v1::Saying) -> Result<Saying, DecodeError> {
    self::saying(Some(saying))
}

/// An item as a message lists it, to the wire.
pub fn listed_to_api(item: &ListedItem) -> v1::ListedItem {
    v1::ListedItem {
        invoice_number: item.invoice.to_string(),
        instalment: item.instalment,
        currency: item.currency.to_string(),
        due_date: Some(date_to_api(item.due_date)),
        open_minor: item.open,
        takes_offset_days: item.takes,
    }
}

/// An item as a message lists it, from the wire.
pub fn listed_from_api(item: v1::ListedItem) -> Result<ListedItem, DecodeError> {
    listed(item)
}

/// Sums of what is not listed, to the wire.
pub fn unlisted_to_api(unlisted: &Unlisted) -> v1::UnlistedItems {
    v1::UnlistedItems {
        currency: unlisted.currency.to_string(),
        items: unlisted.items,
        open_minor: unlisted.open,
        overdue_minor: unlisted.overdue,
    }
}

fn unlisted(stored: v1::UnlistedItems) -> Decoded<Unlisted> {
    Ok(Unlisted {
        currency: currency(&stored.currency)?,
        items: stored.items,
        open: stored.open_minor,
        overdue: stored.overdue_minor,
    })
}

fn saying(stored: Option<v1::Saying>) -> Decoded<Saying> {
    let m = need("saying", stored)?;
    Ok(Saying {
        step: text("step", m.step)?,
        tone: need("tone", tone_from_api(m.tone))?,
        channel: need("channel", channel_from_api(m.channel))?,
        template: text("template", m.template)?,
    })
}

fn step_to_api(step: &ItemStep) -> v1::ItemStep {
    v1::ItemStep {
        invoice_number: step.invoice.to_string(),
        instalment: step.instalment,
        offset_days: step.offset_days,
    }
}

fn took_to_api(took: &Took) -> v1::StepsTaken {
    v1::StepsTaken { steps: took.steps.iter().map(step_to_api).collect(), on: Some(date_to_api(took.on)) }
}

fn took(stored: Option<v1::StepsTaken>) -> Decoded<Took> {
    let m = need("took", stored)?;
    Ok(Took { steps: m.steps.into_iter().map(step).collect::<Decoded<_>>()?, on: date("took.on", m.on)? })
}

fn step(stored: v1::ItemStep) -> Decoded<ItemStep> {
    Ok(ItemStep {
        invoice: number(&stored.invoice_number)?,
        instalment: instalment_number(stored.instalment)?,
        offset_days: stored.offset_days,
    })
}

fn listed(stored: v1::ListedItem) -> Decoded<ListedItem> {
    Ok(ListedItem {
        invoice: number(&stored.invoice_number)?,
        instalment: instalment_number(stored.instalment)?,
        currency: currency(&stored.currency)?,
        due_date: date("due_date", stored.due_date)?,
        open: amount(stored.open_minor)?,
        takes: stored.takes_offset_days,
    })
}

fn failed_to_api(failed: &Failed) -> v1::HandOverFailure {
    v1::HandOverFailure {
        stage: failed.stage.clone(),
        code: failed.code,
        reply: failed.reply.as_ref().map(sealed_to_api),
    }
}

fn failed(stored: v1::HandOverFailure) -> Decoded<Failed> {
    Ok(Failed { stage: text("stage", stored.stage)?, code: stored.code, reply: sealed_from_api(stored.reply) })
}

fn handed_to_api(handed: &Handed) -> v1::HandedOver {
    v1::HandedOver {
        message_id: handed.message_id.clone(),
        sha256: handed.sha256.to_vec(),
        message: Some(sealed_to_api(&handed.message)),
    }
}

fn handed(stored: v1::HandedOver) -> Decoded<Handed> {
    Ok(Handed {
        message_id: text("message_id", stored.message_id)?,
        sha256: stored.sha256.try_into().map_err(|_| DecodeError::malformed("sha256", "not 32 bytes"))?,
        message: need("message", sealed_from_api(stored.message))?,
    })
}

fn reminder(number: u64) -> Decoded<u64> {
    if (1..=i64::MAX as u64).contains(&number) { Ok(number) } else { Err(DecodeError::malformed("reminder", number)) }
}

/// Text that databases keep.
fn text(field: &str, text: String) -> Decoded<String> {
    if text.contains('\0') {
        Err(DecodeError::malformed(field, "holds NUL, which no database keeps"))
    } else {
        Ok(text)
    }
}

fn named<T>(name: &str, parse: impl Fn(&str) -> Option<T>) -> Decoded<T> {
    parse(name).ok_or_else(|| DecodeError::malformed("reason", "unknown"))
}
