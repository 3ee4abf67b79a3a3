//! From a request to a domain command. Every field is checked and every broken rule is named; then personal values are
//! sealed.
//!
//! A command rpc is declared once: by [`Rpc`] on its request, in the file of its subject. Everything else follows from
//! the declaration. The gRPC service serves every rpc of command.proto through it, so a missing declaration does not
//! compile. [`RPCS`] lists the declarations for the access tests, and a test compares the comments of command.proto with them.

mod agreement;
mod dunning;
mod fields;
mod ledger;
mod outcome;
mod party;
mod profile;
mod seal;
mod time;

use saldo_api::{CommandRequest, v1};
use saldo_auth::{Declared, Role};
use saldo_domain::{
    command::Command,
    ids::{AccountId, AccountKey, TenantId},
};

pub use self::{
    fields::Fields,
    profile::{check_address, check_line},
    seal::{AMENDED, Count, NothingSealed, OPENED, Seal, UnderKey},
};
use crate::{failure::Failure, violations::Violation};

/// Longest request id, in bytes; a UUID has 36.
pub const MAX_REQUEST_ID_LEN: usize = 64;

/// The rule of [`is_request_id`].
pub const REQUEST_ID_RULE: &str = "must be 1 to 64 printable ASCII characters without spaces, for example a UUID";

/// The role that records facts: people and systems of the creditor. Our own services record no money and no profile.
const RECORDERS: &[Role] = &[Role::Writer];
/// The role that hands messages over.
const SENDERS: &[Role] = &[Role::Service];
/// The role of people who decide where a machine may not.
const OPERATORS: &[Role] = &[Role::Operator];
/// The roles that wake accounts.
const TIMEKEEPERS: &[Role] = &[Role::Operator, Role::Service];

/// The declaration of a command rpc, implemented for its request. [`CommandRequest`] has what is generated from
/// command.proto: the rpc's name and the fields that all requests share.
#[diagnostic::on_unimplemented(
    message = "the command rpc of `{Self}` is not declared",
    note = "implement `Rpc` for it in services/command/src/edge/<subject>.rs"
)]
pub trait Rpc: CommandRequest {
    /// The roles that may call it; one of them is enough.
    const ROLES: &'static [Role];
    /// The reasons for which the account may refuse it, besides ACCOUNT_UNKNOWN.
    const REFUSALS: &'static [&'static str];
    /// Whether it may come before the account has a history. Only then a key is made for an unknown account.
    const OPENS_ACCOUNT: bool = false;

    /// Reads the command out of the request. Fields that break a rule are noted, and then there is no command.
    fn command(&self, fields: &mut Fields<'_>) -> Option<Command>;

    /// Empties every field that [`Rpc::command`] seals: a commit holds the request without them.
    fn clear_personal(&mut self);

    /// The claim of a sender. The snapshot of the message goes to its holder alone.
    fn claim(&self) -> &[u8] {
        &[]
    }
}

macro_rules! declared {
    ($($function:ident $request:ident;)*) => {
        &[$(Declared::of::<v1::$request>(<v1::$request as Rpc>::ROLES, <v1::$request as Rpc>::REFUSALS)),*]
    };
}

/// Every command rpc, in the order of command.proto.
pub const RPCS: &[Declared] = saldo_api::command_rpcs!(declared);

/// The account that a request of this tenant asks.
pub fn account_key<R: Rpc>(tenant: &TenantId, request: &R) -> Result<AccountKey, Failure> {
    AccountId::new(request.account_id())
        .map(|account| AccountKey::new(tenant.clone(), account))
        .map_err(|rule| Failure::Invalid(vec![Violation { field: "account_id".into(), rule: rule.to_string() }]))
}

/// Whether a text can be the id of a request.
pub fn is_request_id(id: &str) -> bool {
    (1..=MAX_REQUEST_ID_LEN).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Checks the whole request without sealing anything. Returns how many personal values it holds.
pub fn check<R: Rpc>(request: &R) -> Result<usize, Failure> {
    let mut count = Count::default();
    let mut fields = Fields::new(&mut count);
    if !is_request_id(request.request_id()) {
        fields.add("request_id", REQUEST_ID_RULE);
    }
    if let Err(rule) = AccountId::new(request.account_id()) {
        fields.add("account_id", rule);
    }
    request.command(&mut fields);
    fields.into_result()?;
    Ok(count.0)
}

/// Builds the command of a request that [`check`] has passed.
pub fn command<R: Rpc>(request: &R, seal: &mut dyn Seal) -> Result<Command, Failure> {
    let mut fields = Fields::new(seal);
    request.command(&mut fields).ok_or_else(|| Failure::Invalid(fields.into_violations()))
}

/// The request re-encoded without its request id: what the fingerprint covers.
pub fn fingerprint_body<R: Rpc>(request: &R) -> Vec<u8> {
    let mut request = request.clone();
    request.clear_request_id();
    request.encode_to_vec()
}

/// The request re-encoded without its request id and its personal values: what the commit stores.
pub fn stored_body<R: Rpc>(request: &R) -> Vec<u8> {
    let mut request = request.clone();
    request.clear_request_id();
    request.clear_personal();
    debug_assert!(holds_nothing_personal(&request), "{}: clear_personal leaves a sealed value", R::METHOD);
    request.encode_to_vec()
}

/// Whether nothing of the request would be sealed.
fn holds_nothing_personal<R: Rpc>(request: &R) -> bool {
    let mut count = Count::default();
    request.command(&mut Fields::new(&mut count));
    count.0 == 0
}

#[cfg(test)]
mod tests {
    use saldo_domain::refusal::Refusal;

    use super::RPCS;

    #[test]
    fn every_rpc_is_documented_as_it_is_declared() {
        assert_eq!(saldo_auth::contradictions(RPCS), Vec::<String>::new());
    }

    #[test]
    fn every_refusal_of_the_domain_is_declared_by_an_rpc_and_no_other_is() {
        let known: Vec<&str> = Refusal::reasons().map(|(reason, _)| reason).collect();
        for declared in RPCS {
            for reason in declared.reasons {
                assert!(known.contains(reason), "{} declares {reason}, which no subject refuses with", declared.method);
            }
        }
        for reason in known {
            // The edge answers ACCOUNT_UNKNOWN itself, whatever the rpc.
            let declared = reason == "ACCOUNT_UNKNOWN" || RPCS.iter().any(|rpc| rpc.reasons.contains(&reason));
            assert!(declared, "no rpc declares {reason}");
        }
    }
}
