//! Invariants after any sequence of commands.

use jiff::{ToSpan, civil::Date};
use proptest::prelude::*;
use saldo_domain::{account::Account, ledger, money::Currency};

use crate::world::{World, as_if_never_settled, invoice, money, number, payment, reversal};

#[derive(Debug, Clone)]
enum Try {
    Invoice(u8, Vec<i64>),
    Credit(u8, u8, i64),
    Void(u8),
    Pay(u8, i64, Option<(u8, i64)>),
    Allocate(u8),
    Reverse(u8),
}

fn tries() -> impl Strategy<Value = Vec<Try>> {
    let amount = 1..5_000i64;
    let one = prop_oneof![
        3 => (0..8u8, prop::collection::vec(1..3_000i64, 1..4)).prop_map(|(n, parts)| Try::Invoice(n, parts)),
        2 => (0..8u8, 0..8u8, amount.clone()).prop_map(|(n, of, minor)| Try::Credit(n, of, minor)),
        1 => (0..8u8).prop_map(Try::Void),
        4 => (0..8u8, amount, prop::option::of((0..8u8, 1..3_000i64))).prop_map(|(n, minor, to)| Try::Pay(n, minor, to)),
        2 => (0..8u8).prop_map(Try::Allocate),
        2 => (0..8u8).prop_map(Try::Reverse),
    ];
    prop::collection::vec(one, 1..40)
}

fn command(one: &Try) -> ledger::Command {
    let first = Date::constant(2026, 1, 2);
    match one {
        Try::Invoice(n, parts) => {
            let due = |at: usize| first.saturating_add((at as i64 * 10).days());
            let parts: Vec<(Date, i64)> = parts.iter().enumerate().map(|(at, minor)| (due(at), *minor)).collect();
            invoice(&format!("F-{n}"), &parts)
        }
        Try::Credit(n, of, minor) => ledger::Command::CreditInvoice {
            credit_note: number(&format!("A-{n}")),
            invoice: number(&format!("F-{of}")),
            amount: money(*minor, "EUR"),
            credit_date: first,
            reason: None,
        },
        Try::Void(n) => {
            ledger::Command::VoidInvoice { number: number(&format!("F-{n}")), void_date: first, reason: None }
        }
        Try::Pay(n, minor, to) => {
            let to: Vec<(String, i64)> = to.iter().map(|(of, minor)| (format!("F-{of}"), *minor)).collect();
            let to: Vec<(&str, i64)> = to.iter().map(|(of, minor)| (of.as_str(), *minor)).collect();
            payment(&format!("P-{n}"), money(*minor, "EUR"), &to)
        }
        Try::Allocate(n) => {
            let reference = number(&format!("P-{n}"));
            ledger::Command::AllocatePayment { reference, designations: vec![], allocation_date: None }
        }
        Try::Reverse(n) => reversal(&format!("P-{n}")),
    }
}

proptest! {
    /// The balance is what was invoiced less what was credited, voided and paid, whatever was refused between.
    #[test]
    fn the_balance_follows_the_documents(tries in tries()) {
        let mut world = World::opened();
        let eur = Currency::new("EUR").expect("EUR");
        let mut expected: i128 = 0;
        let mut paid = std::collections::HashMap::new();
        let mut invoiced = std::collections::HashMap::new();
        for one in &tries {
            let done = world.ask(&command(one)).is_ok();
            if done {
                expected += match one {
                    Try::Invoice(n, parts) => {
                        let total: i64 = parts.iter().sum();
                        invoiced.insert(*n, total);
                        total.into()
                    }
                    Try::Credit(_, _, minor) => -i128::from(*minor),
                    Try::Void(n) => -i128::from(invoiced[n]),
                    Try::Pay(n, minor, _) => {
                        paid.insert(*n, *minor);
                        -i128::from(*minor)
                    }
                    Try::Reverse(n) => paid[n].into(),
                    Try::Allocate(_) => 0,
                };
            }
            prop_assert_eq!(world.account.ledger.balance(eur), expected);
            prop_assert!(world.account.ledger.items.iter().all(|item| item.open > 0));
            prop_assert!(world.account.ledger.credits.iter().all(|credit| credit.remaining > 0));
        }
    }

    /// Paying and taking it back leaves the account as it was.
    #[test]
    fn a_reversal_undoes_its_payment(tries in tries(), minor in 1..20_000i64) {
        let mut world = World::opened();
        // Otherwise the credit that waits is applied to what the reversal opens.
        world.rules.apply_credit = ledger::ApplyCredit::Leave;
        for one in &tries {
            let _ = world.ask(&command(one));
        }
        let before = as_if_never_settled(&world.account);
        if world.ask(&payment("P-last", money(minor, "EUR"), &[])).is_ok() {
            world.ask(&reversal("P-last")).expect("reversed");
            prop_assert_eq!(as_if_never_settled(&world.account), before);
        }
    }

    /// A stored state reads back as it was.
    #[test]
    fn a_state_survives_storage(tries in tries()) {
        let mut world = World::opened();
        for one in &tries {
            let _ = world.ask(&command(one));
        }
        let stored = postcard::to_stdvec(&world.account).expect("stored");
        prop_assert_eq!(postcard::from_bytes::<Account>(&stored).expect("read"), world.account);
    }
}
