//! A crowd of clients: retries under the same request id at whichever instance, and everything that was asked and answered in a
//! journal.

mod draws;

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
            for account in draws::hot() {
                shared.ask(tenant, &shared.open(&account), &mut dice).await;
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
