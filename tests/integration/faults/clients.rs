//! A crowd of clients: hot accounts and many small ones, retries under the same request id at whichever instance, and
//! everything that was asked and answered in a journal.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::{ToSpan, civil::Date, tz::TimeZone};
use saldo::client::{Clients, StatusDetails, is_transient};
use saldo_api::v1;
use saldo_clock::Clock;
use saldo_facts::{ConsistencyToken, date_to_api};
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    commands::Command,
    dice::Dice,
    journal::Journal,
    plan::Plan,
    processes::Process,
    site::{Site, TENANTS},
};
use crate::{Failure, Outcome, env::within};

/// Accounts of each creditor that everybody works on at once.
const HOT: u64 = 3;
/// The longest one command is asked again.
const PATIENCE: Duration = Duration::from_secs(120);
/// Documents of an account that a client may come back to.
const REMEMBERED: usize = 30;
/// The creditor whose accounts are probed.
const PROBED: &str = TENANTS[0];
/// Accounts that probes go to in turn.
const PROBES: u64 = 10;

/// Clients at work.
pub struct Crowd {
    shared: Arc<Shared>,
    workers: Mutex<JoinSet<Outcome>>,
    enough: watch::Sender<bool>,
}

struct Shared {
    journal: Arc<Journal>,
    /// By creditor, each instance.
    clients: HashMap<&'static str, Vec<Clients>>,
    /// Numbers of documents, debtors and probes.
    next: AtomicU64,
    /// The accounts as the clients know them, by creditor and account.
    book: Mutex<BTreeMap<(&'static str, String), Known>>,
    /// A day that has passed everywhere.
    yesterday: Date,
}

/// Documents of an account.
#[derive(Debug, Clone, Default)]
struct Known {
    invoices: Vec<String>,
    payments: Vec<String>,
    holds: Vec<String>,
}

impl Crowd {
    /// Opens the accounts that everybody works on, and begins.
    pub async fn start(site: &Site, journal: &Arc<Journal>, plan: &Plan) -> Result<Self, Failure> {
        let mut clients = HashMap::new();
        for tenant in TENANTS {
            clients.insert(tenant, site.clients(tenant).await?);
        }
        let shared = Arc::new(Shared {
            journal: journal.clone(),
            clients,
            next: AtomicU64::new(1),
            book: Mutex::default(),
            yesterday: Clock::system().now().to_zoned(TimeZone::UTC).date().saturating_sub(1.day()),
        });
        let mut dice = Dice::new(plan.seed, 3);
        for tenant in TENANTS {
            for number in 0..HOT {
                shared.ask(tenant, &shared.open(&format!("hot-{number}")), &mut dice).await;
            }
        }
        for number in 0..PROBES {
            shared.ask(PROBED, &shared.open(&format!("probe-{number}")), &mut dice).await;
        }
        let (enough, heard) = watch::channel(false);
        let mut workers = JoinSet::new();
        for number in 0..plan.clients {
            let (shared, heard, dice) = (shared.clone(), heard.clone(), Dice::new(plan.seed, 100 + number));
            workers.spawn(shared.work(heard, dice));
        }
        Ok(Self { shared, workers: Mutex::new(workers), enough })
    }

    /// Goes on until so many commands were asked, and ends when the last of them has its answer.
    pub async fn finish(&self, commands: u64) -> Outcome {
        let journal = &self.shared.journal;
        within(Duration::from_secs(3_600), "enough commands", || async { journal.commands() >= commands }).await?;
        self.enough.send_replace(true);
        let mut workers = std::mem::take(&mut *self.workers.lock().expect("lock"));
        while let Some(ended) = workers.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// One command at one instance, without a proxy and without patience. Where it stands, if it was acknowledged.
    pub async fn probe(&self, site: &Site, process: &Process) -> Result<String, Failure> {
        let shared = &self.shared;
        let clients = timeout(Duration::from_secs(2), site.direct(process, PROBED)).await??;
        let number = shared.number();
        let command = Command::Pay(v1::RecordPaymentRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            account_id: format!("probe-{}", number % PROBES),
            reference: format!("P-{number}"),
            amount: shared.money(PROBED, 1),
            value_date: Some(date_to_api(shared.yesterday)),
            ..Default::default()
        });
        shared.journal.ask(shared.line("ask", PROBED, &command));
        match shared.attempt(PROBED, &command, &clients, &process.spec.name).await {
            Tried::Yes(token) => Ok(token),
            Tried::No => Err("refused".into()),
            Tried::Unanswered => {
                shared.journal.give_up(shared.line("given_up", PROBED, &command));
                sleep(Duration::from_millis(200)).await;
                Err("not answered".into())
            }
        }
    }

