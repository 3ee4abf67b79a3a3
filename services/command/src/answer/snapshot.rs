//! The snapshot that a message is made of, for the holder of the claim.

use saldo_api::v1;
use saldo_domain::{dunning::ContactStarted, sealed::Sealed};
use saldo_facts::{
    date_to_api, listed_to_api, notice_to_api,
    sealed::{CONTACT_ADDRESS, DISPLAY_NAME, sealed_message},
    timestamp_to_api, unlisted_to_api,
};
use saldo_keyring::{Envelope, Keyring, KeyringError, SealContext, UnsealError};

use crate::edge::{AMENDED, OPENED};

/// Everything that the message of an attempt is made of, with name and address opened.
pub async fn snapshot(
    keyring: &Keyring,
    record_key: &str,
    started: &ContactStarted,
) -> Result<v1::ContactSnapshot, KeyringError> {
    Ok(v1::ContactSnapshot {
        claim: started.claim.0.to_vec(),
        send_before: Some(timestamp_to_api(started.send_before)),
        saying: Some(notice_to_api(&started.notice)),
        language: started.language.clone(),
        name: open(keyring, record_key, DISPLAY_NAME, &started.name).await?,
        address: open(keyring, record_key, CONTACT_ADDRESS, &started.address).await?,
        day: Some(date_to_api(started.day)),
        items: started.items.iter().map(listed_to_api).collect(),
        at: Some(timestamp_to_api(started.at)),
        unapplied: (started.unapplied.iter())
            .map(|(currency, minor)| v1::Money { minor_units: *minor, currency: currency.to_string() })
            .collect(),
        unlisted: started.unlisted.iter().map(unlisted_to_api).collect(),
        stamp: started.stamp.as_ref().map(|stamp| v1::MessageStamp {
            id: stamp.id.clone(),
            at: Some(timestamp_to_api(stamp.at)),
            day: Some(date_to_api(stamp.day)),
        }),
    })
}

/// Opens a name or address of an account's profile. It was sealed for the event that recorded it, an opening or an
/// amendment. Empty where it was erased, or does not open.
async fn open(
    keyring: &Keyring,
    record_key: &str,
    field: &'static str,
    sealed: &Sealed,
) -> Result<String, KeyringError> {
    let Some(envelope) = sealed_message(sealed).and_then(Envelope::from_message) else { return Ok(String::new()) };
    for event_type in [OPENED, AMENDED] {
        match keyring.unseal(&SealContext { record_key, event_type, field }, &envelope).await {
            Ok(Some(text)) => return Ok(text),
            Ok(None) => {
                saldo_telemetry::seals_without_key(1);
                return Ok(String::new());
            }
            Err(UnsealError::Store(error)) => return Err(error),
            Err(UnsealError::Tampered(_)) => {}
        }
    }
    tracing::error!(record_key, field, "a value of the profile does not open");
    Ok(String::new())
}
