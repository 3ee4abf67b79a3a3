//! Events: domain facts to versioned bytes and back. Every first version is 1.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use prost::Message;
use saldo_api::v1;
use saldo_domain::{
    contact::Rung,
    event::{AllocatedBy, AllocationLine, Event, Instalment},
    ids::DocumentNumber,
    money::{Currency, Money, check_amount},
    profile::{Channel, ContactPoint, DebtorKind, Profile, ProfileChange, Sealed},
};

use crate::{DecodeError, contact};

type Decoded<T> = Result<T, DecodeError>;

/// The stored name of an event's type.
pub fn event_type(event: &Event) -> &'static str {
    match event {
        Event::AccountOpened(_) => "account.opened",
        Event::AccountAmended(_) => "account.amended",
        Event::InvoiceIssued { .. } => "invoice.issued",
        Event::InvoiceCredited { .. } => "invoice.credited",
        Event::InvoiceVoided { .. } => "invoice.voided",
        Event::PaymentRecorded { .. } => "payment.recorded",
        Event::PaymentAllocated { .. } => "payment.allocated",
        Event::PaymentReversed { .. } => "payment.reversed",
        Event::ReminderDue { .. } => "reminder.due",
        Event::ContactStarted(_) => "contact.started",
        Event::ContactWithheld { .. } => "contact.withheld",
        Event::ContactDeferred { .. } => "contact.deferred",
        Event::ContactAccepted { .. } => "contact.accepted",
        Event::ContactRejected { .. } => "contact.rejected",
        Event::ContactUnknown { .. } => "contact.unknown",
    }
}

