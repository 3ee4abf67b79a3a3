//! `saldo health`.

use std::{process::ExitCode, time::Duration};

use anstream::println;
use tonic::Request;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    Outcome,
    client::{self, TlsArgs},
};

/// The longest an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What `health` takes.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    /// The gRPC endpoint of the process.
    #[arg(long, env = "SALDO_ENDPOINT", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    endpoint: String,
    /// One of its services, for example collections.v1.CommandService; absent: the process as a whole.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    service: String,
    /// Whom to trust, and who to be.
    #[command(flatten)]
    tls: TlsArgs,
}

/// Asks; exit code 0 where the answer is SERVING, 1 otherwise.
pub async fn run(args: HealthArgs) -> Outcome {
    let mut client = HealthClient::new(client::connect(&args.endpoint, &args.tls).await?);
    let mut request = Request::new(HealthCheckRequest { service: args.service });
    request.set_timeout(PATIENCE);
    let answer = client.check(request).await.map_err(|status| client::explain(&status))?;
    let status = answer.into_inner().status();
    println!("{}", status.as_str_name());
    Ok(if status == ServingStatus::Serving { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