    /// A command at any instance, and then a query that must have seen it.
    pub async fn probe_read_back(&self, site: &Site) -> Outcome {
        let mut token = Err("no command service".into());
        for process in site.of("command") {
            token = self.probe(site, process).await;
            if token.is_ok() {
                break;
            }
        }
        let process = site.of("query").next().ok_or("no query service")?;
        let mut query = timeout(Duration::from_secs(2), site.direct(process, PROBED)).await??.query;
        let request = v1::ListRemindersRequest { consistency_token: token?, page_size: 1, ..Default::default() };
        timeout(Duration::from_secs(5), query.list_reminders(request)).await??;
        Ok(())
    }
}

impl Shared {
    async fn work(self: Arc<Self>, enough: watch::Receiver<bool>, mut dice: Dice) -> Outcome {
        while !*enough.borrow() {
            sleep(dice.span(5, 40)).await;
            let tenant = *dice.one(&TENANTS).ok_or("no creditors")?;
            if dice.percent(12) {
                self.debtor(tenant, &mut dice).await;
                continue;
            }
            let command = self.draw(tenant, &mut dice);
            if dice.percent(5) {
                // Somebody presses the button twice.
                let mut other = dice.clone();
                let twins = [self.clients[tenant].len() as u64 - 1, 0];
                self.journal.ask(self.line("ask", tenant, &command));
                tokio::join!(
                    self.pursue(tenant, &command, twins[0] as usize, &mut dice),
                    self.pursue(tenant, &command, twins[1] as usize, &mut other)
                );
            } else {
                self.ask(tenant, &command, &mut dice).await;
            }
        }
        Ok(())
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    fn money(&self, tenant: &str, minor_units: i64) -> Option<v1::Money> {
        let currency = if tenant == TENANTS[1] { "USD" } else { "EUR" };
        Some(v1::Money { minor_units, currency: currency.into() })
    }

    /// Somebody who has owed for ten days appears, and is reminded. Some are on hold before they owe, some while the reminder
    /// is on its way, and of some of them the hold ends again.
    async fn debtor(&self, tenant: &'static str, dice: &mut Dice) {
        let account = format!("d-{}", self.number());
        if !self.ask(tenant, &self.open_with(&account, mood(dice)), dice).await {
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

    fn open(&self, account: &str) -> Command {
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
    fn draw(&self, tenant: &'static str, dice: &mut Dice) -> Command {
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
            (24..58, invoice, _) => {
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

    fn line(&self, event: &str, tenant: &str, command: &Command) -> serde_json::Value {
        let mut line =
            json!({ "event": event, "id": command.request_id(), "tenant": tenant, "account": command.account() });
        if event == "ask" {
            line["method"] = command.method().into();
            line["digest"] = command.digest().into();
            line["content"] = command.content();
        }
        line
    }

    /// Asks until there is an answer; whether it was a yes.
    async fn ask(&self, tenant: &'static str, command: &Command, dice: &mut Dice) -> bool {
        self.journal.ask(self.line("ask", tenant, command));
        let first = dice.between(0, self.clients[tenant].len() as u64 - 1) as usize;
        self.pursue(tenant, command, first, dice).await
    }

    async fn pursue(&self, tenant: &'static str, command: &Command, first: usize, dice: &mut Dice) -> bool {
        let begun = Instant::now();
        // Some have no patience: what became of their command nobody tells them.
        let patience = if dice.percent(20) { Duration::ZERO } else { PATIENCE };
        let clients = &self.clients[tenant];
        for instance in first.. {
            let instance = instance % clients.len();
            match self.attempt(tenant, command, &clients[instance], &format!("front {instance}")).await {
                Tried::Yes(_) => {
                    self.remember(tenant, command);
                    return true;
                }
                Tried::No => return false,
                Tried::Unanswered if begun.elapsed() > patience => break,
                // The other one may be there.
                Tried::Unanswered => sleep(dice.span(20, 600)).await,
            }
        }
        self.journal.give_up(self.line("given_up", tenant, command));
        false
    }

    /// One try, in the journal.
    async fn attempt(&self, tenant: &'static str, command: &Command, clients: &Clients, whom: &str) -> Tried {
        let (mut line, tried) = match command.send(clients).await {
            Ok(answer) => {
                let mut line = self.line("answer", tenant, command);
                let token = answer.consistency_token;
                let place: Option<ConsistencyToken> = token.parse().ok();
                line["ok"] = true.into();
                line["version"] = answer.version.into();
                line["partition"] = place.map(|place| place.partition).into();
                line["offset"] = place.map(|place| place.offset).into();
                line["replayed"] = answer.replayed.into();
                line["events"] = answer.event_types.into();
                (line, Tried::Yes(token))
            }
            Err(status) if is_transient(&status) => {
                let mut line = self.line("trouble", tenant, command);
                line["code"] = format!("{:?}", status.code()).into();
                line["whom"] = whom.into();
                self.journal.trouble(line);
                return Tried::Unanswered;
            }
            Err(status) => {
                let said = StatusDetails::of(&status);
                let mut line = self.line("answer", tenant, command);
                line["ok"] = false.into();
                line["code"] = format!("{:?}", status.code()).into();
                line["reason"] = said.reason.into();
                line["replayed"] = said.details.get("replayed").is_some_and(|replayed| replayed == "true").into();
                (line, Tried::No)
            }
        };
        line["whom"] = whom.into();
        self.journal.answer(line);
        tried
    }

    /// A document that was acknowledged is there to come back to.
    fn remember(&self, tenant: &'static str, command: &Command) {
        let mut book = self.book.lock().expect("lock");
        let known = book.entry((tenant, command.account().to_owned())).or_default();
        let (documents, number) = match command {
            Command::Issue(request) => (&mut known.invoices, &request.number),
            Command::Pay(request) => (&mut known.payments, &request.reference),
            Command::Hold(request) => (&mut known.holds, &request.hold_id),
            _ => return,
        };
        documents.push(number.clone());
        if documents.len() > REMEMBERED {
            documents.remove(0);
        }
    }
}

/// The result of one try.
enum Tried {
    /// Acknowledged, and where it stands.
    Yes(String),
    /// Refused.
    No,
    /// Nobody knows.
    Unanswered,
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
