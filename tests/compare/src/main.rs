//! Appends the same invoices as `saldo bench` through other event-sourcing libraries, called in process, each with its own
//! database on one Postgres, and prints a row a measurement.

mod by_cqrs;
mod by_disintegrate;

use std::{
    collections::BTreeMap,
    error::Error,
    time::{Duration, Instant},
};

use clap::Parser;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};

type Failure = Box<dyn Error + Send + Sync>;

/// The same invoices through other event-sourcing libraries.
#[derive(Parser)]
struct Args {
    /// A Postgres server's database in which databases may be made: postgres://user:password@host:port/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Requests in flight, one row each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
    in_flight: Vec<usize>,
    /// Accounts the invoices go to.
    #[arg(long, default_value_t = 10_000)]
    accounts: usize,
    /// Connections of each library's pool.
    #[arg(long, default_value_t = 32)]
    connections: u32,
}

/// An invoice to be issued.
#[derive(Debug, Clone)]
pub struct Issue {
    pub account: String,
    pub number: String,
    pub minor_units: i64,
    pub issue_day: u32,
    pub due_day: u32,
}

/// The open items of an account: the rules that are decided on, the same in both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Open {
    pub opened: bool,
    pub invoices: BTreeMap<String, i64>,
}

/// Why an invoice was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the account does not exist")]
    Unknown,
    #[error("the invoice exists")]
    Exists,
    #[error("not above zero, or due before it is issued")]
    Invalid,
}

impl Open {
    pub fn check(&self, issue: &Issue) -> Result<(), Refused> {
        match issue {
            _ if !self.opened => Err(Refused::Unknown),
            issue if self.invoices.contains_key(&issue.number) => Err(Refused::Exists),
            issue if issue.minor_units <= 0 || issue.due_day < issue.issue_day => Err(Refused::Invalid),
            _ => Ok(()),
        }
    }
}

/// One library.
pub trait Library: Sync {
    const NAME: &str;
    fn open(&self, account: String) -> impl Future<Output = Result<(), Failure>> + Send;
    fn issue(&self, issue: Issue) -> impl Future<Output = Result<(), Failure>> + Send;
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    println!("| library | in flight | invoices/s | p50 ms | p99 ms |\n|---|---|---|---|---|");
    measure(&args, by_cqrs::Cqrs::start(pool(&args, "compare_cqrs").await?).await?).await?;
    measure(&args, by_disintegrate::Disintegrate::start(pool(&args, "compare_disintegrate").await?).await?).await?;
    Ok(())
}

/// An empty database of its own.
async fn pool(args: &Args, name: &str) -> Result<PgPool, Failure> {
    let admin = PgPoolOptions::new().max_connections(1).connect(&args.database_url).await?;
    for statement in [format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("CREATE DATABASE {name}")] {
        sqlx::query(&statement).execute(&admin).await?;
    }
    let options: sqlx::postgres::PgConnectOptions = args.database_url.parse()?;
    Ok(PgPoolOptions::new().max_connections(args.connections).connect_with(options.database(name)).await?)
}

async fn measure<L: Library>(args: &Args, library: L) -> Result<(), Failure> {
    let most = args.in_flight.iter().copied().max().unwrap_or(1);
    let accounts = args.accounts.max(most);
    let shares = (0..args.connections as usize).map(|share| {
        let library = &library;
        async move {
            for account in (share..accounts).step_by(args.connections as usize) {
                library.open(format!("B-{account}")).await?;
            }
            Ok::<_, Failure>(())
        }
    });
    futures::future::try_join_all(shares).await?;
    for (round, in_flight) in args.in_flight.iter().copied().enumerate() {
        let span = Duration::from_secs(args.seconds);
        let (started, library) = (Instant::now(), &library);
        let loops = (0..in_flight).map(|worker| async move {
            let mut times = Vec::new();
            while started.elapsed() < span {
                let count = times.len();
                // Each loop has its own share of the accounts and goes round it.
                let issue = Issue {
                    account: format!("B-{}", worker + in_flight * (count % (accounts / in_flight))),
                    number: format!("F-{round}-{worker}-{count}"),
                    minor_units: 12_345,
                    issue_day: 20_454,
                    due_day: 20_484,
                };
                let asked = Instant::now();
                library.issue(issue).await?;
                times.push(asked.elapsed());
            }
            Ok::<_, Failure>(times)
        });
        let mut times = futures::future::try_join_all(loops).await?.concat();
        let took = started.elapsed();
        times.sort_unstable();
        let at = |hundredths: usize| {
            let index = (times.len() * hundredths / 100).min(times.len().saturating_sub(1));
            let micros = times.get(index).copied().unwrap_or_default().as_micros();
            format!("{}.{:02}", micros / 1_000, micros % 1_000 / 10)
        };
        let per_second = times.len() as u128 * 1_000_000 / took.as_micros().max(1);
        println!("| {} | {in_flight} | {per_second} | {} | {} |", L::NAME, at(50), at(99));
    }
    Ok(())
}
