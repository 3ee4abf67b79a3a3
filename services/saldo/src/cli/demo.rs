//! `saldo demo`: the whole system on embedded defaults, with a made-up portfolio and ten weeks of dunning under a clock that jumps
//! from event to event. Ends by itself and leaves nothing behind but the downloaded Postgres.

mod portfolio;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anstream::{print, println};
use futures::StreamExt;
use indicatif::ProgressBar;
use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Time},
    tz::TimeZone,
};
use saldo_api::v1;
use saldo_auth::{Issuer, Role};
use saldo_clock::Clock;
use saldo_mail_sink::MailSink;
use sqlx::{Connection, Row};

use self::{portfolio::Step, walk::ManualClock};
use super::Run;
use crate::{
    Failure, Outcome,
    cli::{aging, policy::example, verify},
    client::{Clients, Reached, Target, explain},
    config::{Config, Secret},
    run::{system::System, telemetry},
    terminal::{progress, table},
};

/// Requests in flight while loading.
const IN_FLIGHT: usize = 16;
const TENANT: &str = "demo";

/// The clock begins so many weeks ago.
const WEEKS: i64 = 10;
/// The hour at which a day's commands of people are recorded, in UTC.
const OFFICE_HOUR: Time = Time::constant(7, 0, 0, 0);
/// Short, since the clock jumps and each jump waits for the services.
const POLL: Duration = Duration::from_millis(5);

/// Show the whole system on a small made-up portfolio, then clean up.
///
/// Starts every service and a mail server in this process, loads debtors and invoices through the API, and lets its clock
/// run through ten weeks of dunning. Needs nothing, and leaves nothing behind but a downloaded Postgres.
#[derive(clap::Parser)]
#[command(name = "demo", after_help = "Example:\n  saldo demo")]
pub struct Demo;

