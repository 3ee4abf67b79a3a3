//! Accounts that live through random commands.

use std::collections::{BTreeMap, HashMap};

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use saldo_domain::{
    Context, Decision, Rules,
    account::Account,
    command::Command,
    document::{Document, DocumentKey},
    dunning::{
        Policy, Tone,
        policy::{Contact, Sender, Step, Window},
    },
    event::Event,
    handle,
    ids::DocumentNumber,
    ledger::{self, ApplyCredit, CreditKind, Designation, Excess, invoice::schedule},
    money::{Currency, Money},
    party::{self, Channel, ContactPoint, DebtorKind, Profile},
    sealed::Sealed,
};

use super::reference::View;

/// West of UTC: in the evening its day is the one before UTC's.
pub const ZONE: &str = "America/Chicago";

/// Draws the same numbers in every run (xorshift).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub fn days(&mut self, from: i64, to: i64) -> jiff::Span {
        (from + self.below((to - from + 1) as u64) as i64).days()
    }
}

pub fn number(kind: &str, index: u64) -> DocumentNumber {
    DocumentNumber::new(format!("{kind}-{index}")).expect("a number")
}

fn currency(dice: &mut Dice) -> Currency {
    Currency::new(if dice.below(4) == 0 { "USD" } else { "EUR" }).expect("a currency")
}

/// Every day and hour, one step after another for two years.
fn policy() -> Policy {
    let days = [0, 1, 2, 3, 4, 5, 6].map(|day| Weekday::from_monday_zero_offset(day).expect("a weekday")).into();
    let step = |index: i32| Step {
        name: format!("s{index}"),
        offset_days: -20 + index * 30,
        tone: Tone::Friendly,
        channel: Channel::Email,
        template: "t".into(),
    };
    Policy {
        sender: Sender {
            name: "Ejemplo, S.L.".into(),
            email: "cobros@example.com".into(),
            reply_to: None,
            payment: "IBAN".into(),
            language: "es".into(),
        },
        contact: Contact {
            time_zone: "debtor".into(),
            windows: vec![Window { days, from: Time::midnight(), to: Time::midnight() }],
            min_distance_days: 1,
            max_per_day: 1,
            max_per_week: 7,
            backoff_minutes: Vec::new(),
            may_soften: false,
        },
        steps: (0..20).map(step).collect(),
    }
}

pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

/// An account that lives through random commands, each decided on its day.
pub struct Life {
    pub account: Account,
    documents: HashMap<DocumentKey, Document>,
    pub rules: Rules,
    pub now: Timestamp,
    pub commits: Vec<(Timestamp, Vec<Event>)>,
}

impl Life {
    pub fn new(debtors_zone: &str, apply_credit: ApplyCredit) -> Self {
        let point = ContactPoint { channel: Channel::Email, address: Sealed(vec![7]), digest: [7; 32] };
        let profile = Profile {
            display_name: Sealed(vec![1]),
            kind: DebtorKind::Business,
            language: "es".into(),
            time_zone: debtors_zone.into(),
            country: "ES".into(),
            contact_points: vec![point],
        };
        let mut life = Self {
            account: Account::default(),
            documents: HashMap::new(),
            // Nothing is sent while it lives; what would be said is previewed at the end.
            rules: Rules {
                policy: Some(policy()),
                languages: vec!["es".into()],
                words: BTreeMap::new(),
                sending: false,
                held: false,
                time_zone: ZONE.into(),
                apply_credit,
            },
            now: "2026-01-05T03:30:00Z".parse().expect("an instant"),
            commits: Vec::new(),
        };
        life.ask(party::Command::OpenAccount(profile).into());
        life
    }

