//! `saldo serve`, and `saldo command|projector|scheduler|dispatcher|query`: services as configured, until SIGINT or SIGTERM.

use std::{pin::pin, process::ExitCode};

use saldo_clock::Clock;
use tokio::signal::unix::{SignalKind, signal};

use super::Run;
use crate::{
    Failure, Outcome,
    config::{Config, Overrides},
    run::{grpc::Endpoint, resources::Resources, service::Service, start::Start, system::System, telemetry},
    terminal::progress,
};

/// Run every service in one process, as configured.
///
/// Needs auth.public_keys and the key store. deploy/saldo.example.toml has every setting.
#[derive(clap::Parser)]
#[command(name = "serve", after_help = "Example:\n  saldo serve --config /etc/saldo/saldo.toml")]
pub struct Serve {
    #[command(flatten)]
    settings: Overrides,
}

impl Run for Serve {
    async fn run(self) -> Outcome {
        configured(self.settings, Service::ALL).await
    }
}

/// Run the command service alone: it decides commands and appends them to the log.
///
/// Any number of instances can run, each with a data_dir of its own. Needs auth.public_keys, log.kafka and the key store, and
/// no Postgres. Listens on 127.0.0.1:50051.
#[derive(clap::Parser)]
#[command(
    name = "command",
    after_help = "Examples:\n  saldo command --config /etc/saldo/saldo.toml\n  saldo command --config /etc/saldo/saldo.toml --listen 127.0.0.1:50061 --data-dir /var/lib/saldo/second --keyring-dir /var/lib/saldo/keyring"
)]
pub struct Command {
    #[command(flatten)]
    settings: Overrides,
}

impl Run for Command {
    async fn run(self) -> Outcome {
        configured(self.settings, &[Service::Command]).await
    }
}

/// Run the projector alone: it folds the log into the read models.
///
/// Any number of instances can run; one of them works at a time. Needs log.kafka, database.url and the key store. Serves health
/// on 127.0.0.1:50053.
#[derive(clap::Parser)]
#[command(name = "projector", after_help = "Example:\n  saldo projector --config /etc/saldo/saldo.toml")]
pub struct Projector {
    #[command(flatten)]
    settings: Overrides,
}

impl Run for Projector {
    async fn run(self) -> Outcome {
        configured(self.settings, &[Service::Projector]).await
    }
}

/// Run the scheduler alone: it wakes accounts whose time has come.
///
/// Any number of instances can run; one of them works at a time. Needs log.kafka, database.url, services.command and
/// auth.service_key. Serves health on 127.0.0.1:50054.
#[derive(clap::Parser)]
#[command(name = "scheduler", after_help = "Example:\n  saldo scheduler --config /etc/saldo/saldo.toml")]
pub struct Scheduler {
    #[command(flatten)]
    settings: Overrides,
}

impl Run for Scheduler {
    async fn run(self) -> Outcome {
        configured(self.settings, &[Service::Scheduler]).await
    }
}

/// Run the dispatcher alone: it sends messages.
///
/// Any number of instances can run; they share the work. Needs log.kafka, database.url, services.command, auth.service_key and
/// sending.smtp. Serves health on 127.0.0.1:50055.
#[derive(clap::Parser)]
#[command(name = "dispatcher", after_help = "Example:\n  saldo dispatcher --config /etc/saldo/saldo.toml")]
pub struct Dispatcher {
    #[command(flatten)]
    settings: Overrides,
}

impl Run for Dispatcher {
    async fn run(self) -> Outcome {
        configured(self.settings, &[Service::Dispatcher]).await
    }
}

/// Run the query service alone: it answers queries from the read models.
///
/// Any number of instances can run. Needs auth.public_keys, log.kafka and database.url. Listens on 127.0.0.1:50052.
#[derive(clap::Parser)]
#[command(name = "query", after_help = "Example:\n  saldo query --config /etc/saldo/saldo.toml")]
pub struct Query {
    #[command(flatten)]
    settings: Overrides,
}

impl Run for Query {
    async fn run(self) -> Outcome {
        configured(self.settings, &[Service::Query]).await
    }
}

/// Runs these services until SIGINT or SIGTERM. Waits for servers that cannot be reached yet.
async fn configured(flags: Overrides, services: &[Service]) -> Outcome {
    let config = Config::load(&flags)?;
    telemetry::start(&config.tracing)?;
    telemetry::first_word(services);
    for warning in config.in_the_clear() {
        tracing::warn!("{warning}");
    }
    let exporting = telemetry::export(&config.telemetry, services)?;
    let outcome = serve(&config, services).await;
    if let Some(exporting) = exporting {
        exporting.stop();
    }
    outcome
}

async fn serve(config: &Config, services: &[Service]) -> Outcome {
    let start = Start::new(config, services, None, Clock::system())?;
    let endpoint = Endpoint::open(config, services, start.server_tls.clone()).await?;
    let start = async {
        let stage = |stage| tracing::info!("{}", progress::postgres_stage(&stage));
        let resources = Resources::wait_for(config, services, stage).await?;
        System::start(config, start, endpoint, resources).await
    };
    // The signal handlers stay installed from here to the end, so that no signal is missed.
    let mut asked = pin!(asked_to_stop());
    let system = tokio::select! {
        started = start => started?,
        asked = &mut asked => return asked.map(|()| ExitCode::SUCCESS),
    };
    tracing::info!(address = %system.address, "serving");
    until_stopped(system, asked).await
}

/// Runs until `asked` resolves or a part fails for good; then stops in order.
pub async fn until_stopped(mut system: System, asked: impl Future<Output = Result<(), Failure>>) -> Outcome {
    let failure = tokio::select! {
        asked = asked => { asked?; None }
        why = system.failed() => Some(why),
    };
    tracing::info!("stopping");
    system.stop().await;
    match failure {
        None => Ok(ExitCode::SUCCESS),
        Some(why) => Err(why.into()),
    }
}

/// SIGINT or SIGTERM.
pub async fn asked_to_stop() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
