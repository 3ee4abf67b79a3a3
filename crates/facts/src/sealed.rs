//! Where sealed values stand: the field names that are part of each seal's associated data.

use prost::Message;
use saldo_api::v1;
use saldo_domain::{
    agreement::{HoldAmended, HoldPlaced, HoldReleased},
    dunning::{ContactAccepted, ContactDeferred, ContactRejected, ContactUnknown, ContactWithheld, ReminderDue},
    ledger::{
        CreditNoteDeallocated, CreditRefunded, InvoiceCredited, InvoiceIssued, InvoiceVoided, PaymentDeallocated,
        PaymentRecorded, PaymentReversed,
    },
    party::{AccountAmended, AccountOpened},
    sealed::Sealed,
};

use crate::declare::Fact;

/// The display name of account.opened and account.amended.
pub const DISPLAY_NAME: &str = "display_name";
/// The address of a contact point of account.opened and account.amended.
pub const CONTACT_ADDRESS: &str = "contact_points.address";
/// The description of invoice.issued.
pub const DESCRIPTION: &str = "description";
/// The reason of invoice.credited, invoice.voided, payment.deallocated, credit_note.deallocated, payment.reversed and
/// credit.refunded.
pub const REASON: &str = "reason";
/// The note of hold.placed, hold.amended and hold.released, and of reminder.due and contact.withheld.
pub const NOTE: &str = "note";
/// The remittance text of payment.recorded.
pub const REMITTANCE: &str = "remittance";

/// The exact bytes handed over, of contact.accepted, contact.rejected and contact.unknown.
pub const MESSAGE: &str = "handed.message";
/// The provider's words, of contact.accepted, contact.rejected and contact.deferred.
pub const REPLY: &str = "reply";

/// Stands for the type of the fact that an outcome's values are sealed for: they are sealed before the fact is decided.
pub const CONTACT: &str = "contact";

/// The sealed fields of each fact. `contact.started` has none of its own: it repeats the name and the address of the profile.
pub const FIELDS: &[(&str, &[&str])] = &[
    (AccountOpened::TYPE, &[DISPLAY_NAME, CONTACT_ADDRESS]),
    (AccountAmended::TYPE, &[DISPLAY_NAME, CONTACT_ADDRESS]),
    (InvoiceIssued::TYPE, &[DESCRIPTION]),
    (InvoiceCredited::TYPE, &[REASON]),
    (InvoiceVoided::TYPE, &[REASON]),
    (PaymentRecorded::TYPE, &[REMITTANCE]),
    (PaymentDeallocated::TYPE, &[REASON]),
    (CreditNoteDeallocated::TYPE, &[REASON]),
    (PaymentReversed::TYPE, &[REASON]),
    (CreditRefunded::TYPE, &[REASON]),
    (ReminderDue::TYPE, &[NOTE]),
    (ContactWithheld::TYPE, &[NOTE]),
    (ContactAccepted::TYPE, &[MESSAGE, REPLY]),
    (ContactDeferred::TYPE, &[REPLY]),
    (ContactRejected::TYPE, &[MESSAGE, REPLY]),
    (ContactUnknown::TYPE, &[MESSAGE]),
    (HoldPlaced::TYPE, &[NOTE]),
    (HoldAmended::TYPE, &[NOTE]),
    (HoldReleased::TYPE, &[NOTE]),
];

/// Whether a value may be sealed for this field of this type of fact.
pub fn is_field(kind: &str, field: &str) -> bool {
    let is_of = |fact: &str| fact == kind || (kind == CONTACT && fact.starts_with("contact."));
    FIELDS.iter().any(|(fact, fields)| is_of(fact) && fields.contains(&field))
}

/// The stored message inside the domain's opaque value; `None` where the bytes are not one.
pub fn sealed_message(sealed: &Sealed) -> Option<v1::Sealed> {
    v1::Sealed::decode(sealed.0.as_slice()).ok()
}

/// The domain's opaque value around a stored message.
pub fn opaque(message: &v1::Sealed) -> Sealed {
    Sealed(message.encode_to_vec())
}