    pub fn context(&self) -> Context<'_> {
        Context { now: self.now, rules: &self.rules, zones: zone }
    }

    pub fn today(&self) -> Date {
        self.context().today()
    }

    pub fn ask(&mut self, command: Command) {
        let context = Context { now: self.now, rules: &self.rules, zones: zone };
        let Decision { events, .. } = handle(&mut self.account, &self.documents, &command, &context);
        for event in &events {
            for key in Document::touched(event) {
                let after = Document::evolve(&key, self.documents.remove(&key), event);
                self.documents.extend(after.map(|document| (key, document)));
            }
        }
        if !events.is_empty() {
            self.commits.push((self.now, events));
        }
    }

    /// A random command; many are refused.
    pub fn try_something(&mut self, dice: &mut Dice, index: u64) {
        let (today, any) = (self.today(), dice.below(index + 1));
        let amount = |dice: &mut Dice| 1 + dice.below(900) as i64;
        let command = match dice.below(24) {
            0..=6 => {
                let issue_date = today + dice.days(-40, 20);
                let total = Money { minor: 2 + amount(dice), currency: currency(dice) };
                let first = issue_date + dice.days(0, 60);
                let (half, rest) = (total.minor / 2, total.minor - total.minor / 2);
                let instalments = schedule(total, issue_date, None, &[(first, half), (first + dice.days(1, 40), rest)]);
                let instalments = instalments.expect("a schedule");
                let number = number("F", index);
                ledger::Command::IssueInvoice { number, total, issue_date, instalments, description: None }
            }
            7..=11 => {
                let designation = |dice: &mut Dice| Designation {
                    invoice: number("F", dice.below(index + 1)),
                    instalment: (dice.below(2) == 0).then_some(2),
                    amount: 1 + dice.below(60) as i64,
                };
                let designations: Vec<_> = (0..dice.below(3)).map(|_| designation(dice)).collect();
                ledger::Command::RecordPayment {
                    reference: number("P", index),
                    amount: Money { minor: 120 + amount(dice), currency: currency(dice) },
                    value_date: today + dice.days(-30, 2),
                    keep_unapplied: designations.is_empty() && dice.below(4) == 0,
                    designations,
                    excess: Excess::Unapplied,
                    remittance: None,
                }
            }
            12 | 13 => ledger::Command::CreditInvoice {
                credit_note: number("A", index),
                invoice: number("F", any),
                amount: Money { minor: amount(dice), currency: currency(dice) },
                credit_date: today + dice.days(-20, 2),
                reason: None,
            },
            14 => {
                let number = number("F", any);
                let void_date = today + dice.days(-10, 20);
                ledger::Command::VoidInvoice { number, void_date, reason: None }
            }
            15 => ledger::Command::AllocatePayment {
                reference: number("P", any),
                designations: Vec::new(),
                allocation_date: (dice.below(2) == 0).then(|| today + dice.days(-20, 1)),
            },
            16 => {
                let credit_note = number("A", any);
                ledger::Command::AllocateCreditNote { credit_note, designations: Vec::new(), allocation_date: None }
            }
            17 => ledger::Command::DeallocatePayment {
                reference: number("P", any),
                items: Vec::new(),
                deallocation_date: (dice.below(2) == 0).then(|| today + dice.days(-20, 1)),
                reason: None,
            },
            18 => ledger::Command::DeallocateCreditNote {
                credit_note: self.allocated_credit_note(dice).unwrap_or_else(|| number("A", any)),
                items: Vec::new(),
                deallocation_date: (dice.below(2) == 0).then(|| today + dice.days(-20, 1)),
                reason: None,
            },
            19..=22 => ledger::Command::RefundCredit {
                reference: number("R", index),
                kind: if dice.below(2) == 0 { CreditKind::Payment } else { CreditKind::CreditNote },
                document: number(if dice.below(2) == 0 { "P" } else { "A" }, any),
                amount: Money { minor: 1 + dice.below(60) as i64, currency: currency(dice) },
                refund_date: today + dice.days(-5, 1),
                reason: None,
            },
            _ => {
                let reversal_date = today + dice.days(-10, 2);
                ledger::Command::ReversePayment { reference: number("P", any), reversal_date, reason: None }
            }
        };
        self.ask(command.into());
    }

    /// One of the credit notes that were allocated: of a random number hardly one is.
    fn allocated_credit_note(&self, dice: &mut Dice) -> Option<DocumentNumber> {
        let facts = self.commits.iter().flat_map(|(_, events)| events);
        let allocated = facts.filter_map(|event| match event {
            Event::Ledger(ledger::Fact::CreditNoteAllocated(fact)) => Some(&fact.credit_note),
            _ => None,
        });
        let allocated: Vec<_> = allocated.collect();
        (!allocated.is_empty()).then(|| allocated[dice.below(allocated.len() as u64) as usize].clone())
    }

    /// The open amounts by the domain's state on a day that is not before the newest decision.
    pub fn says_of(&self, day: Date) -> View {
        let ledger = &self.account.ledger;
        let mut view = View::new();
        for item in ledger.items.iter().filter(|item| item.issue_date <= day) {
            let key = ("invoice", item.invoice.to_string(), item.instalment);
            view.insert(key, (item.currency, Some(item.due_date), item.open));
        }
        let credits = ledger.credits.iter().map(|one| (one.kind, &one.document, one.currency, one.remaining));
        let ahead = ledger.ahead.iter().filter(|one| one.from > day);
        for (kind, document, currency, amount) in
            credits.chain(ahead.map(|one| (one.kind, &one.document, one.currency, one.amount)))
        {
            let credit = view.entry((kind.name(), document.to_string(), 0)).or_insert((currency, None, 0));
            credit.2 -= amount;
        }
        view
    }
}
