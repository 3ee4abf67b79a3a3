//! Seals the personal values of a request, before anything else sees them.

use saldo_api::v1;
use saldo_domain::{ids::AccountKey, party::Channel, sealed::Sealed};
pub use saldo_facts::sealed::CONTACT;
use saldo_facts::sealed::{MESSAGE, opaque};
use saldo_keyring::{KeyringError, SealContext, SubjectKey, TenantKeys};

/// One personal value of a request, and the field that it will stand in.
#[derive(Debug, Clone, Copy)]
pub struct Personal<'a> {
    /// Its path in the request.
    pub path: &'a str,
    /// The type of the event that will hold it.
    pub event_type: &'a str,
    /// The field of the event, from [`saldo_facts::sealed`].
    pub field: &'a str,
    /// The value itself.
    pub text: &'a str,
}

/// Takes the personal values of a request.
pub trait Seal {
    /// Seals one value.
    fn seal(&mut self, value: Personal<'_>) -> Sealed;
    /// The keyed digest of an address.
    fn digest(&self, channel: Channel, address: &str) -> [u8; 32];
}

/// Counts the values and seals none: a request is checked whole before a key is made for it.
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
    /// The record's key; every seal is bound to it.
    record_key: String,
    subject: &'k SubjectKey,
    tenant: &'k TenantKeys,
    /// The sealed values by path, for the stored command.
    pub sealed: Vec<v1::SealedField>,
    /// Why the first of those failed that could not be sealed.
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
        let place = SealContext { record_key: &self.record_key, event_type: value.event_type, field: value.field };
        let envelope = match self.subject.seal(&place, value.text) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.failed.get_or_insert(error);
                return Sealed(Vec::new());
            }
        };
        let message = envelope.to_message();
        let sealed = opaque(&message);
        // The event holds the message already, and a message is large: the stored command goes without it.
        if value.field != MESSAGE {
            self.sealed.push(v1::SealedField { path: value.path.to_owned(), value: Some(message) });
        }
        sealed
    }

    fn digest(&self, channel: Channel, address: &str) -> [u8; 32] {
        keyed_digest(self.tenant, channel, address)
    }
}

/// Seals nothing, for a request without personal values. It may name addresses all the same, which are compared by their digests.
pub struct NothingSealed<'k>(pub &'k TenantKeys);

impl Seal for NothingSealed<'_> {
    fn seal(&mut self, _: Personal<'_>) -> Sealed {
        Sealed(Vec::new())
    }

    fn digest(&self, channel: Channel, address: &str) -> [u8; 32] {
        keyed_digest(self.0, channel, address)
    }
}

/// Addresses are compared without case and without surrounding space.
fn keyed_digest(tenant: &TenantKeys, channel: Channel, address: &str) -> [u8; 32] {
    let channel = (saldo_facts::channel_to_api(channel) as i32).to_be_bytes();
    tenant.digest.hmac(&[&channel, address.trim().to_lowercase().as_bytes()])
}

/// The event that personal values of a new account are sealed for.
pub const OPENED: &str = "account.opened";
/// The event that changed personal values of an account are sealed for.
pub const AMENDED: &str = "account.amended";
