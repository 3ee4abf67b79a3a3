//! Sealing at the edge: personal values of a request become sealed envelopes before anything else sees them.

use saldo_api::v1;
use saldo_domain::{ids::AccountKey, party::Channel, sealed::Sealed};
use saldo_facts::sealed::{CONTACT_ADDRESS, DISPLAY_NAME, MESSAGE, opaque, sealed_message};
use saldo_keyring::{Envelope, Keyring, KeyringError, Place, SubjectKey, TenantKeys, UnsealError};

/// One personal value of a request and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Personal<'a> {
    /// Path in the request.
    pub path: &'a str,
    /// The event that will carry it.
    pub event_type: &'a str,
    /// Its field there, from [`saldo_facts::sealed`].
    pub field: &'a str,
    /// The value.
    pub text: &'a str,
}

/// What the edge does with personal values.
pub trait Seal {
    /// Takes one value under lock.
    fn seal(&mut self, value: Personal<'_>) -> Sealed;
    /// The keyed digest of an address.
    fn digest(&self, channel: Channel, address: &str) -> [u8; 32];
}

/// Seals nothing and counts: a request is checked whole before a key is made for it.
#[derive(Debug, Default)]
pub struct Count(pub usize);

impl Seal for Count {
    fn seal(&mut self, _: Personal<'_>) -> Sealed {
        self.0 += 1;
        Sealed(Vec::new())
    }

    fn digest(&self, _: Channel, _: &str) -> [u8; 32] {
        [0; 32]
    }
}

/// Seals under the key of the data subject.
pub struct UnderKey<'k> {
    /// The record's key, part of every seal.
    pub record_key: String,
    /// The data subject's.
    pub subject: &'k SubjectKey,
    /// The tenant's.
    pub tenant: &'k TenantKeys,
    /// What was sealed, by path, for the stored command.
    pub sealed: Vec<v1::SealedField>,
    /// The first value that could not be sealed.
    pub failed: Option<KeyringError>,
}

impl<'k> UnderKey<'k> {
    /// For one request to one account.
    pub fn new(key: &AccountKey, subject: &'k SubjectKey, tenant: &'k TenantKeys) -> Self {
        Self { record_key: key.to_string(), subject, tenant, sealed: Vec::new(), failed: None }
    }
}

impl Seal for UnderKey<'_> {
    fn seal(&mut self, value: Personal<'_>) -> Sealed {
        let place = Place { record_key: &self.record_key, event_type: value.event_type, field: value.field };
        let envelope = match self.subject.seal(&place, value.text) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.failed.get_or_insert(error);
                return Sealed(Vec::new());
            }
        };
        let message = envelope.to_message();
        let sealed = opaque(&message);
        // A message's bytes are large and stand in the event beside the command: once is enough.
        if value.field != MESSAGE {
            self.sealed.push(v1::SealedField { path: value.path.to_owned(), value: Some(message) });
        }
        sealed
    }

    /// Addresses are compared without case and without surrounding space.
    fn digest(&self, channel: Channel, address: &str) -> [u8; 32] {
        let channel = (saldo_facts::channel_to_api(channel) as i32).to_be_bytes();
        self.tenant.digest.hmac(&[&channel, address.trim().to_lowercase().as_bytes()])
    }
}

/// Opens a name or address of an account's profile, which was sealed where it was recorded: at its opening or at an
/// amendment. Empty where it was erased, or does not open.
pub async fn open_profile_value(
    keyring: &Keyring,
    record_key: &str,
    field: ProfileField,
    sealed: &Sealed,
) -> Result<String, KeyringError> {
    let Some(envelope) = sealed_message(sealed).and_then(Envelope::from_message) else { return Ok(String::new()) };
    let field = match field {
        ProfileField::Name => DISPLAY_NAME,
        ProfileField::Address => CONTACT_ADDRESS,
    };
    for event_type in [OPENED, AMENDED] {
        match keyring.unseal(&Place { record_key, event_type, field }, &envelope).await {
            Ok(text) => return Ok(text.unwrap_or_default()),
            Err(UnsealError::Store(error)) => return Err(error),
            Err(UnsealError::Tampered(_)) => {}
        }
    }
    tracing::error!(record_key, field, "a value of the profile does not open");
    Ok(String::new())
}

/// A sealed value of a profile.
#[derive(Debug, Clone, Copy)]
pub enum ProfileField {
    /// The display name.
    Name,
    /// The address of a contact point.
    Address,
}

/// What a new account's personal values are sealed for.
pub const OPENED: &str = "account.opened";
/// What changed personal values of an account are sealed for.
pub const AMENDED: &str = "account.amended";
/// What an outcome's values are sealed for: which event carries them is decided after they are sealed.
pub const CONTACT: &str = "contact";
