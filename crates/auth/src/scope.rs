//! What the tokens of one key may say. Whoever holds a private key can sign any claims, so a key is trusted with as little as
//! its holder needs.

use saldo_domain::ids::TenantId;

use crate::{Claims, Role};

/// What the tokens of one key may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The claim `iss` that they must have; `None`: any, or none.
    pub issuer: Option<String>,
    /// The roles that they can give. Others in a token are passed over.
    pub roles: Vec<Role>,
    /// The tenants that they can be for; `None`: every creditor.
    pub tenants: Option<Vec<TenantId>>,
}

impl Scope {
    /// Tokens of people and of the creditors' systems.
    pub fn people() -> Self {
        Self::of(&[Role::Writer, Role::Reader, Role::Operator, Role::Auditor])
    }

    /// Tokens of our own services.
    pub fn services() -> Self {
        Self::of(&[Role::Service])
    }

    /// Any role for any tenant: the key of one who explores.
    pub fn everything() -> Self {
        Self::of(&Role::ALL.map(|(role, _)| role))
    }

    fn of(roles: &[Role]) -> Self {
        Self { issuer: None, roles: roles.to_vec(), tenants: None }
    }

    pub(crate) fn covers(&self, claims: &Claims) -> bool {
        let is_issuer = self.issuer.is_none() || claims.iss == self.issuer;
        let is_tenant = |tenants: &Vec<TenantId>| tenants.iter().any(|tenant| tenant.as_str() == claims.tenant);
        is_issuer && self.tenants.as_ref().is_none_or(is_tenant)
    }

    pub(crate) fn roles(&self, claims: &Claims) -> Vec<Role> {
        let known = claims.roles.iter().filter_map(|name| Role::parse(name));
        known.filter(|role| self.roles.contains(role)).collect()
    }
}
