//! Opening sealed values for the tables that hold nothing but personal data.

use saldo_domain::sealed::Sealed;
use saldo_facts::sealed::{CONTACT_ADDRESS, DISPLAY_NAME, sealed_message};
use saldo_keyring::{Envelope, Keyring, KeyringError, SealContext, UnsealError};
use saldo_readmodel::{Opened, SealedValues};

/// Opens what a batch brought; a value whose key is gone, or that does not open, reads as erased. Fails where the key
/// store cannot say.
pub async fn open(keyring: &Keyring, sealed: &[SealedValues]) -> Result<Opened, KeyringError> {
    let (mut opened, mut absent) = (Opened::default(), 0);
    for values in sealed {
        let record_key = format!("{}/{}", values.owner.tenant, values.owner.account);
        let place = |field| SealContext { record_key: &record_key, event_type: values.event_type, field };
        if let Some(name) = &values.display_name {
            opened.names.insert(values.owner.clone(), unseal(keyring, &place(DISPLAY_NAME), name, &mut absent).await?);
        }
        if let Some(points) = &values.contact_points {
            let mut clear = Vec::with_capacity(points.len());
            for (channel, address) in points {
                clear.push((channel.name(), unseal(keyring, &place(CONTACT_ADDRESS), address, &mut absent).await?));
            }
            opened.contact_points.insert(values.owner.clone(), clear);
        }
    }
    if absent > 0 {
        tracing::warn!(
            values = absent,
            "the key store has no key for personal values: they are left out; `saldo verify` counts all of them"
        );
        saldo_telemetry::seals_without_key(absent);
    }
    Ok(opened)
}

/// Opens one value. `absent` counts those whose key is not there.
async fn unseal(
    keyring: &Keyring,
    place: &SealContext<'_>,
    sealed: &Sealed,
    absent: &mut u64,
) -> Result<Option<String>, KeyringError> {
    let Some(envelope) = sealed_message(sealed).and_then(Envelope::from_message) else { return Ok(None) };
    match keyring.unseal(place, &envelope).await {
        Ok(Some(text)) => Ok(Some(text)),
        Ok(None) => {
            *absent += 1;
            Ok(None)
        }
        Err(UnsealError::Store(error)) => Err(error),
        Err(UnsealError::Tampered(tampered)) => {
            tracing::error!(record_key = place.record_key, event_type = place.event_type, field = place.field, %tampered, "a personal value is left out");
            Ok(None)
        }
    }
}
