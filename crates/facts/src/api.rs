//! Values of the domain in requests and answers, and back.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use saldo_api::v1;
use saldo_domain::{
    dunning::{ListedItem, Notice, Tone, UnlistedItems},
    ledger::AllocationLine,
    party::Channel,
};

use crate::{
    DecodeError,
    wire::{Fields, Message},
};

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

/// The rule of [`instant_from_request`], for the caller's error.
pub const REQUEST_INSTANT_RULE: &str = "must be an instant of the years 1900 to 2199";

/// The years that [`day_from_request`] and [`instant_from_request`] take.
const REQUEST_YEARS: std::ops::RangeInclusive<i16> = 1900..=2199;

/// The rule of [`day_from_request`], for the caller's error.
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
        rung: line.last_step.map(|last| v1::Rung { offset_days: last.offset_days, on: Some(date_to_api(last.on)) }),
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

/// How a step speaks, to the wire.
pub fn notice_to_api(notice: &Notice) -> v1::Saying {
    v1::Saying {
        step: notice.step.clone(),
        tone: tone_to_api(notice.tone).into(),
        channel: channel_to_api(notice.channel).into(),
        template: notice.template.clone(),
    }
}

/// How a step speaks, from the wire: requests and answers have the stored form, with the same rules.
pub fn notice_from_api(notice: &v1::Saying) -> Result<Notice, DecodeError> {
    Notice::read(&Fields::parse(&prost::Message::encode_to_vec(notice))?)
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
pub fn listed_from_api(item: &v1::ListedItem) -> Result<ListedItem, DecodeError> {
    ListedItem::read(&Fields::parse(&prost::Message::encode_to_vec(item))?)
}

/// Sums of what is not listed, to the wire.
pub fn unlisted_to_api(unlisted: &UnlistedItems) -> v1::UnlistedItems {
    v1::UnlistedItems {
        currency: unlisted.currency.to_string(),
        items: unlisted.items,
        open_minor: unlisted.open,
        overdue_minor: unlisted.overdue,
    }
}

/// The rule of a profile's language.
pub fn check_language(text: &str) -> Result<(), &'static str> {
    let is_code = text.len() == 2 && text.bytes().all(|b| b.is_ascii_lowercase());
    is_code.then_some(()).ok_or("must be an ISO 639-1 code in lower case, for example es")
}

/// The rule of a profile's country.
pub fn check_country(text: &str) -> Result<(), &'static str> {
    let is_code = text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase());
    is_code.then_some(()).ok_or("must be an ISO 3166-1 alpha-2 code in upper case, for example ES")
}

/// The rule of a profile's time zone.
pub fn check_time_zone(text: &str) -> Result<(), &'static str> {
    let is_zone = TimeZone::get(text).is_ok_and(|zone| zone.iana_name().is_some());
    is_zone.then_some(()).ok_or("must be an IANA time zone, for example Europe/Madrid")
}
