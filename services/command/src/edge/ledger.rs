//! The rpcs about what is owed and what was paid.

use saldo_api::v1::{self, refund_credit_request::Credit};
use saldo_auth::Role;
use saldo_domain::{
    command::Command,
    ledger::{
        self, CreditKind, CreditNoteDeallocated, CreditRefunded, Excess, InvoiceCredited, InvoiceIssued, InvoiceVoided,
        PaymentDeallocated, PaymentRecorded, PaymentReversed, invoice,
    },
};
use saldo_facts::{
    declare::Fact,
    sealed::{DESCRIPTION, REASON, REMITTANCE},
};

use super::{Fields, RECORDERS, Rpc};

impl Rpc for v1::IssueInvoiceRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = &["INVOICE_NUMBER_TAKEN", "TOO_MANY_OPEN_ITEMS"];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let number = fields.number("number", &self.number);
        let total = fields.amount("total", self.total.as_ref());
        let issue_date = fields.date("issue_date", self.issue_date);
        let due_date = fields.optional_date("due_date", self.due_date);
        let mut parts = Vec::with_capacity(self.instalments.len());
        for (index, part) in self.instalments.iter().enumerate() {
            let due = fields.date(&format!("instalments[{index}].due_date"), part.due_date);
            parts.push(due.map(|due| (due, part.amount_minor)));
        }
        let description = fields.free_text("description", InvoiceIssued::TYPE, DESCRIPTION, &self.description);
        let (number, total, issue_date, due_date) = (number?, total?, issue_date?, due_date?);
        let parts: Vec<_> = parts.into_iter().collect::<Option<_>>()?;
        match invoice::schedule(total, issue_date, due_date, &parts) {
            Ok(instalments) => Some(
                ledger::Command::IssueInvoice { number, total, issue_date, instalments, description: description? }
                    .into(),
            ),
            Err(faults) => {
                faults.into_iter().for_each(|fault| fields.add(fault.field, fault.rule));
                None
            }
        }
    }

    fn clear_personal(&mut self) {
        self.description.clear();
    }
}

impl Rpc for v1::CreditInvoiceRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = &[
        "CREDIT_NOTE_NUMBER_TAKEN",
        "INVOICE_UNKNOWN",
        "INVOICE_VOIDED",
        "CREDIT_BEFORE_INVOICE",
        "DATE_IN_FUTURE",
        "CURRENCY_MISMATCH",
        "TOO_MANY_OPEN_ITEMS",
    ];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let credit_note = fields.number("credit_note_number", &self.credit_note_number);
        let invoice = fields.number("invoice_number", &self.invoice_number);
        let amount = fields.amount("amount", self.amount.as_ref());
        let credit_date = fields.date("credit_date", self.credit_date);
        let reason = fields.free_text("reason", InvoiceCredited::TYPE, REASON, &self.reason);
        Some(
            ledger::Command::CreditInvoice {
                credit_note: credit_note?,
                invoice: invoice?,
                amount: amount?,
                credit_date: credit_date?,
                reason: reason?,
            }
            .into(),
        )
    }

    fn clear_personal(&mut self) {
        self.reason.clear();
    }
}

impl Rpc for v1::VoidInvoiceRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] =
        &["INVOICE_UNKNOWN", "INVOICE_VOIDED", "VOID_BEFORE_ISSUE", "DATE_IN_FUTURE", "INVOICE_HAS_ALLOCATIONS"];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let number = fields.number("invoice_number", &self.invoice_number);
        let void_date = fields.date("void_date", self.void_date);
        let reason = fields.free_text("reason", InvoiceVoided::TYPE, REASON, &self.reason);
        Some(ledger::Command::VoidInvoice { number: number?, void_date: void_date?, reason: reason? }.into())
    }

    fn clear_personal(&mut self) {
        self.reason.clear();
    }
}

impl Rpc for v1::RecordPaymentRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = &[
        "PAYMENT_REFERENCE_TAKEN",
        "DATE_IN_FUTURE",
        "CURRENCY_MISMATCH",
        "INVOICE_UNKNOWN",
        "INVOICE_VOIDED",
        "ITEM_NOT_OPEN",
        "OVER_ALLOCATION",
        "TOO_MANY_OPEN_ITEMS",
    ];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let reference = fields.number("reference", &self.reference);
        let amount = fields.amount("amount", self.amount.as_ref());
        let value_date = fields.date("value_date", self.value_date);
        let designations = fields.designations(&self.allocations);
        if self.keep_unapplied && !self.allocations.is_empty() {
            fields.add("allocations", "must be empty where keep_unapplied is set");
        }
        let remittance = fields.free_text("remittance", PaymentRecorded::TYPE, REMITTANCE, &self.remittance);
        Some(
            ledger::Command::RecordPayment {
                reference: reference?,
                amount: amount?,
                value_date: value_date?,
                designations: designations?,
                keep_unapplied: self.keep_unapplied,
                excess: if self.keep_excess_unapplied { Excess::Unapplied } else { Excess::Refused },
                remittance: remittance?,
            }
            .into(),
        )
    }

    fn clear_personal(&mut self) {
        self.remittance.clear();
    }
}

/// The refusals of credit that is applied: those of its document, and what every allocation can be refused for.
macro_rules! of_allocation {
    ($($document:literal),+) => {
        &[
            $($document,)+
            "BEFORE_CREDIT",
            "DATE_IN_FUTURE",
            "NOTHING_UNAPPLIED",
            "NOTHING_OPEN",
            "CURRENCY_MISMATCH",
            "INVOICE_UNKNOWN",
            "INVOICE_VOIDED",
            "ITEM_NOT_OPEN",
            "OVER_ALLOCATION",
            "TOO_MANY_OPEN_ITEMS",
        ]
    };
}

