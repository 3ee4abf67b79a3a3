//! The profile of a debtor, with the ways to reach the debtor. Personal values are opaque here.

use serde::{Deserialize, Serialize};

use crate::sealed::Sealed;

/// Consumer or business; rules differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DebtorKind {
    /// A natural person outside trade.
    Consumer,
    /// Anyone in trade.
    Business,
}

/// A way to reach a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Channel {
    /// E-mail.
    Email,
    /// Short message.
    Sms,
    /// WhatsApp.
    Whatsapp,
    /// A call.
    Phone,
    /// A letter.
    Post,
}

impl Channel {
    const NAMES: [(Self, &str); 5] = [
        (Self::Email, "email"),
        (Self::Sms, "sms"),
        (Self::Whatsapp, "whatsapp"),
        (Self::Phone, "phone"),
        (Self::Post, "post"),
    ];

    /// Its stable name, in rows and files.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(one, _)| *one == self).map_or("", |(_, name)| name)
    }

    /// The channel of a stable name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, one)| *one == name).map(|(channel, _)| *channel)
    }
}

/// One way to reach the debtor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactPoint {
    /// The channel.
    pub channel: Channel,
    /// The address, sealed.
    pub address: Sealed,
    /// Keyed digest of the normalised address: what is compared.
    pub digest: [u8; 32],
}

/// The debtor as decisions see them. The edge checks language, zone and country.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The name, sealed.
    pub display_name: Sealed,
    /// Consumer or business.
    pub kind: DebtorKind,
    /// ISO 639-1, lower case.
    pub language: String,
    /// IANA time zone.
    pub time_zone: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// In the order given.
    pub contact_points: Vec<ContactPoint>,
}

/// The fields of a profile to replace; absent ones stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileChange {
    /// The name, sealed.
    pub display_name: Option<Sealed>,
    /// Consumer or business.
    pub kind: Option<DebtorKind>,
    /// ISO 639-1.
    pub language: Option<String>,
    /// IANA zone.
    pub time_zone: Option<String>,
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// Replaces the whole list.
    pub contact_points: Option<Vec<ContactPoint>>,
}

/// account.opened
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountOpened(pub Profile);

/// account.amended
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountAmended(pub ProfileChange);

impl Profile {
    pub(super) fn amend(&mut self, change: &ProfileChange) {
        fn set<T: Clone>(field: &mut T, change: &Option<T>) {
            if let Some(new) = change {
                field.clone_from(new);
            }
        }
        set(&mut self.display_name, &change.display_name);
        set(&mut self.kind, &change.kind);
        set(&mut self.language, &change.language);
        set(&mut self.time_zone, &change.time_zone);
        set(&mut self.country, &change.country);
        set(&mut self.contact_points, &change.contact_points);
    }
}