/// An event as stored.
pub fn encode_event(event: &Event) -> v1::Event {
    let body = match event {
        Event::AccountOpened(profile) => v1::AccountOpened {
            display_name: Some(sealed_to_api(&profile.display_name)),
            kind: kind_to_api(profile.kind).into(),
            language: profile.language.clone(),
            time_zone: profile.time_zone.clone(),
            country: profile.country.clone(),
            contact_points: profile.contact_points.iter().map(contact_to_api).collect(),
        }
        .encode_to_vec(),
        Event::AccountAmended(change) => v1::AccountAmended {
            display_name: change.display_name.as_ref().map(sealed_to_api),
            kind: change.kind.map_or(v1::DebtorKind::Unspecified, kind_to_api).into(),
            language: change.language.clone(),
            time_zone: change.time_zone.clone(),
            country: change.country.clone(),
            contact_points: change.contact_points.iter().flatten().map(contact_to_api).collect(),
            replace_contact_points: change.contact_points.is_some(),
        }
        .encode_to_vec(),
        Event::InvoiceIssued { number, total, issue_date, instalments, description } => v1::InvoiceIssued {
            number: number.to_string(),
            currency: total.currency.to_string(),
            total_minor: total.minor,
            issue_date: Some(date_to_api(*issue_date)),
            instalments: instalments.iter().map(instalment_to_api).collect(),
            description: description.as_ref().map(sealed_to_api),
        }
        .encode_to_vec(),
        Event::InvoiceCredited { credit_note, invoice, amount, credit_date, lines, reason } => v1::InvoiceCredited {
            credit_note_number: credit_note.to_string(),
            invoice_number: invoice.to_string(),
            currency: amount.currency.to_string(),
            amount_minor: amount.minor,
            credit_date: Some(date_to_api(*credit_date)),
            lines: lines.iter().map(line_to_api).collect(),
            reason: reason.as_ref().map(sealed_to_api),
        }
        .encode_to_vec(),
        Event::InvoiceVoided { number, currency, void_date, instalments, reason } => v1::InvoiceVoided {
            number: number.to_string(),
            currency: currency.to_string(),
            void_date: Some(date_to_api(*void_date)),
            instalments: instalments.iter().map(instalment_to_api).collect(),
            reason: reason.as_ref().map(sealed_to_api),
        }
        .encode_to_vec(),
        Event::PaymentRecorded { reference, amount, value_date, remittance } => v1::PaymentRecorded {
            reference: reference.to_string(),
            currency: amount.currency.to_string(),
            amount_minor: amount.minor,
            value_date: Some(date_to_api(*value_date)),
            remittance: remittance.as_ref().map(sealed_to_api),
        }
        .encode_to_vec(),
        Event::PaymentAllocated { reference, currency, allocated_by, lines } => v1::PaymentAllocated {
            reference: reference.to_string(),
            currency: currency.to_string(),
            allocated_by: match allocated_by {
                AllocatedBy::Designation => v1::AllocatedBy::Designation,
                AllocatedBy::OldestDueFirst => v1::AllocatedBy::OldestDueFirst,
            }
            .into(),
            lines: lines.iter().map(line_to_api).collect(),
        }
        .encode_to_vec(),
        Event::PaymentReversed { reference, amount, reversal_date, lines, unapplied, reason } => v1::PaymentReversed {
            reference: reference.to_string(),
            currency: amount.currency.to_string(),
            amount_minor: amount.minor,
            reversal_date: Some(date_to_api(*reversal_date)),
            lines: lines.iter().map(line_to_api).collect(),
            unapplied_minor: *unapplied,
            reason: reason.as_ref().map(sealed_to_api),
        }
        .encode_to_vec(),
        Event::ReminderDue { .. }
        | Event::ContactStarted(_)
        | Event::ContactWithheld { .. }
        | Event::ContactDeferred { .. }
        | Event::ContactAccepted { .. }
        | Event::ContactRejected { .. }
        | Event::ContactUnknown { .. } => contact::encode(event),
    };
    v1::Event { r#type: event_type(event).to_owned(), version: 1, body }
}

/// Reads a stored event.
pub fn decode_event(stored: &v1::Event) -> Decoded<Event> {
    if stored.version != 1 {
        return Err(unknown(stored));
    }
    let body = stored.body.as_slice();
    Ok(match stored.r#type.as_str() {
        "account.opened" => {
            let m: v1::AccountOpened = read(stored, body)?;
            Event::AccountOpened(Profile {
                display_name: need("display_name", sealed_from_api(m.display_name))?,
                kind: need("kind", kind_from_api(m.kind))?,
                language: m.language,
                time_zone: m.time_zone,
                country: m.country,
                contact_points: contacts_from_api(m.contact_points)?,
            })
        }
        "account.amended" => {
            let m: v1::AccountAmended = read(stored, body)?;
            let contact_points = contacts_from_api(m.contact_points)?;
            Event::AccountAmended(ProfileChange {
                display_name: sealed_from_api(m.display_name),
                kind: kind_from_api(m.kind),
                language: m.language,
                time_zone: m.time_zone,
                country: m.country,
                contact_points: m.replace_contact_points.then_some(contact_points),
            })
        }
        "invoice.issued" => {
            let m: v1::InvoiceIssued = read(stored, body)?;
            Event::InvoiceIssued {
                number: number(&m.number)?,
                total: money(m.total_minor, &m.currency)?,
                issue_date: date("issue_date", m.issue_date)?,
                instalments: instalments(m.instalments)?,
                description: sealed_from_api(m.description),
            }
        }
        "invoice.credited" => {
            let m: v1::InvoiceCredited = read(stored, body)?;
            Event::InvoiceCredited {
                credit_note: number(&m.credit_note_number)?,
                invoice: number(&m.invoice_number)?,
                amount: money(m.amount_minor, &m.currency)?,
                credit_date: date("credit_date", m.credit_date)?,
                lines: lines(m.lines)?,
                reason: sealed_from_api(m.reason),
            }
        }
        "invoice.voided" => {
            let m: v1::InvoiceVoided = read(stored, body)?;
            Event::InvoiceVoided {
                number: number(&m.number)?,
                currency: currency(&m.currency)?,
                void_date: date("void_date", m.void_date)?,
                instalments: instalments(m.instalments)?,
                reason: sealed_from_api(m.reason),
            }
        }
        "payment.recorded" => {
            let m: v1::PaymentRecorded = read(stored, body)?;
            Event::PaymentRecorded {
                reference: number(&m.reference)?,
                amount: money(m.amount_minor, &m.currency)?,
                value_date: date("value_date", m.value_date)?,
                remittance: sealed_from_api(m.remittance),
            }
        }
        "payment.allocated" => {
            let m: v1::PaymentAllocated = read(stored, body)?;
            Event::PaymentAllocated {
                reference: number(&m.reference)?,
                currency: currency(&m.currency)?,
                allocated_by: match v1::AllocatedBy::try_from(m.allocated_by) {
                    Ok(v1::AllocatedBy::Designation) => AllocatedBy::Designation,
                    Ok(v1::AllocatedBy::OldestDueFirst) => AllocatedBy::OldestDueFirst,
                    _ => return Err(DecodeError::malformed("allocated_by", "unknown")),
                },
                lines: lines(m.lines)?,
            }
        }
        "payment.reversed" => {
            let m: v1::PaymentReversed = read(stored, body)?;
            Event::PaymentReversed {
                reference: number(&m.reference)?,
                amount: money(m.amount_minor, &m.currency)?,
                reversal_date: date("reversal_date", m.reversal_date)?,
                lines: lines(m.lines)?,
                unapplied: unapplied(m.unapplied_minor)?,
                reason: sealed_from_api(m.reason),
            }
        }
        _ => contact::decode(stored)?.ok_or_else(|| unknown(stored))?,
    })
}