/// The refusals of allocations that are taken back: those of their document, and what every taking back can be refused for.
macro_rules! of_deallocation {
    ($($document:literal),+) => {
        &[
            $($document,)+
            "BEFORE_CREDIT",
            "DATE_IN_FUTURE",
            "NOTHING_ALLOCATED",
            "ALLOCATION_UNKNOWN",
            "TOO_MANY_OPEN_ITEMS",
        ]
    };
}

impl Rpc for v1::AllocatePaymentRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = of_allocation!("PAYMENT_UNKNOWN", "PAYMENT_ALREADY_REVERSED");

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let reference = fields.number("reference", &self.reference);
        let designations = fields.designations(&self.allocations);
        let allocation_date = fields.optional_date("allocation_date", self.allocation_date);
        let (reference, designations, allocation_date) = (reference?, designations?, allocation_date?);
        Some(ledger::Command::AllocatePayment { reference, designations, allocation_date }.into())
    }

    fn clear_personal(&mut self) {}
}

impl Rpc for v1::DeallocatePaymentRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = of_deallocation!("PAYMENT_UNKNOWN", "PAYMENT_ALREADY_REVERSED");

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let reference = fields.number("reference", &self.reference);
        let items = fields.allocated_items("items", &self.items);
        let deallocation_date = fields.optional_date("deallocation_date", self.deallocation_date);
        let reason = fields.free_text("reason", PaymentDeallocated::TYPE, REASON, &self.reason);
        Some(
            ledger::Command::DeallocatePayment {
                reference: reference?,
                items: items?,
                deallocation_date: deallocation_date?,
                reason: reason?,
            }
            .into(),
        )
    }

    fn clear_personal(&mut self) {
        self.reason.clear();
    }
}

impl Rpc for v1::AllocateCreditNoteRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = of_allocation!("CREDIT_NOTE_UNKNOWN");

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let credit_note = fields.number("credit_note_number", &self.credit_note_number);
        let designations = fields.designations(&self.allocations);
        let allocation_date = fields.optional_date("allocation_date", self.allocation_date);
        let (credit_note, designations, allocation_date) = (credit_note?, designations?, allocation_date?);
        Some(ledger::Command::AllocateCreditNote { credit_note, designations, allocation_date }.into())
    }

    fn clear_personal(&mut self) {}
}

impl Rpc for v1::DeallocateCreditNoteRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = of_deallocation!("CREDIT_NOTE_UNKNOWN");

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let credit_note = fields.number("credit_note_number", &self.credit_note_number);
        let items = fields.allocated_items("items", &self.items);
        let deallocation_date = fields.optional_date("deallocation_date", self.deallocation_date);
        let reason = fields.free_text("reason", CreditNoteDeallocated::TYPE, REASON, &self.reason);
        Some(
            ledger::Command::DeallocateCreditNote {
                credit_note: credit_note?,
                items: items?,
                deallocation_date: deallocation_date?,
                reason: reason?,
            }
            .into(),
        )
    }

    fn clear_personal(&mut self) {
        self.reason.clear();
    }
}

impl Rpc for v1::RefundCreditRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = &[
        "REFUND_REFERENCE_TAKEN",
        "PAYMENT_UNKNOWN",
        "PAYMENT_ALREADY_REVERSED",
        "CREDIT_NOTE_UNKNOWN",
        "BEFORE_CREDIT",
        "DATE_IN_FUTURE",
        "NOTHING_UNAPPLIED",
        "CURRENCY_MISMATCH",
        "REFUND_EXCEEDS_CREDIT",
    ];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let reference = fields.number("reference", &self.reference);
        let credit = match &self.credit {
            Some(Credit::PaymentReference(number)) => {
                fields.number("payment_reference", number).map(|number| (CreditKind::Payment, number))
            }
            Some(Credit::CreditNoteNumber(number)) => {
                fields.number("credit_note_number", number).map(|number| (CreditKind::CreditNote, number))
            }
            None => fields.required("credit", None),
        };
        let amount = fields.amount("amount", self.amount.as_ref());
        let refund_date = fields.date("refund_date", self.refund_date);
        let reason = fields.free_text("reason", CreditRefunded::TYPE, REASON, &self.reason);
        let (kind, document) = credit?;
        Some(
            ledger::Command::RefundCredit {
                reference: reference?,
                kind,
                document,
                amount: amount?,
                refund_date: refund_date?,
                reason: reason?,
            }
            .into(),
        )
    }

    fn clear_personal(&mut self) {
        self.reason.clear();
    }
}

impl Rpc for v1::ReversePaymentRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = &[
        "PAYMENT_UNKNOWN",
        "PAYMENT_ALREADY_REVERSED",
        "PAYMENT_REFUNDED",
        "REVERSAL_BEFORE_PAYMENT",
        "DATE_IN_FUTURE",
        "TOO_MANY_OPEN_ITEMS",
    ];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let reference = fields.number("reference", &self.reference);
        let reversal_date = fields.date("reversal_date", self.reversal_date);
        let reason = fields.free_text("reason", PaymentReversed::TYPE, REASON, &self.reason);
        Some(
            ledger::Command::ReversePayment { reference: reference?, reversal_date: reversal_date?, reason: reason? }
                .into(),
        )
    }

    fn clear_personal(&mut self) {
        self.reason.clear();
    }
}
