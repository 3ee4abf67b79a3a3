//! Callers are known by a JWT on every call, which is verified against configured public keys. Tenant, actor and roles come
//! from it and from nowhere else.

mod declared;
mod issue;
mod scope;
mod verify;

use std::fmt;

use serde::{Deserialize, Serialize};
use tonic::{Code, Extensions, Request, Status};
use tonic_types::{ErrorDetails, StatusExt};

pub use declared::{Declared, contradictions};
pub use issue::{Issuer, IssuerError};
pub use scope::Scope;
pub use verify::{KeyError, PublicKey, Verifier};

/// The audience every token must name.
pub const AUDIENCE: &str = "saldo";
/// The ErrorInfo domain of our errors.
pub const ERROR_DOMAIN: &str = "saldo";

/// A role, which permits some rpcs. Roles are not ranked: a caller has those its token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Role {
    /// Records facts.
    Writer,
    /// Reads the read models.
    Reader,
    /// Runs the service: time, policies, rebuilds.
    Operator,
    /// Reads everything, records nothing.
    Auditor,
    /// One of our own services.
    Service,
}

impl Role {
    const ALL: [(Role, &'static str); 5] = [
        (Role::Writer, "writer"),
        (Role::Reader, "reader"),
        (Role::Operator, "operator"),
        (Role::Auditor, "auditor"),
        (Role::Service, "service"),
    ];

    /// The role of this name.
    pub fn parse(name: &str) -> Option<Role> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(role, _)| *role)
    }

    /// Its name in a token.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(role, _)| *role == self).map_or("", |(_, name)| name)
    }
}

impl TryFrom<String> for Role {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::parse(&name).ok_or("must be writer, reader, operator, auditor or service")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A caller, from a verified token. Interceptors put it into the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's subject; stands in the commit as its actor.
    pub subject: String,
    /// The creditor.
    pub tenant: String,
    /// Roles this release knows; others in the token are passed over.
    pub roles: Vec<Role>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    aud: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    /// When it was signed, from which its life counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    tenant: String,
    roles: Vec<String>,
}

/// The verified caller of a request with these extensions.
pub fn caller(extensions: &Extensions) -> Result<&Caller, Status> {
    extensions.get().ok_or_else(|| refuse(Code::Unauthenticated, "TOKEN_MISSING", MISSING))
}

/// The verified caller, if it has one of these roles.
pub fn authorize<T>(request: &Request<T>, allowed: &[Role]) -> Result<Caller, Status> {
    let caller = caller(request.extensions())?;
    if caller.roles.iter().any(|role| allowed.contains(role)) {
        return Ok(caller.clone());
    }
    let names: Vec<&str> = allowed.iter().map(|role| role.name()).collect();
    let message = format!("the token lacks the role this call needs: {}", names.join(" or "));
    Err(refuse(Code::PermissionDenied, "ROLE_MISSING", &message))
}

const MISSING: &str = "no token: send `authorization: Bearer <JWT>` (`saldo token` makes one for trying)";

fn refuse(code: Code, reason: &str, message: &str) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []))
}

#[cfg(test)]
mod tests;
