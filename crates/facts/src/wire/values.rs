//! How values of the domain stand in a stored body.

use jiff::{Timestamp, civil::Date};
use prost::Message as _;
use saldo_api::v1;
use saldo_domain::{
    ids::DocumentNumber,
    money::{Currency, Money},
    sealed::Sealed,
};

use super::{Decoded, Field, Fields, Message, put_bytes, text};
use crate::{DecodeError, date_from_api};

fn number(text: &str) -> Decoded<DocumentNumber> {
    DocumentNumber::new(text).map_err(|error| DecodeError::malformed("document number", error))
}

impl Field for DocumentNumber {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        put_bytes(tag, self.as_str().as_bytes(), out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        number(&String::get(fields, tag, name)?)
    }

    fn sample() -> Self {
        number("N-1").unwrap_or_else(|_| unreachable!("a document number"))
    }
}

impl Field for Option<DocumentNumber> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        if let Some(number) = self {
            number.put(tag, out);
        }
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        fields.bytes(tag, name)?.map(|bytes| number(&text(bytes, name)?)).transpose()
    }

    fn sample() -> Self {
        Some(Field::sample())
    }

    fn is_present(&self) -> bool {
        self.is_some()
    }
}

impl Field for Vec<DocumentNumber> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        self.iter().for_each(|number| number.put(tag, out));
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        fields.all(tag, name).map(|bytes| number(&text(bytes?, name)?)).collect()
    }

    fn sample() -> Self {
        vec![Field::sample()]
    }
}

fn euro() -> Currency {
    Currency::new("EUR").unwrap_or_else(|_| unreachable!("a currency"))
}

impl Field for Currency {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        put_bytes(tag, self.code().as_bytes(), out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        Currency::new(&String::get(fields, tag, name)?).map_err(|error| DecodeError::malformed("currency", error))
    }

    fn sample() -> Self {
        euro()
    }
}

/// A positive amount: the currency at the first tag, the minor units at the second.
impl Field<(u32, u32)> for Money {
    fn put(&self, (currency, minor): (u32, u32), out: &mut Vec<u8>) {
        self.currency.put(currency, out);
        self.minor.put(minor, out);
    }

    fn get(fields: &Fields<'_>, (currency, minor): (u32, u32), name: &'static str) -> Decoded<Self> {
        let (minor, currency) = (i64::get(fields, minor, name)?, Currency::get(fields, currency, name)?);
        Money::positive(minor, currency).map_err(|error| DecodeError::malformed("amount", error))
    }

    fn sample() -> Self {
        Money { minor: 1_000, currency: euro() }
    }
}

/// A sum in a currency; collections.v1.Money.
impl Message for (Currency, i64) {
    fn write(&self, out: &mut Vec<u8>) {
        self.1.put(1, out);
        self.0.put(2, out);
    }

    fn read(fields: &Fields<'_>) -> Decoded<Self> {
        Ok((Currency::get(fields, 2, "currency")?, i64::get(fields, 1, "minor_units")?))
    }

    fn sample() -> Self {
        (euro(), 20)
    }
}

/// collections.v1.Date
impl Message for Date {
    fn write(&self, out: &mut Vec<u8>) {
        i64::from(self.year()).put(1, out);
        i64::from(self.month()).put(2, out);
        i64::from(self.day()).put(3, out);
    }

    fn read(fields: &Fields<'_>) -> Decoded<Self> {
        let part = |tag| Ok(i64::get(fields, tag, "date")? as i32);
        date_from_api(v1::Date { year: part(1)?, month: part(2)?, day: part(3)? })
            .filter(|date| date.year() >= 1)
            .ok_or_else(|| DecodeError::malformed("date", "no such day"))
    }

    fn sample() -> Self {
        Date::constant(2026, 3, 9)
    }
}

/// google.protobuf.Timestamp
impl Message for Timestamp {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_second().put(1, out);
        i64::from(self.subsec_nanosecond()).put(2, out);
    }

    fn read(fields: &Fields<'_>) -> Decoded<Self> {
        let nanos = i64::get(fields, 2, "timestamp")? as i32;
        Timestamp::new(i64::get(fields, 1, "timestamp")?, nanos)
            .map_err(|error| DecodeError::malformed("timestamp", error))
    }

    fn sample() -> Self {
        Timestamp::constant(1_773_043_200, 1_000)
    }
}

/// The domain carries a sealed value as the bytes of its stored message, collections.v1.Sealed. They are ours, so they decode;
/// bytes that do not are kept whole in the ciphertext, where unsealing fails visibly.
impl Field for Sealed {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        let message = v1::Sealed::decode(self.0.as_slice())
            .unwrap_or_else(|_| v1::Sealed { ciphertext: self.0.clone(), ..Default::default() });
        put_bytes(tag, &message.encode_to_vec(), out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        Option::<Sealed>::get(fields, tag, name)?.ok_or_else(|| DecodeError::malformed(name, "absent"))
    }

    fn sample() -> Self {
        let message =
            v1::Sealed { key_id: vec![1; 16], nonce: vec![2; 24], ciphertext: vec![3; 5], commitment: vec![4; 32] };
        Sealed(message.encode_to_vec())
    }
}

impl Field for Option<Sealed> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        if let Some(sealed) = self {
            sealed.put(tag, out);
        }
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        let Some(bytes) = fields.bytes(tag, name)? else { return Ok(None) };
        let message = v1::Sealed::decode(bytes).map_err(|error| DecodeError::malformed(name, error))?;
        Ok(Some(Sealed(message.encode_to_vec())))
    }

    fn sample() -> Self {
        Some(Field::sample())
    }

    fn is_present(&self) -> bool {
        self.is_some()
    }
}
