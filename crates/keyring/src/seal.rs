//! Sealing: XChaCha20-Poly1305 under the data subject's key, bound to the place the value stands in.

use std::fmt;

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const SALT: usize = 32;

/// A sealed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Names the key.
    pub key_id: [u8; 16],
    /// Random.
    pub nonce: [u8; 24],
    /// Encrypts a salt of 32 bytes and the text.
    pub ciphertext: Vec<u8>,
    /// SHA-256 of salt and text: proves a disclosed value with nothing but a hash, and an erased one can't be guessed.
    pub commitment: [u8; 32],
}

impl Envelope {
    /// As it is stored.
    pub fn to_message(&self) -> saldo_api::v1::Sealed {
        saldo_api::v1::Sealed {
            key_id: self.key_id.to_vec(),
            nonce: self.nonce.to_vec(),
            ciphertext: self.ciphertext.clone(),
            commitment: self.commitment.to_vec(),
        }
    }

    /// Reads it back; `None` where the message is no envelope.
    pub fn from_message(message: saldo_api::v1::Sealed) -> Option<Self> {
        Some(Self {
            key_id: message.key_id.try_into().ok()?,
            nonce: message.nonce.try_into().ok()?,
            ciphertext: message.ciphertext,
            commitment: message.commitment.try_into().ok()?,
        })
    }
}

/// Where a value stands: a seal moved elsewhere does not open.
#[derive(Debug, Clone, Copy)]
pub struct SealContext<'a> {
    /// `tenant/account`.
    pub record_key: &'a str,
    /// For example `account.opened`.
    pub event_type: &'a str,
    /// For example `display_name`.
    pub field: &'a str,
}

impl SealContext<'_> {
    /// The parts joined by NUL, which none of them can hold.
    fn associated_data(&self) -> Vec<u8> {
        [self.record_key, self.event_type, self.field].join("\0").into_bytes()
    }
}

/// The seal does not open: the bytes were changed or moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value does not open: it was changed, or stands where it was not sealed")]
pub struct Tampered;

/// The key of one data subject.
#[derive(Clone)]
pub struct SubjectKey {
    pub(crate) id: [u8; 16],
    pub(crate) key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectKey")
    }
}

impl SubjectKey {
    /// Seals a text at its place.
    pub fn seal(&self, place: &SealContext<'_>, plain: &str) -> Result<Envelope, crate::KeyringError> {
        let mut salt = [0; SALT];
        let mut nonce = [0; 24];
        getrandom::fill(&mut salt).map_err(|_| crate::KeyringError::Random)?;
        getrandom::fill(&mut nonce).map_err(|_| crate::KeyringError::Random)?;
        let salted = Zeroizing::new([&salt, plain.as_bytes()].concat());
        let ciphertext = encrypt(&self.key, &nonce, &place.associated_data(), &salted)?;
        Ok(Envelope { key_id: self.id, nonce, ciphertext, commitment: Sha256::digest(&*salted).into() })
    }

    pub(crate) fn unseal(&self, place: &SealContext<'_>, envelope: &Envelope) -> Result<String, Tampered> {
        let salted = decrypt(&self.key, &envelope.nonce, &place.associated_data(), &envelope.ciphertext)?;
        if <[u8; 32]>::from(Sha256::digest(&*salted)) != envelope.commitment {
            return Err(Tampered);
        }
        let text = salted.get(SALT..).ok_or(Tampered)?;
        String::from_utf8(text.to_vec()).map_err(|_| Tampered)
    }
}

pub(crate) fn encrypt(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, crate::KeyringError> {
    // Fails only above 256 GiB.
    XChaCha20Poly1305::new(key.into())
        .encrypt(nonce.into(), Payload { msg: plain, aad })
        .map_err(|_| crate::KeyringError::Random)
}

pub(crate) fn decrypt(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Tampered> {
    let plain = XChaCha20Poly1305::new(key.into()).decrypt(nonce.into(), Payload { msg: ciphertext, aad });
    plain.map(Zeroizing::new).map_err(|_| Tampered)
}

/// A key for keyed digests.
pub struct HmacKey(Zeroizing<[u8; 32]>);

impl HmacKey {
    /// HMAC-SHA-256 over the parts, each behind its length, so that they cannot run together.
    pub fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = keyed(&self.0);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// A key shorter than the hash's block is padded with zeros (RFC 2104, section 2).
fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    <Hmac<Sha256> as hmac::digest::KeyInit>::new((&*block).into())
}

/// A tenant's keys.
pub struct TenantKeys {
    /// For fingerprints of requests.
    pub fingerprint: HmacKey,
    /// For digests of addresses.
    pub digest: HmacKey,
    pub(crate) wrapping: Zeroizing<[u8; 32]>,
}

impl TenantKeys {
    pub(crate) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        let derive = |purpose: &str| {
            let mut mac = keyed(&key);
            mac.update(purpose.as_bytes());
            HmacKey(Zeroizing::new(mac.finalize().into_bytes().into()))
        };
        Self { fingerprint: derive("saldo/fingerprint/1"), digest: derive("saldo/digest/1"), wrapping: key }
    }
}
