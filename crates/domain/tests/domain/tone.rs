//! The tone never goes back: what an overdue item has heard, the next message about it says as firmly.

use std::collections::BTreeSet;

use jiff::civil::Date;
use saldo_domain::{
    command::Command,
    dunning::{self, Tone},
};

use crate::{
    speaking::{accept, live_through, local, owing, said, start_mine},
    world::{World, invoice, money, payment, reversal},
};

/// An item that has heard the second reminder, which is firm, and another whose courtesy note comes next.
fn overdue_and_coming_due() -> World {
    let mut world = owing(Date::constant(2026, 3, 2));
    live_through(&mut world, &BTreeSet::new(), local("2026-03-24T00:00:00"));
    assert_eq!(said(&world).last().map(String::as_str), Some("2026-03-23 09:00 second"));
    assert_eq!(world.ask(&invoice("F-2", &[(Date::constant(2026, 4, 2), 5_000)])), Ok(()));
    world
}

#[test]
fn a_message_is_no_firmer_than_what_was_heard() {
    let mut world = owing(Date::constant(2026, 3, 2));
    live_through(&mut world, &BTreeSet::new(), local("2026-03-24T00:00:00"));
    world.now = local("2026-04-16T10:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    let formal = world.account.dunning.open.as_ref().expect("the formal demand is due").number;
    assert_eq!(world.ask(&dunning::Command::DropContact { reminder: formal }), Ok(()));
    assert_eq!(world.ask(&invoice("F-2", &[(Date::constant(2026, 4, 20), 5_000)])), Ok(()));
    world.now = local("2026-04-17T10:00:00");
    assert_eq!(
        start_mine(&mut world).notice.step,
        "second",
        "the demand that a person dropped is not sent in its place"
    );
}

#[test]
fn a_message_that_lists_overdue_items_is_never_milder_than_the_newest_that_listed_them() {
    let mut world = overdue_and_coming_due();
    world.now = local("2026-03-30T10:00:00");
    let started = start_mine(&mut world);
    assert_eq!((started.notice.step.as_str(), started.notice.tone), ("second", Tone::Firm));
    let takes: Vec<_> = started.items.iter().map(|item| (item.invoice.to_string(), item.takes)).collect();
    assert_eq!(
        takes,
        [("F-1".to_owned(), None), ("F-2".to_owned(), Some(-3))],
        "the courtesy step is taken all the same"
    );

    let mut paid = overdue_and_coming_due();
    assert_eq!(paid.ask(&payment("P-1", money(10_000, "EUR"), &[("F-1", 10_000)])), Ok(()));
    paid.now = local("2026-03-30T10:00:00");
    assert_eq!(start_mine(&mut paid).notice.step, "courtesy", "nothing overdue is listed any more");

    // A payment that bounces opens the item again.
    assert_eq!(paid.account.ledger.settled_tones.len(), 1);
    assert_eq!(paid.ask(&reversal("P-1")), Ok(()));
    accept(&mut paid);
    assert_eq!(paid.account.ledger.settled_tones, []);
    assert_eq!(paid.ask(&invoice("F-3", &[(Date::constant(2026, 4, 9), 5_000)])), Ok(()));
    paid.now = local("2026-04-06T10:00:00");
    let started = start_mine(&mut paid);
    assert_eq!((started.items.len(), started.notice.tone), (3, Tone::Firm), "F-1 has heard a firm word");

    let mut soft = overdue_and_coming_due();
    soft.rules.policy.as_mut().expect("a policy").contact.may_soften = true;
    soft.now = local("2026-03-30T10:00:00");
    assert_eq!(start_mine(&mut soft).notice.step, "courtesy", "the policy says so");
}