impl Run for Demo {
    async fn run(self) -> Outcome {
        let mut config = Config::default();
        config.tracing.filter = "warn".to_owned();
        telemetry::start(&config.tracing)?;
        let dir = tempfile::Builder::new().prefix("saldo-demo-").tempdir()?;
        config.data_dir = dir.path().to_owned();
        config.listen = Some(SocketAddr::new(config.listen(0).ip(), 0));
        let sink = MailSink::start(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), None).await?;
        config.sending.smtp = Some(Secret::new(format!("smtp://{}?tls=none", sink.smtp_address())));
        config.sending.poll = POLL;
        let issuer = Issuer::generate()?;
        let roles = [Role::Writer, Role::Reader, Role::Operator];
        let token = issuer.issue("demo", TENANT, &roles, Duration::from_secs(3600))?;
        let end = Clock::system().now();
        let clock = ManualClock::at(end - SignedDuration::from_hours(24 * 7 * WEEKS));
        let system = System::start_shown(&config, &issuer, clock.clock()).await?;
        let target = Target::new(system.endpoint(), token);
        let shown = tokio::select! {
            shown = show(&system, &target, &clock, end, &sink) => shown,
            _ = tokio::signal::ctrl_c() => Err("stopped by Ctrl-C; cleaned up".into()),
        };
        system.stop().await;
        sink.stop().await;
        dir.close()?;
        let equal = shown?;
        println!("\nThat was all of it: stopped and cleaned up. `saldo dev` keeps it running.");
        Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn show(
    system: &System,
    target: &Target,
    clock: &ManualClock,
    end: Timestamp,
    sink: &MailSink,
) -> Result<bool, Failure> {
    let mut clients = target.connect().await?;
    let today = end.to_zoned(TimeZone::UTC).date();
    let mut plan = plan(today);
    let begin = clock.now().to_zoned(TimeZone::UTC).date();
    let later = plan.split_off(&begin);
    let opening: Vec<Step> = plan.into_values().flatten().collect();
    let count = opening.len();
    let bar = progress::records("loading");
    bar.set_length(count as u64);
    record(&clients, opening, &bar).await?.read_back(&clients).await.map_err(|status| explain(&status))?;
    bar.finish_and_clear();
    println!(
        "{count} commands on {} accounts through the gRPC API, as they stood {WEEKS} weeks ago.\n",
        portfolio::ACCOUNTS
    );
    println!("Ageing as of {begin}, over gRPC:\n{}\n", ageing(&mut clients).await?);

    let publish =
        v1::PublishPolicyRequest { request_id: "demo-policy".into(), files: example::files(), validate_only: false };
    clients.catalog.publish_policy(publish).await.map_err(|status| explain(&status))?;
    let switch = v1::SetSendingRequest { request_id: "demo-sending".into(), on: true };
    let catalog = clients.catalog.set_sending(switch).await.map_err(|status| explain(&status))?.into_inner();

    let bar = progress::records("days");
    bar.set_length((today - begin).get_days().unsigned_abs().into());
    let recorded = walk(system, &clients, clock, end, later, catalog.version, &bar).await?;
    bar.finish_and_clear();
    println!(
        "{WEEKS} weeks later: {recorded} more commands, {} mails taken by the mail server.\n\nAgeing as of {today}, over gRPC:\n{}\n",
        sink.taken(),
        ageing(&mut clients).await?
    );

    let account_id = portfolio::id(portfolio::UNREACHABLE);
    let request = v1::ListOpenItemsRequest { account_id: account_id.clone(), ..Default::default() };
    let items = clients.query.list_open_items(request).await.map_err(|status| explain(&status))?.into_inner().items;
    println!("Open items of {account_id}:\n{}\n", table::open_items(&items));
    let request = v1::ListHistoryRequest { account_id: account_id.clone(), page_size: 1_000, ..Default::default() };
    let history = clients.query.list_history(request).await.map_err(|status| explain(&status))?.into_inner();
    println!(
        "History of {account_id}, with every message sent and every one withheld:\n{}\n",
        table::history(&history.entries)
    );
    print_mails(sink, &portfolio::address(portfolio::UNREACHABLE));
    let totals = clients.query.get_contact_totals(v1::GetContactTotalsRequest::default()).await;
    let totals = totals.map_err(|status| explain(&status))?.into_inner();
    println!("Reminders by step:\n{}\n", by_step(&totals));
    println!(
        "The ageing from Postgres, as the read-only role saldo_bi:\n  SELECT currency, sum(not_due), … FROM bi.aging GROUP BY currency\n{}\n",
        from_bi(system).await?
    );

    let stores = &system.stores;
    let (log, keys, pool) = (stores.log.as_ref(), system.keyring.as_ref(), &stores.database()?.pool);
    let report = saldo_projector::verify(log, &system.identity, pool, keys, verify::LONGEST_WAIT, |_| {}).await?;
    print!("The check against the log: {}", verify::describe(&report));
    Ok(verify::equal(&report))
}

/// The steps of each day. Openings come first, so they stand under the first of all days.
fn plan(today: Date) -> BTreeMap<Date, Vec<Step>> {
    let mut plan: BTreeMap<Date, Vec<Step>> = BTreeMap::new();
    for step in portfolio::accounts(today).into_iter().flatten() {
        plan.entry(step.day().unwrap_or(Date::MIN)).or_default().push(step);
    }
    plan
}

/// Lets the clock run to `end`, and records each day's steps in the morning. Returns the number of steps.
async fn walk(
    system: &System,
    clients: &Clients,
    clock: &ManualClock,
    end: Timestamp,
    mut later: BTreeMap<Date, Vec<Step>>,
    catalog_version: u64,
    bar: &ProgressBar,
) -> Result<usize, Failure> {
    let first = clock.now();
    let mut recorded = 0;
    loop {
        let next = walk::settled(system, clock, catalog_version).await?;
        let morning =
            later.first_key_value().and_then(|(day, _)| day.to_datetime(OFFICE_HOUR).to_zoned(TimeZone::UTC).ok());
        let morning = morning.map(|morning| morning.timestamp().max(clock.now()).min(end));
        let Some(next) = next.into_iter().chain(morning).min().filter(|next| *next <= end) else { break };
        clock.set(next);
        bar.set_position((clock.now().duration_since(first).as_hours() / 24).unsigned_abs());
        if morning == Some(next)
            && let Some((_, steps)) = later.pop_first()
        {
            recorded += steps.len();
            record(clients, steps, &ProgressBar::hidden()).await?;
        }
    }
    clock.set(end);
    walk::settled(system, clock, catalog_version).await?;
    Ok(recorded)
}

/// Records the steps of each account in their order. Returns the newest positions of the answers.
async fn record(clients: &Clients, steps: Vec<Step>, bar: &ProgressBar) -> Result<Reached, Failure> {
    let mut accounts: BTreeMap<String, Vec<Step>> = BTreeMap::new();
    for step in steps {
        accounts.entry(step.account_id().to_owned()).or_default().push(step);
    }
    let mut loads = futures::stream::iter(accounts.into_values())
        .map(|steps| {
            let (mut clients, bar) = (clients.clone(), bar.clone());
            async move {
                let mut last = String::new();
                for step in steps {
                    let answer = send(&mut clients, step).await.map_err(|status| explain(&status))?;
                    last = answer.consistency_token;
                    bar.inc(1);
                }
                Ok::<_, String>(last)
            }
        })
        .buffer_unordered(IN_FLIGHT);
    let mut reached = Reached::default();
    while let Some(token) = loads.next().await {
        reached.note(&token?);
    }
    Ok(reached)
}

async fn ageing(clients: &mut Clients) -> Result<comfy_table::Table, Failure> {
    let report = aging::fetch(clients, v1::GetAgingRequest::default()).await.map_err(|status| explain(&status))?;
    Ok(table::aging(&report.rows, &report.totals))
}

/// The first mail of each subject to the debtor shown, and a formal one in another language, as a person reads them.
fn print_mails(sink: &MailSink, address: &str) {
    let mut shown = BTreeSet::new();
    for mail in sink.messages() {
        let parsed = mail.parsed();
        let subject = parsed.subject.clone().unwrap_or_default();
        let worth = parsed.to.iter().any(|to| to == address) || subject.starts_with("Formal demand");
        if worth && shown.insert(subject.clone()) {
            println!("--- mail {} to {}\nSubject: {}\n", mail.number, parsed.to.join(", "), subject);
            println!("{}\n", parsed.text.as_deref().unwrap_or_default().trim());
        }
    }
    println!("---\n");
}

fn by_step(totals: &v1::GetContactTotalsResponse) -> comfy_table::Table {
    let steps =
        totals.by_step.iter().map(|total| vec![total.step.clone(), total.status.clone(), total.reminders.to_string()]);
    let reasons = totals
        .withheld
        .iter()
        .map(|total| vec![String::new(), format!("withheld: {}", total.reason), total.reminders.to_string()]);
    table::plain(&["step", "what became of it", "reminders"], 2, steps.chain(reasons))
}

async fn send(clients: &mut Clients, step: Step) -> Result<v1::CommandResponse, tonic::Status> {
    let command = &mut clients.command;
    let answer = match step {
        Step::Open(request) => command.open_account(request).await?,
        Step::Invoice(request) => command.issue_invoice(request).await?,
        Step::Credit(request) => command.credit_invoice(request).await?,
        Step::Pay(request) => command.record_payment(request).await?,
        Step::Reverse(request) => command.reverse_payment(request).await?,
        Step::Amend(request, _) => command.amend_account(request).await?,
    };
    Ok(answer.into_inner())
}

async fn from_bi(system: &System) -> Result<comfy_table::Table, Failure> {
    let mut connection = sqlx::PgConnection::connect(system.stores.database()?.url.expose()).await?;
    sqlx::query("SET ROLE saldo_bi").execute(&mut connection).await?;
    let rows = sqlx::query(
        "SELECT currency::text, sum(not_due)::bigint, sum(d1_30)::bigint, sum(d31_60)::bigint, sum(d61_90)::bigint,
                sum(d91_plus)::bigint, sum(unapplied)::bigint, sum(balance)::bigint
         FROM bi.aging WHERE tenant = $1 GROUP BY currency ORDER BY currency",
    )
    .bind(TENANT)
    .fetch_all(&mut connection)
    .await?;
    let mut lines = Vec::new();
    for row in rows {
        let currency: String = row.try_get(0)?;
        let mut line = vec![currency.clone()];
        for index in 1..=7 {
            line.push(table::major(row.try_get(index)?, &currency));
        }
        lines.push(line);
    }
    connection.close().await?;
    let header = ["", "not_due", "d1_30", "d31_60", "d61_90", "d91_plus", "unapplied", "balance"];
    Ok(table::plain(&header, 1, lines))
}
