//! The facts of the party.

use saldo_api::v1;
use saldo_domain::party::{AccountAmended, AccountOpened, Channel, ContactPoint, DebtorKind, Profile, ProfileChange};

use crate::{
    DecodeError, channel_from_api, channel_to_api,
    declare::{fact, message},
    wire::{Decoded, Field, Fields},
};

fn kind_from_stored(stored: u32) -> Option<DebtorKind> {
    match v1::DebtorKind::try_from(stored as i32).ok()? {
        v1::DebtorKind::Consumer => Some(DebtorKind::Consumer),
        v1::DebtorKind::Business => Some(DebtorKind::Business),
        v1::DebtorKind::Unspecified => None,
    }
}

impl Field for Option<DebtorKind> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        let stored = match self {
            Some(DebtorKind::Consumer) => v1::DebtorKind::Consumer,
            Some(DebtorKind::Business) => v1::DebtorKind::Business,
            None => v1::DebtorKind::Unspecified,
        };
        (stored as u32).put(tag, out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        Ok(kind_from_stored(u32::get(fields, tag, name)?))
    }

    fn sample() -> Self {
        Some(DebtorKind::Business)
    }
}

impl Field for DebtorKind {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        Some(*self).put(tag, out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        Option::<DebtorKind>::get(fields, tag, name)?.ok_or_else(|| DecodeError::malformed(name, "unknown"))
    }

    fn sample() -> Self {
        DebtorKind::Consumer
    }
}

impl Field for Channel {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        (channel_to_api(*self) as u32).put(tag, out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        channel_from_api(u32::get(fields, tag, name)? as i32).ok_or_else(|| DecodeError::malformed(name, "unknown"))
    }

    fn sample() -> Self {
        Channel::Email
    }
}

message!(ContactPoint { 1 => channel, 2 => address, 3 => digest });

message!(Profile {
    1 => display_name,
    2 => kind,
    3 => language,
    4 => time_zone,
    5 => country,
    6 => contact_points,
});

/// The list at the first tag replaces the former one where the flag at the second is set.
impl Field<(u32, u32)> for Option<Vec<ContactPoint>> {
    fn put(&self, (list, flag): (u32, u32), out: &mut Vec<u8>) {
        if let Some(points) = self {
            points.put(list, out);
            1u32.put(flag, out);
        }
    }

    fn get(fields: &Fields<'_>, (list, flag): (u32, u32), name: &'static str) -> Decoded<Self> {
        let points = Vec::get(fields, list, name)?;
        Ok((u32::get(fields, flag, name)? != 0).then_some(points))
    }

    fn sample() -> Self {
        Some(Field::<u32>::sample())
    }
}

message!(ProfileChange {
    1 => display_name,
    2 => kind,
    3 => language,
    4 => time_zone,
    5 => country,
    (6, 7) => contact_points,
});

fact! {
    "account.opened" [1] AccountOpened(Profile)
    date: |_| None,
    summary: |AccountOpened(profile)| {
        let kind = match profile.kind {
            DebtorKind::Consumer => "consumer",
            DebtorKind::Business => "business",
        };
        format!(
            "Account opened: {kind}, {}, {}, {}, {}",
            profile.country,
            profile.language,
            profile.time_zone,
            match profile.contact_points.len() {
                0 => "no contact point".to_owned(),
                1 => "1 contact point".to_owned(),
                many => format!("{many} contact points"),
            }
        )
    },
}

fact! {
    "account.amended" [1] AccountAmended(ProfileChange)
    date: |_| None,
    summary: |AccountAmended(change)| {
        let fields = [
            ("name", change.display_name.is_some()),
            ("kind", change.kind.is_some()),
            ("language", change.language.is_some()),
            ("time zone", change.time_zone.is_some()),
            ("country", change.country.is_some()),
            ("contact points", change.contact_points.is_some()),
        ];
        let changed: Vec<&str> = fields.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect();
        format!("Account amended: {}", changed.join(", "))
    },
}
