//! `saldo serve`, and `saldo command|projector|scheduler|dispatcher|query`: services as configured, until asked to stop.

use std::{pin::pin, process::ExitCode};

use saldo_clock::Clock;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Failure, Outcome,
    config::{Config, Overrides},
    ground::Ground,
    progress,
    service::Service,
    system::{Start, System},
    telemetry,
};

/// Runs these services until SIGINT or SIGTERM. Servers that are not there yet are waited for.
pub async fn run(flags: Overrides, services: &[Service]) -> Outcome {
    let config = Config::load(&flags)?;
    telemetry::start(&config.tracing)?;
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
    let mut keys = Vec::new();
    for path in &config.auth.public_keys {
        keys.push(std::fs::read_to_string(path).map_err(|e| format!("auth.public_keys: {}: {e}", path.display()))?);
    }
    let start = Start::new(config, services, &keys, Clock::system())?;
    let start = async {
        let stage = |stage| tracing::info!("{}", progress::postgres_stage(&stage));
        let ground = Ground::wait_for(config, services, stage).await?;
        System::start(config, start, ground).await
    };
    // Listened for from here to the end, so that none is missed in between.
    let mut asked = pin!(asked_to_stop());
    let system = tokio::select! {
        started = start => started?,
        asked = &mut asked => return asked.map(|()| ExitCode::SUCCESS),
    };
    tracing::info!(address = %system.address, ?services, "serving");
    until_stopped(system, asked).await
}

/// Runs until asked to stop, or until something fails for good; then stops in order.
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
