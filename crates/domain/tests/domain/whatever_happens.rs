//! Invariants of reminders after random events.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date};
use proptest::prelude::*;
use saldo_domain::{
    agreement::{self, HoldAmended, HoldChange, HoldPlaced, HoldReason, HoldReleased, HoldScope, HoldTerms},
    command::Command,
    dunning::{self, ContactDeferred, ContactStarted, ContactWithheld, Outcome, ReminderState, Tone, WithheldReason},
    event::Event,
    ids::DocumentNumber,
    ledger::{self, PaymentReversed},
};

use crate::{
    ladder::{ladder, zone},
    speaking::{
        MINE, accepted, live, live_through, local, owing, put_off, put_off_by, refused_message, said, settle, start,
    },
    tries::too_slow,
    world::{World, invoice, money, number, payment, reversal},
};

/// An event on the account while time passes.
#[derive(Debug, Clone)]
enum Turn {
    /// Time passes, and what is due is sent.
    Live,
    /// Time passes; what is due waits for its sender.
    Wake,
    /// The reminder that waits is started, and then under way.
    Start,
    /// The outcome of the attempt under way.
    Settle(Became),
    Pay(i64),
    Reverse(usize),
    Invoice(i64, i64),
    /// A hold of the account, or of one invoice: the first day and the last, from today on.
    Hold(usize, Option<usize>, Option<i64>, Option<i64>),
    Prolong(usize, Option<i64>),
    Release(usize),
    /// A person has the newest reminder said again that reached nobody for certain.
    Retry,
    /// A person drops the open reminder, or the newest that reached nobody for certain.
    Drop,
    Sending(bool),
}

#[derive(Debug, Clone)]
enum Became {
    Accepted,
    Rejected,
    Unknown,
    Failed,
    TooSlow,
}

fn turns() -> impl Strategy<Value = Vec<(i64, Turn)>> {
    let became = prop::sample::select(vec![
        Became::Accepted,
        Became::Accepted,
        Became::Rejected,
        Became::Unknown,
        Became::Failed,
        Became::TooSlow,
    ]);
    let days = || prop::option::weighted(0.7, -5..30i64);
    let turn = prop_oneof![
        6 => Just(Turn::Live),
        4 => Just(Turn::Wake),
        6 => Just(Turn::Start),
        6 => became.prop_map(Turn::Settle),
        2 => (1..6_000i64).prop_map(Turn::Pay),
        1 => (0..4usize).prop_map(Turn::Reverse),
        2 => (-40..40i64, 1..9_000i64).prop_map(|(due, minor)| Turn::Invoice(due, minor)),
        2 => (0..5usize, prop::option::of(1..5usize), days(), days()).prop_map(|(n, of, from, until)| Turn::Hold(n, of, from, until)),
        1 => (0..5usize, days()).prop_map(|(n, until)| Turn::Prolong(n, until)),
        2 => (0..5usize).prop_map(Turn::Release),
        2 => Just(Turn::Retry),
        1 => Just(Turn::Drop),
        1 => prop::bool::weighted(0.8).prop_map(Turn::Sending),
    ];
    prop::collection::vec((1..5_000i64, turn), 1..80)
}

fn hold_terms(of: Option<usize>, from: Option<Date>, until: Option<Date>) -> HoldTerms {
    let of_one = |one| HoldScope::Invoices(vec![number(&format!("F-{one}"))]);
    HoldTerms { scope: of.map_or(HoldScope::Account, of_one), from, until, reason: HoldReason::Complaint }
}

/// The results of the events so far.
#[derive(Default)]
struct Made {
    payments: usize,
    invoices: usize,
}

