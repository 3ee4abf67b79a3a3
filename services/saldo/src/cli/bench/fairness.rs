//! One tenant's import beside another tenant's single commands.

use std::{process::ExitCode, time::Duration};

use anstream::println;
use saldo_auth::{Issuer, Role};
use saldo_clock::Clock;

use super::{
    Bench, invoice,
    load::{Figures, drive},
    millis, open_accounts, prepare,
};
use crate::{
    Failure, Outcome,
    client::{Clients, Target, patiently},
    run::system::System,
    terminal::{progress, table},
};

/// Accounts that single commands go to, over all partitions.
const SINGLE_ACCOUNTS: usize = 200;

#[derive(Debug, Clone, clap::Args)]
pub struct FairnessArgs {
    /// Requests that the import has in flight.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    import: u32,
}

pub async fn run(bench: &Bench, args: &FairnessArgs) -> Outcome {
    let (config, dir) = prepare(bench)?;
    let issuer = Issuer::generate()?;
    let mut system = System::start_shown(&config, &issuer, Clock::system()).await?;
    system.stop_projector().await?;
    let measured = measure(bench, args, &system, &issuer).await;
    system.stop().await;
    dir.close()?;
    measured?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(bench: &Bench, args: &FairnessArgs, system: &System, issuer: &Issuer) -> Result<(), Failure> {
    let span = Duration::from_secs(bench.seconds);
    let in_flight = args.import as usize;
    // Each has a connection of its own, so that no client waits for another client.
    let clients = async |tenant| {
        let token = issuer.issue("bench", tenant, &[Role::Writer], Duration::from_secs(86_400))?;
        Ok::<_, Failure>(Target::new(system.endpoint(), token).connect().await?)
    };
    let (import, own, other) = (clients("import").await?, clients("import").await?, clients("other").await?);
    let accounts = bench.accounts.max(in_flight);
    open_accounts(&import, accounts).await?;
    open_accounts(&other, SINGLE_ACCOUNTS).await?;

    let bar = progress::spinner("single commands alone");
    let alone = singles(other.clone(), 0, span).await?;
    let mut lines = vec![line("alone", &alone)];
    for (round, who, clients) in [(1, "beside another tenant's import", other), (2, "beside its own import", own)] {
        bar.set_message(who);
        let single = tokio::spawn(singles(clients, round, span));
        let load = drive(in_flight, span, |worker, count| {
            let account = worker + in_flight * (count as usize % (accounts / in_flight));
            let (clients, request) = (import.clone(), invoice(account, round, worker, count));
            async move {
                let ask = || async { clients.command.clone().issue_invoice(request.clone()).await };
                patiently(ask).await.map(|_| ()).map_err(Failure::from)
            }
        });
        let load = load.await?;
        lines.push(line(who, &single.await??));
        lines.push(line(&format!("  the import, {in_flight} in flight"), &load));
    }
    bar.finish_and_clear();
    println!("Single commands, one after the other; times in milliseconds:");
    println!("{}", table::plain(&["", "commands/s", "p50", "p99"], 1, lines));
    Ok(())
}

/// One command after the other, over all accounts for single commands.
async fn singles(clients: Clients, round: usize, span: Duration) -> Result<Figures, Failure> {
    drive(1, span, |_, count| {
        let mut clients = clients.clone();
        let request = invoice(count as usize % SINGLE_ACCOUNTS, round, usize::MAX, count);
        async move { clients.command.issue_invoice(request).await.map(|_| ()).map_err(Failure::from) }
    })
    .await
}

fn line(who: &str, figures: &Figures) -> Vec<String> {
    vec![who.to_owned(), figures.per_second.to_string(), millis(figures.p50), millis(figures.p99)]
}
