//! Verifying tokens. The key decides the algorithm, never the token's header, so that none can be confused for another.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind, get_current_timestamp,
};
use saldo_domain::{
    ids::TenantId,
    line::{ONE_LINE, is_one_line},
};
use tonic::{Code, Request, Status, service::Interceptor};

use crate::{AUDIENCE, Caller, Claims, MISSING, Scope, refuse};

/// Longest subject, in bytes: it stands in every commit.
const MAX_SUBJECT: usize = 128;

/// A file that is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// None was given.
    #[error("no public key is configured: set auth.public_keys to PEM files of the keys that sign tokens")]
    None,
    /// Not PEM, or of another kind.
    #[error("{0} has no PEM public key of type Ed25519, P-256 or RSA, or one that is damaged")]
    Unusable(String),
}

/// Verified tokens that are remembered at most; beyond it all are forgotten, which costs verifying them again.
const MAX_KNOWN: usize = 4_096;
/// Seconds that a token counts beyond its end, for clocks that differ.
const LEEWAY: u64 = 5;

/// Public keys as they stand in one file, and what their tokens may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// What errors call it: the setting and the file.
    pub name: String,
    /// One PEM text or several.
    pub pem: String,
    /// What their tokens may say.
    pub scope: Scope,
}

impl PublicKey {
    fn keys(&self) -> Result<Vec<Key>, KeyError> {
        let unusable = || KeyError::Unusable(self.name.clone());
        let keys = blocks(&self.pem).into_iter().map(|pem| {
            let (key, algorithm) = read(pem.as_bytes()).ok_or_else(unusable)?;
            let mut validation = Validation::new(algorithm);
            validation.set_audience(&[AUDIENCE]);
            validation.set_required_spec_claims(&["exp", "aud", "sub"]);
            validation.validate_nbf = true;
            validation.leeway = LEEWAY;
            Ok(Key { key, validation, scope: self.scope.clone() })
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(unusable()) } else { Ok(keys) }
    }
}

/// Checks tokens; a tonic interceptor. A token's signature is verified once: callers send the same one with every call.
#[derive(Clone)]
pub struct Verifier {
    /// With the tokens that these keys have signed, so that no token outlives its key.
    keys: Arc<RwLock<Arc<Keys>>>,
    longest_life: Duration,
}

#[derive(Default)]
struct Keys {
    all: Vec<Key>,
    known: RwLock<HashMap<Box<str>, Known>>,
}

struct Key {
    key: DecodingKey,
    validation: Validation,
    scope: Scope,
}

/// A verified token: until when, in seconds since the epoch, and for whom.
#[derive(Clone)]
struct Known {
    until: u64,
    caller: Caller,
}

impl Verifier {
    /// Takes tokens that these keys have signed, and that are valid for so long at most.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>, longest_life: Duration) -> Result<Self, KeyError> {
        let mut all = Vec::new();
        for key in keys {
            all.extend(key.keys()?);
        }
        if all.is_empty() {
            return Err(KeyError::None);
        }
        let keys = Keys { all, ..Keys::default() };
        Ok(Self { keys: Arc::new(RwLock::new(Arc::new(keys))), longest_life })
    }

    /// Takes tokens of these keys alone from now on. Returns the keys that cannot be used; they count for nothing.
    pub fn replace(&self, keys: impl IntoIterator<Item = PublicKey>) -> Vec<KeyError> {
        let (mut all, mut faults) = (Vec::new(), Vec::new());
        for key in keys {
            match key.keys() {
                Ok(keys) => all.extend(keys),
                Err(fault) => faults.push(fault),
            }
        }
        let keys = Arc::new(Keys { all, ..Keys::default() });
        // Between any two steps under the lock the keys are whole, here and below.
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        faults
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The caller a token stands for.
    pub fn verify(&self, token: &str) -> Result<Caller, Status> {
        let (keys, now) = (self.keys(), get_current_timestamp());
        if let Some(caller) = keys.remembered(token, now) {
            return Ok(caller);
        }
        let (caller, until) = keys.decode(token, now, self.longest_life)?;
        let mut known = keys.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(token.into(), Known { until, caller: caller.clone() });
        Ok(caller)
    }

    #[cfg(test)]
    pub(crate) fn remembered(&self, token: &str, now: u64) -> Option<Caller> {
        self.keys().remembered(token, now)
    }
}

fn invalid(message: &str) -> Status {
    refuse(Code::Unauthenticated, "TOKEN_INVALID", message)
}

impl Keys {
    /// Whom a token stands for that was verified before and has not ended since.
    fn remembered(&self, token: &str, now: u64) -> Option<Caller> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(token).filter(|known| now <= known.until).map(|known| known.caller.clone())
    }

