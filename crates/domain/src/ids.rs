//! Identifiers. Opaque, case-sensitive, never a name or an address.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest tenant or account id, in bytes. The frame stores the length in one byte.
pub const MAX_ID_LEN: usize = 64;
/// The tenant whose chain in the catalog is the operator's own: formats and statutory tables. No creditor can have this id.
pub const SYSTEM_TENANT: &str = "system";
/// Longest document number or payment reference, in bytes.
pub const MAX_NUMBER_LEN: usize = 64;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Tenant and account ids.
    #[error("must match [A-Za-z0-9][A-Za-z0-9._-]{{0,63}}")]
    Id,
    /// Document numbers and payment references.
    #[error("must be 1 to 64 printable ASCII characters without spaces at either end")]
    Number,
}

fn is_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=MAX_ID_LEN).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_number(text: &str) -> bool {
    (1..=MAX_NUMBER_LEN).contains(&text.len())
        && text.trim().len() == text.len()
        && text.bytes().all(|b| (0x20..=0x7e).contains(&b))
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $check:ident, $error:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks `text` and takes it.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                let text = text.as_ref();
                if $check(text) { Ok(Self(text.into())) } else { Err(InvalidId::$error) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// The creditor.
    TenantId, is_id, Id
);
identifier!(
    /// An account: one debtor with one creditor.
    AccountId, is_id, Id
);
identifier!(
    /// An invoice or credit note number, or a payment reference: unique within account and document type, for ever.
    DocumentNumber, is_number, Number
);

impl TenantId {
    /// Whether this id belongs to the operator and not to a creditor.
    pub fn is_reserved(&self) -> bool {
        self.as_str() == SYSTEM_TENANT
    }
}

/// Tenant and account: the key of a record, and the unit of one history.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountKey {
    /// The creditor.
    pub tenant: TenantId,
    /// The debtor's account with it.
    pub account: AccountId,
}

impl AccountKey {
    /// Joins the two.
    pub fn new(tenant: TenantId, account: AccountId) -> Self {
        Self { tenant, account }
    }

    /// Reads `tenant/account`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let (tenant, account) = text.split_once('/').ok_or(InvalidId::Id)?;
        Ok(Self::new(TenantId::new(tenant)?, AccountId::new(account)?))
    }
}

/// `tenant/account`; unambiguous, since neither id can hold a slash.
impl fmt::Display for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.account)
    }
}
