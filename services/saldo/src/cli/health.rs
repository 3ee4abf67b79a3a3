//! `saldo health`.

use std::{process::ExitCode, time::Duration};

use anstream::println;
use tonic::Request;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::Run;
use crate::{
    Outcome,
    client::{self, TlsArgs},
};

/// The longest an answer may take.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Ask a process whether it is serving.
///
/// For health checks. Asks whether the process takes calls; `--service liveness` asks whether it lives, which it may do for long
/// before it takes calls. Needs no token and waits three seconds. Exit code 0: SERVING; 1: NOT_SERVING, or no answer.
#[derive(clap::Parser)]
#[command(
    name = "health",
    after_help = "Examples:\n  saldo health\n  saldo health --endpoint http://127.0.0.1:50055\n  saldo health --service collections.v1.QueryService --endpoint http://127.0.0.1:50052"
)]
pub struct Health {
    /// The gRPC endpoint of the process.
    #[arg(long, env = "SALDO_ENDPOINT", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    endpoint: String,
    /// One of the process's services, for example collections.v1.CommandService; absent: the whole process.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    service: String,
    #[command(flatten)]
    tls: TlsArgs,
}

impl Run for Health {
    async fn run(self) -> Outcome {
        let mut client = HealthClient::new(client::connect(&self.endpoint, &self.tls).await?);
        let mut request = Request::new(HealthCheckRequest { service: self.service });
        request.set_timeout(LONGEST_WAIT);
        let answer = client.check(request).await.map_err(|status| self.tls.explain(&self.endpoint, &status))?;
        let status = answer.into_inner().status();
        println!("{}", status.as_str_name());
        Ok(if status == ServingStatus::Serving { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
