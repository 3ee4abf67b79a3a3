//! Amounts and where they go.

use saldo_api::v1;
use saldo_domain::{
    ledger::Designation,
    money::{Currency, Money, check_amount},
};

use super::fields;
use crate::violations::Violations;

/// Most designations of one payment.
const MAX_DESIGNATIONS: usize = 1_000;

/// An amount that must be given.
pub fn amount(field: &str, money: Option<&v1::Money>, rules: &mut Violations) -> Option<Money> {
    let Some(money) = money else {
        rules.add(field, "is required");
        return None;
    };
    let currency = rules.check(format!("{field}.currency"), Currency::new(&money.currency));
    let checked = rules.check(format!("{field}.minor_units"), check_amount(money.minor_units));
    checked?;
    Some(Money { minor: money.minor_units, currency: currency? })
}

/// What a payment is to settle.
pub fn designations(allocations: &[v1::Allocation], rules: &mut Violations) -> Option<Vec<Designation>> {
    if allocations.len() > MAX_DESIGNATIONS {
        rules.add("allocations", format!("must be at most {MAX_DESIGNATIONS}"));
        return None;
    }
    let mut designations = Vec::with_capacity(allocations.len());
    for (index, allocation) in allocations.iter().enumerate() {
        let path = format!("allocations[{index}]");
        let invoice = fields::number(&format!("{path}.invoice_number"), &allocation.invoice_number, rules);
        let amount = rules.check(format!("{path}.amount_minor"), check_amount(allocation.amount_minor));
        if allocation.instalment == Some(0) {
            rules.add(format!("{path}.instalment"), "must be 1 or more");
            continue;
        }
        if let (Some(invoice), Some(())) = (invoice, amount) {
            designations.push(Designation {
                invoice,
                instalment: allocation.instalment,
                amount: allocation.amount_minor,
            });
        }
    }
    (designations.len() == allocations.len()).then_some(designations)
}
