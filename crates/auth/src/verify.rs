//! Verifying tokens. The key decides the algorithm, never the token's header, so that none can be confused for another.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, errors::ErrorKind, get_current_timestamp};
use saldo_domain::ids::TenantId;
use tonic::{Code, Request, Status, service::Interceptor};

use crate::{AUDIENCE, Caller, Claims, MISSING, Role, refuse};

/// Longest subject, in bytes: it stands in every commit.
const MAX_SUBJECT: usize = 128;

/// A file that is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// None was given.
    #[error("no public key is configured: set auth.public_keys to PEM files of the keys that sign tokens")]
    None,
    /// Not PEM, or of another kind.
    #[error("auth.public_keys: number {0} is not a PEM public key of type Ed25519, P-256 or RSA")]
    Unusable(usize),
}

/// Verified tokens that are remembered at most; beyond it all are forgotten, which costs verifying them again.
const MAX_KNOWN: usize = 4_096;
/// Seconds that a token counts beyond its end, for clocks that differ.
const LEEWAY: u64 = 5;

/// Checks tokens; a tonic interceptor. A token's signature is verified once: callers send the same one with every call.
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<[(DecodingKey, Validation)]>,
    known: Arc<RwLock<HashMap<Box<str>, Known>>>,
}

/// A verified token: until when, in seconds since the epoch, and for whom.
#[derive(Clone)]
struct Known {
    until: u64,
    caller: Caller,
}

impl Verifier {
    /// Takes the PEM texts of the public keys, Ed25519, P-256 or RSA.
    pub fn new<'p>(pems: impl IntoIterator<Item = &'p str>) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for (index, pem) in pems.into_iter().enumerate() {
            let (key, algorithm) = read(pem.as_bytes()).ok_or(KeyError::Unusable(index + 1))?;
            let mut validation = Validation::new(algorithm);
            validation.set_audience(&[AUDIENCE]);
            validation.set_required_spec_claims(&["exp", "aud", "sub"]);
            validation.validate_nbf = true;
            validation.leeway = LEEWAY;
            keys.push((key, validation));
        }
        if keys.is_empty() { Err(KeyError::None) } else { Ok(Self { keys: keys.into(), known: Arc::default() }) }
    }

    /// The caller a token stands for.
    pub fn verify(&self, token: &str) -> Result<Caller, Status> {
        if let Some(caller) = self.remembered(token, get_current_timestamp()) {
            return Ok(caller);
        }
        let (caller, until) = self.decode(token)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(token.into(), Known { until, caller: caller.clone() });
        Ok(caller)
    }

    /// Whom a token stands for that was verified before and has not ended since.
    pub(crate) fn remembered(&self, token: &str, now: u64) -> Option<Caller> {
        // Between any two steps under the lock the map is whole.
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(token).filter(|known| now <= known.until).map(|known| known.caller.clone())
    }

    fn decode(&self, token: &str) -> Result<(Caller, u64), Status> {
        let invalid = |message: &str| refuse(Code::Unauthenticated, "TOKEN_INVALID", message);
        let mut expired = false;
        let claims = self.keys.iter().find_map(|(key, validation)| match decode::<Claims>(token, key, validation) {
            Ok(data) => Some(data.claims),
            Err(error) => {
                expired |= matches!(error.kind(), ErrorKind::ExpiredSignature);
                None
            }
        });
        let Some(claims) = claims else {
            return Err(if expired {
                refuse(Code::Unauthenticated, "TOKEN_EXPIRED", "the token has expired: get a new one")
            } else {
                invalid("the token is not one that a configured key has signed for this service")
            });
        };
        match TenantId::new(&claims.tenant) {
            Err(_) => return Err(invalid("the token's tenant is no identifier")),
            Ok(tenant) if tenant.is_reserved() => {
                return Err(invalid("the token's tenant is reserved for the operator's own catalog"));
            }
            Ok(_) => {}
        }
        if claims.sub.is_empty() || claims.sub.len() > MAX_SUBJECT || claims.sub.chars().any(char::is_control) {
            return Err(invalid("the token's subject must be 1 to 128 bytes without control characters"));
        }
        let roles = claims.roles.iter().filter_map(|name| Role::parse(name)).collect();
        let until = u64::try_from(claims.exp).unwrap_or_default().saturating_add(LEEWAY);
        Ok((Caller { subject: claims.sub, tenant: claims.tenant, roles }, until))
    }
}

impl Interceptor for Verifier {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let missing = || refuse(Code::Unauthenticated, "TOKEN_MISSING", MISSING);
        let header = request.metadata().get("authorization").ok_or_else(missing)?;
        let token = header.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
        });
        let caller = self.verify(token.ok_or_else(missing)?)?;
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

/// The algorithm follows from the kind of key, tried from the most specific on.
fn read(pem: &[u8]) -> Option<(DecodingKey, Algorithm)> {
    DecodingKey::from_ed_pem(pem)
        .map(|key| (key, Algorithm::EdDSA))
        .or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256)))
        .or_else(|_| DecodingKey::from_rsa_pem(pem).map(|key| (key, Algorithm::RS256)))
        .ok()
}
