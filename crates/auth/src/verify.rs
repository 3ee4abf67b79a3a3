//! Verifying tokens. The key decides the algorithm, never the token's header, so that none can be confused for another.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, errors::ErrorKind};
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

/// Checks tokens; a tonic interceptor.
#[derive(Clone)]
pub struct Verifier(Arc<[(DecodingKey, Validation)]>);

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
            validation.leeway = 5;
            keys.push((key, validation));
        }
        if keys.is_empty() { Err(KeyError::None) } else { Ok(Self(keys.into())) }
    }

    /// The caller a token stands for.
    pub fn verify(&self, token: &str) -> Result<Caller, Status> {
        let invalid = |message: &str| refuse(Code::Unauthenticated, "TOKEN_INVALID", message);
        let mut expired = false;
        let claims = self.0.iter().find_map(|(key, validation)| match decode::<Claims>(token, key, validation) {
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
        if TenantId::new(&claims.tenant).is_err() {
            return Err(invalid("the token's tenant is no identifier"));
        }
        if claims.sub.is_empty() || claims.sub.len() > MAX_SUBJECT || claims.sub.chars().any(char::is_control) {
            return Err(invalid("the token's subject must be 1 to 128 bytes without control characters"));
        }
        let roles = claims.roles.iter().filter_map(|name| Role::parse(name)).collect();
        Ok(Caller { subject: claims.sub, tenant: claims.tenant, roles })
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
