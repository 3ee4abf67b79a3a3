//! `saldo demo`: the whole system on embedded defaults, a synthetic portfolio through the gRPC API, and what people want
//! to see of it. Ends by itself and leaves nothing behind but the fetched Postgres.

use std::{process::ExitCode, time::Duration};

use futures::StreamExt;
use jiff::tz::TimeZone;
use saldo_api::v1;
use saldo_auth::{Issuer, Role, Verifier};
use saldo_command::Clock;
use sqlx::{Connection, Row};

use crate::{
    Outcome, aging,
    client::{Clients, Reached, Target, explain},
    config::Config,
    portfolio::{self, Step},
    progress,
    system::System,
    table, telemetry, verify,
};

/// Requests in flight while loading.
const IN_FLIGHT: usize = 16;
const TENANT: &str = "demo";
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the demonstration.
pub async fn run() -> Outcome {
    let mut config = Config::default();
    config.tracing.filter = "warn".to_owned();
    telemetry::start(&config.tracing)?;
    let dir = tempfile::Builder::new().prefix("saldo-demo-").tempdir()?;
    config.data_dir = dir.path().to_owned();
    config.listen.set_port(0);
    let issuer = Issuer::generate()?;
    let token = issuer.issue("demo", TENANT, &[Role::Writer, Role::Reader], Duration::from_secs(3600))?;
    let verifier = Verifier::new([issuer.public_pem()?.as_str()])?;
    let clock = Clock::system();
    let system = System::start_shown(&config, verifier, clock.clone()).await?;
    let target = Target { endpoint: format!("http://{}", system.address), token };
    let shown = show(&system, &target, &clock).await;
    system.stop().await;
    dir.close()?;
    let equal = shown?;
    println!("\nThat was all of it: stopped and cleaned up. `saldo dev` keeps it running.");
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn show(system: &System, target: &Target, clock: &Clock) -> Result<bool, Failure> {
    let mut clients = target.connect().await?;
    let today = clock.now().to_zoned(TimeZone::UTC).date();
    let (steps, reached) = load(&clients, today).await?;
    println!("Loaded {steps} commands on {} accounts through the gRPC API.\n", portfolio::ACCOUNTS);
    reached.read_back(&clients).await.map_err(|status| explain(&status))?;

    let report = aging::fetch(&mut clients, v1::GetAgingRequest::default()).await.map_err(|status| explain(&status))?;
    println!("Ageing as of {today}, over gRPC:\n{}\n", table::aging(&report.rows, &report.totals));

    // The account with a reversal tells most.
    let account_id = portfolio::id(4);
    let request = v1::ListOpenItemsRequest { account_id: account_id.clone(), ..Default::default() };
    let items = clients.query.list_open_items(request).await.map_err(|status| explain(&status))?.into_inner().items;
    println!("Open items of {account_id}:\n{}\n", open_items(&items));
    let request = v1::ListHistoryRequest { account_id: account_id.clone(), ..Default::default() };
    let history = clients.query.list_history(request).await.map_err(|status| explain(&status))?.into_inner();
    println!("History of {account_id}:\n{}\n", entries(&history.entries));

    println!(
        "The same from Postgres, as the read-only role saldo_bi:\n  SELECT currency, sum(not_due), … FROM bi.aging GROUP BY currency\n{}\n",
        from_bi(system).await?
    );

    let stores = &system.stores;
    let report =
        saldo_projector::verify(stores.log.as_ref(), &system.identity, &stores.pool, verify::PATIENCE, |_| {}).await?;
    print!("The check against the log: {}", verify::describe(&report));
    Ok(verify::equal(&report))
}

/// Loads the portfolio. Returns how many commands it took and where the last answers stood.
async fn load(clients: &Clients, today: jiff::civil::Date) -> Result<(u64, Reached), Failure> {
    let accounts = portfolio::accounts(today);
    let steps: usize = accounts.iter().map(Vec::len).sum();
    let bar = progress::records("loading");
    bar.set_length(steps as u64);
    let mut loads = futures::stream::iter(accounts)
        .map(|steps| {
            let (mut clients, bar) = (clients.clone(), bar.clone());
            async move {
                let mut last = String::new();
                for step in steps {
                    let answer = ask(&mut clients, step).await.map_err(|status| explain(&status))?;
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
    bar.finish_and_clear();
    Ok((steps as u64, reached))
}

async fn ask(clients: &mut Clients, step: Step) -> Result<v1::CommandResponse, tonic::Status> {
    let command = &mut clients.command;
    let answer = match step {
        Step::Open(request) => command.open_account(request).await?,
        Step::Invoice(request) => command.issue_invoice(request).await?,
        Step::Credit(request) => command.credit_invoice(request).await?,
        Step::Pay(request) => command.record_payment(request).await?,
        Step::Reverse(request) => command.reverse_payment(request).await?,
    };
    Ok(answer.into_inner())
}

fn open_items(items: &[v1::OpenItem]) -> comfy_table::Table {
    let lines = items.iter().map(|item| {
        vec![
            item.document.clone(),
            if item.instalment == 0 { "unapplied".to_owned() } else { item.instalment.to_string() },
            table::day(item.due_date.as_ref()),
            table::major(item.original_minor, &item.currency),
            format!("{} {}", table::major(item.open_minor, &item.currency), item.currency),
        ]
    });
    table::plain(&["document", "part", "due", "original", "open"], 3, lines)
}

fn entries(entries: &[v1::HistoryEntry]) -> comfy_table::Table {
    let lines = entries.iter().map(|entry| {
        let at = entry.recorded_at.and_then(|at| jiff::Timestamp::new(at.seconds, 0).ok());
        vec![
            format!("v{}.{}", entry.version, entry.index),
            at.map(|at| at.to_string()).unwrap_or_default(),
            table::day(entry.effective_date.as_ref()),
            entry.r#type.clone(),
            entry.summary.clone(),
        ]
    });
    table::plain(&["", "recorded", "true on", "type", "what"], 5, lines)
}

async fn from_bi(system: &System) -> Result<comfy_table::Table, Failure> {
    let mut connection = sqlx::PgConnection::connect(system.stores.database_url.expose()).await?;
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