impl Turn {
    /// Many turns are refused: nothing is under way, the hold is not there, the invoice is paid.
    fn happen(self, world: &mut World, made: &mut Made) {
        let today = world.now.to_zoned(zone("Europe/Madrid")).date();
        let on = |days: Option<i64>| days.map(|days| today.saturating_add(days.days()));
        let open = world.account.dunning.open.clone();
        let under_way = open.clone().filter(|open| matches!(open.state, ReminderState::Started { .. }));
        match self {
            Turn::Live => live(world, world.now),
            Turn::Wake => assert_eq!(world.ask(&Command::AdvanceTime), Ok(())),
            Turn::Start => {
                if let Some(open) = open {
                    start(world, open.number, MINE);
                }
            }
            Turn::Settle(became) => {
                let Some(open) = under_way else { return };
                let outcome = match became {
                    Became::Accepted => accepted(),
                    Became::Rejected => refused_message(),
                    Became::Unknown => Outcome::Unknown { handed: None },
                    Became::Failed => put_off(),
                    Became::TooSlow => put_off_by(too_slow()),
                };
                let _ = settle(world, open.number, open.attempts, outcome);
            }
            Turn::Pay(minor) => {
                made.payments += 1;
                let _ = world.ask(&payment(&format!("P-{}", made.payments), money(minor, "EUR"), &[]));
            }
            Turn::Reverse(of) => {
                let _ = world.ask(&reversal(&format!("P-{of}")));
            }
            Turn::Invoice(due, minor) => {
                made.invoices += 1;
                let day = today.saturating_add(due.days()).max(Date::constant(2026, 1, 2));
                let _ = world.ask(&invoice(&format!("F-{}", made.invoices + 1), &[(day, minor)]));
            }
            Turn::Hold(n, of, from, until) => {
                let (hold, terms) = (number(&format!("H-{n}")), hold_terms(of, on(from), on(until)));
                let _ = world.ask(&agreement::Command::PlaceHold { hold, terms, note: None });
            }
            Turn::Prolong(n, until) => {
                let change = HoldChange { until: Some(on(until)), ..HoldChange::default() };
                let hold = number(&format!("H-{n}"));
                let _ = world.ask(&agreement::Command::AmendHold { hold, change, note: None });
            }
            Turn::Release(n) => {
                let _ = world.ask(&agreement::Command::ReleaseHold { hold: number(&format!("H-{n}")), note: None });
            }
            Turn::Retry => {
                if let Some(reminder) = world.account.dunning.needs_person() {
                    let _ = world.ask(&dunning::Command::RetryContact { reminder, note: None });
                }
            }
            Turn::Drop => {
                let reminder = open.map(|open| open.number).or(world.account.dunning.needs_person());
                if let Some(reminder) = reminder {
                    let _ = world.ask(&dunning::Command::DropContact { reminder, note: None });
                }
            }
            Turn::Sending(on) => world.rules.sending = on,
        }
    }
}

type ItemKey = (DocumentNumber, u32);

/// The rules of speaking, kept by nobody but this test: what a history must not tell.
#[derive(Default)]
struct Rules {
    /// The holds as they stand.
    holds: BTreeMap<DocumentNumber, HoldTerms>,
    /// The steps that the holds as they stand have kept back.
    kept_back: BTreeSet<(ItemKey, i32)>,
    /// The highest step that each item has taken.
    rungs: BTreeMap<ItemKey, i32>,
    /// The tone that each item has heard, where a message listed it as overdue.
    heard: BTreeMap<ItemKey, Tone>,
    under_way: Option<ContactStarted>,
    /// The attempt whose outcome is unknown: its reminder and day, and what the items had heard before it.
    unknown: Option<(u64, Date, BTreeMap<ItemKey, Tone>)>,
    /// The reminder that fell due last: when, its steps, and whether a person asked for it.
    due_at: Timestamp,
    due: Vec<(ItemKey, i32)>,
    said_again: bool,
    contacts: BTreeMap<Date, u32>,
}

impl Rules {
    fn holds_of(&self, invoice: &DocumentNumber, day: Date) -> bool {
        self.holds.values().any(|terms| terms.covers(invoice, day))
    }

