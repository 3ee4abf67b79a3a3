//! The requests of clients. Some accounts are hot and many are small, and their debtors pay, complain and are reminded.

use jiff::ToSpan;
use saldo_api::v1;
use saldo_facts::date_to_api;
use tokio::time::sleep;

use super::{Known, Shared};
use crate::faults::{commands::Command, dice::Dice, site::TENANTS};

/// Accounts of each creditor that everybody works on at once.
const HOT: u64 = 3;
/// How often a person looks whether a reminder can be said again or dropped.
const LOOKS: u32 = 8;

/// The accounts that everybody works on.
pub fn hot() -> impl Iterator<Item = String> {
    (0..HOT).map(|number| format!("hot-{number}"))
}

impl Shared {
    pub(super) fn money(&self, tenant: &str, minor_units: i64) -> Option<v1::Money> {
        let currency = if tenant == TENANTS[1] { "USD" } else { "EUR" };
        Some(v1::Money { minor_units, currency: currency.into() })
    }

    /// Somebody who has owed for ten days appears, and is reminded. Some are on hold before they owe, some while the reminder
    /// is on its way, and of some of them the hold ends again.
    pub(super) async fn debtor(&self, tenant: &'static str, dice: &mut Dice) {
        let account = format!("d-{}", self.number());
        let mood = mood(dice);
        if !self.ask(tenant, &self.open_with(&account, mood), dice).await {
            return;
        }
        let held = dice.between(0, 99);
        if held < 15 {
            let hold = self.hold(&account, None, dice);
            self.ask(tenant, &hold, dice).await;
        }
        let invoice = self.invoice(tenant, &account, dice);
        self.ask(tenant, &invoice, dice).await;
        if (15..25).contains(&held) {
            sleep(dice.span(0, 400)).await;
            let hold = self.hold(&account, None, dice);
            self.ask(tenant, &hold, dice).await;
        }
        if held < 25 && dice.percent(50) {
            let hold =
                self.book.lock().expect("lock").get(&(tenant, account.clone())).and_then(|it| it.holds.last().cloned());
            if let Some(hold) = hold {
                self.ask(tenant, &release(account, hold), dice).await;
            }
        } else if mood != "fine" {
            self.see_to(tenant, &account, dice).await;
        }
    }

    /// A person has the first reminder said again, or drops it, once it reached nobody or nobody knows.
    async fn see_to(&self, tenant: &'static str, account: &str, dice: &mut Dice) {
        let retry = dice.percent(60);
        for _ in 0..LOOKS {
            sleep(dice.span(100, 900)).await;
            let (request_id, account_id) = (uuid::Uuid::new_v4().to_string(), account.to_owned());
            let command = if retry {
                let note = String::new();
                Command::Retry(v1::RetryContactRequest { request_id, account_id, reminder: 1, note })
            } else {
                Command::Drop(v1::DropContactRequest { request_id, account_id, reminder: 1, note: String::new() })
            };
            if self.ask(tenant, &command, dice).await {
                return;
            }
        }
    }