fn unknown(stored: &v1::Event) -> DecodeError {
    DecodeError::UnknownVersion { kind: stored.r#type.clone(), version: stored.version }
}

pub(crate) fn read<M: Message + Default>(stored: &v1::Event, body: &[u8]) -> Decoded<M> {
    M::decode(body).map_err(|error| DecodeError::malformed(&stored.r#type, error))
}

pub(crate) fn need<T>(field: &str, value: Option<T>) -> Decoded<T> {
    value.ok_or_else(|| DecodeError::malformed(field, "absent"))
}

/// A day, to the wire.
pub fn date_to_api(date: Date) -> v1::Date {
    v1::Date { year: date.year().into(), month: date.month().into(), day: date.day().into() }
}

/// A day, from the wire; `None` where the calendar has no such day.
pub fn date_from_api(date: v1::Date) -> Option<Date> {
    Date::new(date.year.try_into().ok()?, date.month.try_into().ok()?, date.day.try_into().ok()?).ok()
}

/// A day that somebody may name in a request: outside these years it is a slip of the pen, arithmetic on dates stays far
/// from its limits, and Postgres knows it too.
pub fn day_from_request(date: v1::Date) -> Option<Date> {
    date_from_api(date).filter(|day| REQUEST_YEARS.contains(&day.year()))
}

/// An instant that somebody may name in a request: of the same years, for the same reasons.
pub fn instant_from_request(at: prost_types::Timestamp) -> Option<Timestamp> {
    let at = Timestamp::new(at.seconds, at.nanos).ok()?;
    REQUEST_YEARS.contains(&at.to_zoned(TimeZone::UTC).year()).then_some(at)
}

/// What [`instant_from_request`] wants, for whoever gave something else.
pub const REQUEST_INSTANT_RULE: &str = "must be an instant of the years 1900 to 2199";

/// The years that [`day_from_request`] and [`instant_from_request`] take.
const REQUEST_YEARS: std::ops::RangeInclusive<i16> = 1900..=2199;

/// What [`day_from_request`] wants, for whoever gave something else.
pub const REQUEST_DAY_RULE: &str = "must be a day of the calendar between 1900-01-01 and 2199-12-31";

/// An allocation line, to the wire.
pub fn line_to_api(line: &AllocationLine) -> v1::AllocationLine {
    v1::AllocationLine {
        invoice_number: line.invoice.to_string(),
        instalment: line.instalment,
        due_date: Some(date_to_api(line.due_date)),
        amount_minor: line.amount,
        effective_date: Some(date_to_api(line.effective_date)),
        issue_date: Some(date_to_api(line.issue_date)),
        rung: line.rung.map(|rung| v1::Rung { offset_days: rung.offset_days, on: Some(date_to_api(rung.on)) }),
    }
}

/// A channel, to the wire.
pub fn channel_to_api(channel: Channel) -> v1::Channel {
    match channel {
        Channel::Email => v1::Channel::Email,
        Channel::Sms => v1::Channel::Sms,
        Channel::Whatsapp => v1::Channel::Whatsapp,
        Channel::Phone => v1::Channel::Phone,
        Channel::Post => v1::Channel::Post,
    }
}

/// A channel, from the wire; `None` where it is unspecified or unknown.
pub fn channel_from_api(channel: i32) -> Option<Channel> {
    Some(match v1::Channel::try_from(channel).ok()? {
        v1::Channel::Email => Channel::Email,
        v1::Channel::Sms => Channel::Sms,
        v1::Channel::Whatsapp => Channel::Whatsapp,
        v1::Channel::Phone => Channel::Phone,
        v1::Channel::Post => Channel::Post,
        v1::Channel::Unspecified => return None,
    })
}

fn kind_to_api(kind: DebtorKind) -> v1::DebtorKind {
    match kind {
        DebtorKind::Consumer => v1::DebtorKind::Consumer,
        DebtorKind::Business => v1::DebtorKind::Business,
    }
}

fn kind_from_api(kind: i32) -> Option<DebtorKind> {
    match v1::DebtorKind::try_from(kind).ok()? {
        v1::DebtorKind::Consumer => Some(DebtorKind::Consumer),
        v1::DebtorKind::Business => Some(DebtorKind::Business),
        v1::DebtorKind::Unspecified => None,
    }
}

/// The domain carries a sealed value as the bytes of its stored message. They are ours, so they decode; bytes that do
/// not are kept whole in the ciphertext, where unsealing fails visibly.
pub(crate) fn sealed_to_api(sealed: &Sealed) -> v1::Sealed {
    v1::Sealed::decode(sealed.0.as_slice())
        .unwrap_or_else(|_| v1::Sealed { ciphertext: sealed.0.clone(), ..Default::default() })
}

pub(crate) fn sealed_from_api(sealed: Option<v1::Sealed>) -> Option<Sealed> {
    sealed.map(|sealed| Sealed(sealed.encode_to_vec()))
}

fn contact_to_api(point: &ContactPoint) -> v1::SealedContactPoint {
    v1::SealedContactPoint {
        channel: channel_to_api(point.channel).into(),
        address: Some(sealed_to_api(&point.address)),
        digest: point.digest.to_vec(),
    }
}

fn contacts_from_api(points: Vec<v1::SealedContactPoint>) -> Decoded<Vec<ContactPoint>> {
    points
        .into_iter()
        .map(|point| {
            Ok(ContactPoint {
                channel: need("channel", channel_from_api(point.channel))?,
                address: need("address", sealed_from_api(point.address))?,
                digest: point.digest.try_into().map_err(|_| DecodeError::malformed("digest", "not 32 bytes"))?,
            })
        })
        .collect()
}

fn instalment_to_api(instalment: &Instalment) -> v1::InstalmentDue {
    v1::InstalmentDue {
        number: instalment.number,
        due_date: Some(date_to_api(instalment.due_date)),
        amount_minor: instalment.amount,
    }
}

fn instalments(stored: Vec<v1::InstalmentDue>) -> Decoded<Vec<Instalment>> {
    stored
        .into_iter()
        .map(|m| {
            Ok(Instalment {
                number: instalment_number(m.number)?,
                due_date: date("due_date", m.due_date)?,
                amount: amount(m.amount_minor)?,
            })
        })
        .collect()
}

fn lines(stored: Vec<v1::AllocationLine>) -> Decoded<Vec<AllocationLine>> {
    stored
        .into_iter()
        .map(|m| {
            Ok(AllocationLine {
                invoice: number(&m.invoice_number)?,
                instalment: instalment_number(m.instalment)?,
                due_date: date("due_date", m.due_date)?,
                amount: amount(m.amount_minor)?,
                effective_date: date("effective_date", m.effective_date)?,
                issue_date: date("issue_date", m.issue_date)?,
                rung: m
                    .rung
                    .map(|rung| Ok(Rung { offset_days: rung.offset_days, on: date("rung.on", rung.on)? }))
                    .transpose()?,
            })
        })
        .collect()
}

pub(crate) fn date(field: &str, stored: Option<v1::Date>) -> Decoded<Date> {
    date_from_api(need(field, stored)?)
        .filter(|date| date.year() >= 1)
        .ok_or_else(|| DecodeError::malformed(field, "no such day"))
}

pub(crate) fn instalment_number(number: u32) -> Decoded<u32> {
    if (1..=i32::MAX as u32).contains(&number) { Ok(number) } else { Err(DecodeError::malformed("instalment", number)) }
}

pub(crate) fn amount(minor: i64) -> Decoded<i64> {
    check_amount(minor).map_err(|error| DecodeError::malformed("amount", error)).map(|()| minor)
}

fn unapplied(minor: i64) -> Decoded<i64> {
    if minor == 0 { Ok(0) } else { amount(minor) }
}

pub(crate) fn number(text: &str) -> Decoded<DocumentNumber> {
    DocumentNumber::new(text).map_err(|error| DecodeError::malformed("document number", error))
}

pub(crate) fn currency(code: &str) -> Decoded<Currency> {
    Currency::new(code).map_err(|error| DecodeError::malformed("currency", error))
}

fn money(minor: i64, code: &str) -> Decoded<Money> {
    Money::positive(minor, currency(code)?).map_err(|error| DecodeError::malformed("amount", error))
}