    fn started(&mut self, at: Timestamp, started: &ContactStarted) {
        assert!(self.under_way.is_none(), "one attempt at a time");
        let local = zone("Europe/Madrid").to_datetime(at);
        let policy = ladder();
        let open = policy.contact.windows.iter().any(|window| {
            window.days.contains(&local.date().weekday()) && window.from <= local.time() && local.time() < window.to
        });
        assert!(open, "{local} is outside the window");
        assert!(!started.items.is_empty() && started.items.iter().all(|item| item.open > 0), "about nothing");
        for item in &started.items {
            let key = (item.invoice.clone(), item.instalment);
            assert!(!self.holds_of(&item.invoice, started.day), "{key:?} is on hold on {}", started.day);
            if item.due_date < started.day {
                let heard = self.heard.get(&key);
                assert!(heard.is_none_or(|heard| *heard <= started.notice.tone), "{key:?} has heard {heard:?}");
            }
            let Some(offset) = item.takes.filter(|_| !self.said_again) else { continue };
            let below = policy.steps.iter().filter(|step| step.offset_days < offset && step.offset_days > 0);
            let highest_below = below.map(|step| step.offset_days).max();
            let stood = self.rungs.get(&key).copied();
            let follows = highest_below.is_none_or(|below| stood.is_some_and(|stood| stood >= below));
            assert!(follows, "{key:?} takes {offset} from {stood:?}");
            assert!(stood.is_none_or(|stood| stood < offset), "{key:?} takes {offset} twice");
        }
        self.under_way = Some(started.clone());
    }

    /// The attempt under way is over. A message that was sent, or may have been, counts as a contact, and is heard.
    fn over(&mut self, reminder: u64, attempt: u32, counts: bool) {
        // An unknown attempt may be told of later.
        let Some(started) = self.under_way.take_if(|started| started.reminder == reminder) else { return };
        assert_eq!(started.attempt, attempt);
        if counts {
            *self.contacts.entry(started.day).or_default() += 1;
            let overdue = started.items.iter().filter(|item| item.due_date < started.day);
            let heard = overdue.map(|item| ((item.invoice.clone(), item.instalment), started.notice.tone));
            self.heard.extend(heard);
        }
    }

    /// A reminder that fell due on hold only tells of its steps. Any other fell due between two holds.
    fn withheld(&mut self, at: Timestamp, withheld: &ContactWithheld) {
        if withheld.reason == WithheldReason::Held && !self.said_again {
            for told in std::mem::take(&mut self.due) {
                let is_new = self.kept_back.insert(told.clone());
                assert!(is_new || self.due_at < at, "{told:?} is told twice");
            }
        }
    }

