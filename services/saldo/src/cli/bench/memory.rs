//! The memory of accounts with open invoices, and the time of a restart with them.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anstream::println;
use saldo_auth::{Issuer, Role};
use saldo_clock::Clock;
use saldo_command::STORE_CACHE;

use super::{Bench, invoice, load, open_accounts, prepare};
use crate::{
    Failure, Outcome,
    client::{Clients, Target},
    run::system::System,
    terminal::table,
};

/// Invoices under way at once.
const IN_FLIGHT: usize = 1_024;
/// The first measurement has this part of the accounts: enough to fill the caches of the stores both times.
const FEW: u32 = 2;
/// The wait after the last answer, until the stores are saved and the memory of the commands is freed.
const REST: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct MemoryArgs {
    /// Accounts.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    debtors: u32,
    /// Open invoices of each.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    invoices: u32,
}

pub async fn run(bench: &Bench, args: &MemoryArgs) -> Outcome {
    let (config, dir) = prepare(bench)?;
    let issuer = Issuer::generate()?;
    let mut system = System::start_shown(&config, &issuer, Clock::system()).await?;
    system.stop_projector().await?;
    let measured = measure(args, &system, &issuer, &config.data_dir.join("command")).await;
    system.stop().await;
    let (few, all) = measured?;
    let begun = Instant::now();
    let system = System::start_shown(&config, &issuer, Clock::system()).await?;
    let restarted = begun.elapsed();
    system.stop().await;
    dir.close()?;

    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let line = |accounts: u32, taken: &Memory| {
        [
            (format!("with {accounts} accounts"), taken.process),
            ("  of it the stores' cache, at most".to_owned(), taken.cache),
        ]
    };
    let lines = [line(args.debtors / FEW, &few), line(args.debtors, &all)].into_iter().flatten();
    let mut lines: Vec<_> = lines.map(|(what, bytes)| vec![what, mib(bytes)]).collect();
    let more = all.beyond_cache().cast_signed() - few.beyond_cache().cast_signed();
    let each = more / i64::from(args.debtors - args.debtors / FEW);
    lines.push(vec!["an account more, beyond the cache".to_owned(), format!("{each} B")]);
    lines.push(vec!["restart until it serves".to_owned(), format!("{} ms", restarted.as_millis())]);
    println!("Memory of the process, {} open invoices an account:", args.invoices);
    println!("{}", table::plain(&["", "figure"], 1, lines));
    Ok(ExitCode::SUCCESS)
}

/// In bytes.
struct Memory {
    process: u64,
    cache: u64,
}

impl Memory {
    fn beyond_cache(&self) -> u64 {
        self.process.saturating_sub(self.cache)
    }
}

/// With a part of the accounts and with all. The difference leaves out every cost that does not depend on their number.
async fn measure(
    args: &MemoryArgs,
    system: &System,
    issuer: &Issuer,
    stores: &Path,
) -> Result<(Memory, Memory), Failure> {
    let token = issuer.issue("bench", "bench", &[Role::Writer], Duration::from_secs(86_400))?;
    let clients = Target::new(system.endpoint(), token).connect().await?;
    let taken = async |accounts| -> Result<Memory, Failure> {
        fill(args, &clients, accounts).await?;
        tokio::time::sleep(REST).await;
        Ok(Memory { process: resident()?, cache: cached(stores)? })
    };
    Ok((taken(args.debtors / FEW).await?, taken(args.debtors).await?))
}

/// Makes so many accounts with their invoices. Existing ones are skipped.
async fn fill(args: &MemoryArgs, clients: &Clients, accounts: u32) -> Result<(), Failure> {
    let accounts = accounts as usize;
    open_accounts(clients, accounts).await?;
    let invoices = accounts * args.invoices as usize;
    load::each("issuing invoices", 0..invoices, IN_FLIGHT, |number| {
        issue(clients.clone(), number % accounts, number / accounts)
    })
    .await
}

async fn issue(mut clients: Clients, account: usize, round: usize) -> Result<(), Failure> {
    clients.command.issue_invoice(invoice(account, round, account, 0)).await?;
    Ok(())
}

/// The resident memory of the process, in bytes.
fn resident() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib << 10)
}

/// The most that the caches of the stores can hold, in bytes: a cache is never larger than its file.
fn cached(stores: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for store in std::fs::read_dir(stores)? {
        bytes += store?.metadata()?.len().min(STORE_CACHE as u64);
    }
    Ok(bytes)
}