    fn decode(&self, token: &str, now: u64, longest_life: Duration) -> Result<(Caller, u64), Status> {
        // RFC 7515, 4.1.11: whoever does not know an extension that is critical must refuse the token. None is known here.
        if decode_header(token).is_ok_and(|header| header.crit.is_some()) {
            return Err(invalid(
                "the token's header names a critical extension (crit), which this service does not know",
            ));
        }
        let (mut expired, mut beyond) = (false, false);
        for key in &self.all {
            match decode::<Claims>(token, &key.key, &key.validation) {
                Ok(data) if key.scope.covers(&data.claims) => {
                    return caller(data.claims, &key.scope, now, longest_life);
                }
                Ok(_) => beyond = true,
                Err(error) => expired |= matches!(error.kind(), ErrorKind::ExpiredSignature),
            }
        }
        Err(if beyond {
            invalid("the key that signed the token may not sign for its issuer or its tenant (auth.keys)")
        } else if expired {
            refuse(Code::Unauthenticated, "TOKEN_EXPIRED", "the token has expired: get a new one")
        } else {
            invalid("the token is not one that a configured key has signed for this service")
        })
    }
}

/// Whom verified claims stand for, and until when.
fn caller(claims: Claims, scope: &Scope, now: u64, longest_life: Duration) -> Result<(Caller, u64), Status> {
    let Some(issued) = claims.iat else {
        return Err(invalid("the token must say when it was issued (iat)"));
    };
    let issued = issued.min(i64::try_from(now).unwrap_or(i64::MAX));
    let life = u64::try_from(claims.exp.saturating_sub(issued)).unwrap_or_default();
    if life > longest_life.as_secs() {
        let hours = longest_life.as_secs() / 3600;
        return Err(invalid(&format!(
            "the token is valid for longer than {hours} hours: get one with a shorter life (auth.longest_token_hours)"
        )));
    }
    match TenantId::new(&claims.tenant) {
        Err(_) => return Err(invalid("the token's tenant is no identifier")),
        Ok(tenant) if tenant.is_reserved() => {
            return Err(invalid("the token's tenant is reserved for the operator's own catalog"));
        }
        Ok(_) => {}
    }
    if claims.sub.is_empty() || claims.sub.len() > MAX_SUBJECT {
        return Err(invalid("the token's subject must have 1 to 128 bytes"));
    }
    if !is_one_line(&claims.sub) {
        return Err(invalid(&format!("the token's subject {ONE_LINE}")));
    }
    let roles = scope.roles(&claims);
    let until = u64::try_from(claims.exp).unwrap_or_default().saturating_add(LEEWAY);
    Ok((Caller { subject: claims.sub, tenant: claims.tenant, roles }, until))
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

/// Each PEM text of a file. What stands behind the last one is one too, so that it is not passed over.
fn blocks(text: &str) -> Vec<String> {
    let (mut blocks, mut block) = (Vec::new(), String::new());
    for line in text.lines() {
        block += line;
        block.push('\n');
        if line.starts_with("-----END") {
            blocks.push(std::mem::take(&mut block));
        }
    }
    if !block.trim().is_empty() {
        blocks.push(block);
    }
    blocks
}