    fn fold(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Dunning(fact) => {
                match fact {
                    dunning::Fact::ReminderDue(due) => {
                        let steps = due.takes.iter();
                        self.due_at = at;
                        self.due = steps.map(|s| ((s.invoice.clone(), s.instalment), s.offset_days)).collect();
                        self.said_again = due.retry_of.is_some();
                    }
                    dunning::Fact::ContactStarted(started) => self.started(at, started),
                    dunning::Fact::ContactWithheld(withheld) => self.withheld(at, withheld),
                    dunning::Fact::ContactDeferred(ContactDeferred { attempt: 0, .. }) => {}
                    dunning::Fact::ContactDeferred(deferred) => self.over(deferred.reminder, deferred.attempt, false),
                    dunning::Fact::ContactAccepted(accepted) => self.over(accepted.reminder, accepted.attempt, true),
                    dunning::Fact::ContactRejected(rejected) => {
                        // A message that may have been sent turns out to have reached nobody.
                        if let Some((_, day, heard)) = self.unknown.take_if(|(of, ..)| *of == rejected.reminder) {
                            self.contacts.remove(&day);
                            self.heard = heard;
                        }
                        self.over(rejected.reminder, rejected.attempt, false);
                    }
                    dunning::Fact::ContactUnknown(unknown) => {
                        let day = self.under_way.as_ref().expect("an attempt under way").day;
                        self.unknown = Some((unknown.reminder, day, self.heard.clone()));
                        self.over(unknown.reminder, unknown.attempt, true);
                    }
                }
                for step in fact.steps_before() {
                    let key = (step.invoice.clone(), step.instalment);
                    match step.last {
                        Some(last) => self.rungs.insert(key, last.offset_days),
                        None => self.rungs.remove(&key),
                    };
                }
                for step in fact.took().into_iter().flat_map(|took| &took.steps) {
                    self.rungs.insert((step.invoice.clone(), step.instalment), step.offset_days);
                }
            }
            Event::Agreement(fact) => {
                self.kept_back.clear();
                match fact {
                    agreement::Fact::HoldPlaced(HoldPlaced { hold, terms, .. })
                    | agreement::Fact::HoldAmended(HoldAmended { hold, terms, .. }) => {
                        self.holds.insert(hold.clone(), terms.clone());
                    }
                    agreement::Fact::HoldReleased(HoldReleased { hold, .. }) => drop(self.holds.remove(hold)),
                }
            }
            Event::Ledger(ledger::Fact::PaymentReversed(PaymentReversed { lines, .. })) => {
                for line in lines {
                    self.kept_back.retain(|(item, _)| *item != (line.invoice.clone(), line.instalment));
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Called often, twice, or by two schedulers: the same contacts fall due, and the same steps are told of as kept back.
    #[test]
    fn however_time_is_advanced_the_same_contacts_fall_due(
        due in prop::collection::vec(0..120i64, 1..5),
        holds in prop::collection::vec((prop::option::of(0..5usize), 0..120i64, prop::option::of(0..30i64)), 0..4),
        more in prop::collection::btree_set(0..400_000i64, 0..60),
    ) {
        let mut world = owing(Date::constant(2026, 3, 12));
        let first = Date::constant(2026, 1, 10);
        for (index, days) in due.iter().enumerate() {
            let day = first.saturating_add(days.days());
            prop_assert_eq!(world.ask(&invoice(&format!("F-{}", index + 2), &[(day, 1_000)])), Ok(()));
        }
        for (index, (of, from, days)) in holds.iter().enumerate() {
            let from = first.saturating_add(from.days());
            let terms = hold_terms(*of, Some(from), days.map(|days| from.saturating_add(days.days())));
            let _ = world.ask(&agreement::Command::PlaceHold { hold: number(&format!("H-{index}")), terms, note: None });
        }
        let (mut once, mut often) = (world.clone(), world.clone());
        let more: BTreeSet<Timestamp> =
            more.iter().map(|minutes| world.now + SignedDuration::from_mins(*minutes)).collect();
        let until = local("2027-01-01T00:00:00");
        live_through(&mut once, &BTreeSet::new(), until);
        live_through(&mut often, &more, until);
        prop_assert_eq!(said(&once), said(&often));
        prop_assert_eq!(kept_back(&once), kept_back(&often));
    }

    /// After random events there are never two contacts a day, and none outside the window. Levels come in order, and tones
    /// never get milder. A contact is about something, and nothing on hold is listed. Each step on hold is told once. Every
    /// started attempt has its outcome in the end.
    #[test]
    fn whatever_happens_nobody_is_chased_wrongly(turns in turns()) {
        let mut world = owing(Date::constant(2026, 1, 20));
        let mut made = Made::default();
        for (minutes, turn) in turns {
            world.now += SignedDuration::from_mins(minutes);
            turn.happen(&mut world, &mut made);
        }
        let until = world.now + SignedDuration::from_hours(24 * 800);
        live_through(&mut world, &BTreeSet::new(), until);

        let mut rules = Rules::default();
        world.history.iter().for_each(|(at, event)| rules.fold(*at, event));
        prop_assert!(rules.under_way.is_none(), "an attempt without outcome");
        prop_assert!(rules.contacts.values().all(|count| *count == 1), "{:?}", rules.contacts);
    }
}

/// The steps that holds kept back, and when this was told.
fn kept_back(world: &World) -> Vec<(Timestamp, u64)> {
    let held = |(at, event): &(Timestamp, Event)| match event {
        Event::Dunning(dunning::Fact::ContactWithheld(withheld)) if withheld.hold.is_some() => {
            Some((*at, withheld.reminder))
        }
        _ => None,
    };
    world.history.iter().filter_map(held).collect()
}
