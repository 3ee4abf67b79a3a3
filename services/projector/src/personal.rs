//! Opening sealed values for the tables that hold nothing but personal data.

use saldo_domain::sealed::Sealed;
use saldo_facts::sealed::{CONTACT_ADDRESS, DISPLAY_NAME, sealed_message};
use saldo_keyring::{Envelope, Keyring, KeyringError, SealContext, UnsealError};
use saldo_readmodel::{Opened, SealedValues};

/// Opens what a batch brought; a value whose key is gone, or that does not open, reads as erased. Fails where the key
/// store cannot say.
pub async fn open(keyring: &Keyring, sealed: &[SealedValues]) -> Result<Opened, KeyringError> {
    let mut opened = Opened::default();
    for values in sealed {
        let record_key = format!("{}/{}", values.owner.tenant, values.owner.account);
        let place = |field| SealContext { record_key: &record_key, event_type: values.event_type, field };
        if let Some(name) = &values.display_name {
            opened.names.insert(values.owner.clone(), unseal(keyring, &place(DISPLAY_NAME), name).await?);
        }
        if let Some(points) = &values.contact_points {
            let mut clear = Vec::with_capacity(points.len());
            for (channel, address) in points {
                clear.push((channel.name(), unseal(keyring, &place(CONTACT_ADDRESS), address).await?));
            }
            opened.contact_points.insert(values.owner.clone(), clear);
        }
    }
    Ok(opened)
}

async fn unseal(keyring: &Keyring, place: &SealContext<'_>, sealed: &Sealed) -> Result<Option<String>, KeyringError> {
    let Some(envelope) = sealed_message(sealed).and_then(Envelope::from_message) else { return Ok(None) };
    match keyring.unseal(place, &envelope).await {
        Ok(text) => Ok(text),
        Err(UnsealError::Store(error)) => Err(error),
        Err(UnsealError::Tampered(tampered)) => {
            tracing::error!(record_key = place.record_key, event_type = place.event_type, field = place.field, %tampered, "a personal value is left out");
            Ok(None)
        }
    }
}