    /// A hold of the whole account, or of one invoice; over already, for some days, or until it is released.
    fn hold(&self, account: &str, invoice: Option<String>, dice: &mut Dice) -> Command {
        Command::Hold(v1::PlaceHoldRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            account_id: account.into(),
            hold_id: format!("H-{}", self.number()),
            terms: Some(self.terms(invoice, dice)),
            note: String::new(),
        })
    }

    fn terms(&self, invoice: Option<String>, dice: &mut Dice) -> v1::HoldTerms {
        let day = |ahead: i64| Some(date_to_api(self.yesterday.saturating_add(ahead.days())));
        let until = match dice.between(0, 9) {
            0..2 => day(0),
            2..5 => day(7),
            _ => None,
        };
        let from = if dice.percent(50) { day(-3) } else { None };
        v1::HoldTerms { invoices: invoice.into_iter().collect(), from, until, reason: "complaint".into() }
    }

    pub(super) fn open(&self, account: &str) -> Command {
        self.open_with(account, "fine")
    }

    fn open_with(&self, account: &str, mood: &str) -> Command {
        let address = format!("{mood}@{account}.example.com");
        Command::Open(v1::OpenAccountRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            account_id: account.into(),
            profile: Some(v1::Profile {
                display_name: format!("Ana Gil {account}"),
                kind: v1::DebtorKind::Business.into(),
                language: "es".into(),
                time_zone: "Europe/Madrid".into(),
                country: "ES".into(),
                contact_points: vec![v1::ContactPoint { channel: v1::Channel::Email.into(), address }],
            }),
        })
    }

    fn invoice(&self, tenant: &str, account: &str, dice: &mut Dice) -> Command {
        let amount = dice.between(100, 50_000) as i64;
        let due = self.yesterday.saturating_sub(9.days());
        let (due_date, instalments) = if dice.percent(20) {
            let parts = [(60, amount / 3), (30, amount / 3), (0, amount - 2 * (amount / 3))];
            let part = |(days, amount_minor): (i64, i64)| v1::Instalment {
                due_date: Some(date_to_api(due.saturating_sub(days.days()))),
                amount_minor,
            };
            (None, parts.map(part).to_vec())
        } else {
            (Some(date_to_api(due)), Vec::new())
        };
        Command::Issue(v1::IssueInvoiceRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            account_id: account.into(),
            number: format!("F-{}", self.number()),
            total: self.money(tenant, amount),
            issue_date: Some(date_to_api(due.saturating_sub(90.days()))),
            due_date,
            instalments,
            description: String::new(),
        })
    }

    /// A command on a hot account mostly, else on one that is known.
    pub(super) fn draw(&self, tenant: &'static str, dice: &mut Dice) -> Command {
        let (account, known) = self.account(tenant, dice);
        let (request_id, account_id) = (uuid::Uuid::new_v4().to_string(), account.clone());
        let day = Some(date_to_api(self.yesterday));
        let invoice = dice.one(&known.invoices).cloned();
        let payment = dice.one(&known.payments).cloned();
        if let (true, Some(hold_id)) = (dice.percent(4), dice.one(&known.holds).cloned()) {
            return if dice.percent(60) {
                release(account, hold_id)
            } else {
                let mask = ["invoices", "from", "until"].map(str::to_owned).to_vec();
                Command::Amend(v1::AmendHoldRequest {
                    request_id,
                    account_id,
                    hold_id,
                    terms: Some(self.terms(invoice, dice)),
                    update_mask: Some(prost_types::FieldMask { paths: mask }),
                    note: String::new(),
                })
            };
        }
        match (dice.between(0, 99), invoice, payment) {
            (0..8, Some(invoice_number), _) => Command::Credit(v1::CreditInvoiceRequest {
                request_id,
                account_id,
                credit_note_number: format!("C-{}", self.number()),
                invoice_number,
                amount: self.money(tenant, dice.between(50, 5_000) as i64),
                credit_date: day,
                reason: String::new(),
            }),
            (8..14, Some(invoice_number), _) => Command::Void(v1::VoidInvoiceRequest {
                request_id,
                account_id,
                invoice_number,
                void_date: day,
                reason: String::new(),
            }),
            (14..21, _, Some(reference)) => Command::Reverse(v1::ReversePaymentRequest {
                request_id,
                account_id,
                reference,
                reversal_date: day,
                reason: String::new(),
            }),
            (21..24, _, Some(reference)) => Command::Allocate(v1::AllocatePaymentRequest {
                request_id,
                account_id,
                reference,
                ..Default::default()
            }),
            (24..27, _, Some(reference)) => Command::Deallocate(v1::DeallocatePaymentRequest {
                request_id,
                account_id,
                reference,
                ..Default::default()
            }),
            (27..30, _, Some(reference)) => Command::Refund(v1::RefundCreditRequest {
                request_id,
                account_id,
                reference: format!("R-{}", self.number()),
                credit: Some(v1::refund_credit_request::Credit::PaymentReference(reference)),
                amount: self.money(tenant, dice.between(50, 2_000) as i64),
                refund_date: day,
                reason: String::new(),
            }),
            (30..58, invoice, _) => {
                let amount = dice.between(100, 80_000) as i64;
                // Some say what it is for.
                let designated = invoice.filter(|_| dice.percent(25)).map(|invoice_number| v1::Allocation {
                    invoice_number,
                    instalment: None,
                    amount_minor: amount / 2 + 1,
                });
                Command::Pay(v1::RecordPaymentRequest {
                    request_id,
                    account_id,
                    reference: format!("P-{}", self.number()),
                    amount: self.money(tenant, amount),
                    value_date: day,
                    allocations: designated.into_iter().collect(),
                    ..Default::default()
                })
            }
            (58..61, Some(invoice), _) => self.hold(&account, Some(invoice), dice),
            _ => self.invoice(tenant, &account, dice),
        }
    }

    fn account(&self, tenant: &'static str, dice: &mut Dice) -> (String, Known) {
        let hot = (tenant, format!("hot-{}", dice.between(0, HOT - 1)));
        let book = self.book.lock().expect("lock");
        let key = if dice.percent(70) {
            hot
        } else {
            // Somewhere among the small ones.
            let from = (tenant, format!("d-{}", dice.between(10, 99)));
            let found = book.range(from..).nth(dice.between(0, 20) as usize).map(|(key, _)| key.clone());
            found.filter(|(owner, account)| *owner == tenant && account.starts_with("d-")).unwrap_or(hot)
        };
        let known = book.get(&key).cloned().unwrap_or_default();
        (key.1, known)
    }
}

fn release(account_id: String, hold_id: String) -> Command {
    let request_id = uuid::Uuid::new_v4().to_string();
    Command::Release(v1::ReleaseHoldRequest { request_id, account_id, hold_id, note: String::new() })
}

/// The behaviour of the mail server towards a debtor; see [`crate::mailbox::Moody`].
fn mood(dice: &mut Dice) -> &'static str {
    match dice.between(0, 99) {
        0..4 => "refused",
        4..8 => "later",
        8..12 => "silent",
        _ => "fine",
    }
}
