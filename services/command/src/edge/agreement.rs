//! The rpcs about what is agreed with the debtor.

use saldo_api::v1;
use saldo_auth::Role;
use saldo_domain::{
    agreement::{
        self, HoldAmended, HoldChange, HoldPlaced, HoldReason, HoldReleased, HoldScope, HoldTerms,
        hold::MAX_HELD_INVOICES,
    },
    command::Command,
};
use saldo_facts::{declare::Fact, sealed::NOTE};

use super::{Fields, RECORDERS, Rpc};

impl Rpc for v1::PlaceHoldRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = &["HOLD_ID_TAKEN", "INVOICE_UNKNOWN", "TOO_MANY_HOLDS"];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let hold = fields.number("hold_id", &self.hold_id);
        let given = fields.required("terms", self.terms.as_ref());
        let note = fields.free_text("note", HoldPlaced::TYPE, NOTE, &self.note);
        let given = given?;
        let (scope, reason) = (scope(given, fields), reason(given, fields));
        let from = fields.optional_date("terms.from", given.from);
        let until = fields.optional_date("terms.until", given.until);
        if let (Some(Some(from)), Some(Some(until))) = (from, until)
            && until < from
        {
            fields.add("terms.until", "must not be before the first day");
            return None;
        }
        let terms = HoldTerms { scope: scope?, from: from?, until: until?, reason: reason? };
        Some(agreement::Command::PlaceHold { hold: hold?, terms, note: note? }.into())
    }

    fn clear_personal(&mut self) {
        self.note.clear();
    }
}

impl Rpc for v1::AmendHoldRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] =
        &["HOLD_UNKNOWN", "HOLD_RELEASED", "HOLD_ENDS_BEFORE_START", "INVOICE_UNKNOWN", "TOO_MANY_HOLDS"];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let hold = fields.number("hold_id", &self.hold_id);
        let note = fields.free_text("note", HoldAmended::TYPE, NOTE, &self.note);
        let paths = fields.mask(self.update_mask.as_ref(), &["invoices", "from", "until", "reason"])?;
        let given = fields.required("terms", self.terms.as_ref())?;
        let mut change = HoldChange::default();
        for path in paths {
            match path.as_str() {
                "invoices" => change.scope = Some(scope(given, fields)?),
                "from" => change.from = Some(fields.optional_date("terms.from", given.from)?),
                "until" => change.until = Some(fields.optional_date("terms.until", given.until)?),
                "reason" => change.reason = Some(reason(given, fields)?),
                _ => return None,
            }
        }
        Some(agreement::Command::AmendHold { hold: hold?, change, note: note? }.into())
    }

    fn clear_personal(&mut self) {
        self.note.clear();
    }
}

impl Rpc for v1::ReleaseHoldRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = &["HOLD_UNKNOWN", "HOLD_RELEASED"];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let hold = fields.number("hold_id", &self.hold_id);
        let note = fields.free_text("note", HoldReleased::TYPE, NOTE, &self.note);
        Some(agreement::Command::ReleaseHold { hold: hold?, note: note? }.into())
    }

    fn clear_personal(&mut self) {
        self.note.clear();
    }
}

/// The scope of a hold: its invoices in ascending order and each once.
fn scope(terms: &v1::HoldTerms, fields: &mut Fields<'_>) -> Option<HoldScope> {
    if terms.invoices.is_empty() {
        return Some(HoldScope::Account);
    }
    if terms.invoices.len() > MAX_HELD_INVOICES {
        fields.add("terms.invoices", format!("must be at most {MAX_HELD_INVOICES}; hold the account instead"));
        return None;
    }
    let numbers: Vec<_> = (terms.invoices.iter().enumerate())
        .map(|(index, number)| fields.number(&format!("terms.invoices[{index}]"), number))
        .collect();
    let mut invoices: Vec<_> = numbers.into_iter().collect::<Option<_>>()?;
    invoices.sort();
    invoices.dedup();
    Some(HoldScope::Invoices(invoices))
}

fn reason(terms: &v1::HoldTerms, fields: &mut Fields<'_>) -> Option<HoldReason> {
    let known = HoldReason::parse(&terms.reason);
    if known.is_none() {
        let names: Vec<&str> = HoldReason::ALL.iter().map(|reason| reason.name()).collect();
        fields.add("terms.reason", format!("must be one of {}", names.join(", ")));
    }
    known
}
