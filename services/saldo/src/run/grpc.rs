//! The gRPC server of a process: health for everybody, reflection with a token, and calls through their gate.

use std::time::Duration;

use saldo_api::v1::{catalog_service_server::CatalogServiceServer, query_service_server::QueryServiceServer};
use saldo_auth::Verifier;
use saldo_command::{CatalogGrpc, CommandGrpc, skew::Standing};
use saldo_gate::{Gate, Limits};
use saldo_query::QueryGrpc;
use saldo_telemetry::{Counted, ServerSpans};
use saldo_tls::Newest;
use tokio::{net::TcpListener, sync::watch};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tonic::{service::interceptor::InterceptedService, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    Failure,
    run::{
        calls::Calls,
        incoming::{InProcess, connections},
        task::Task,
    },
};

/// Largest request: above the largest commit, below gRPC's usual 4 MiB.
const MAX_REQUEST: usize = 1 << 20;
/// Largest answer: a page of 1,000 rows, or all open items of one account.
const MAX_ANSWER: usize = 16 << 20;
/// Calls under way on one connection. A client holds further calls back.
const MAX_STREAMS: u32 = 2_048;
/// How often a client is pinged. The calls of a client that is gone are dropped.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The longest a call may go unanswered. More than any call needs, the ageing of a large tenant included.
const LONGEST: Duration = Duration::from_secs(60);
/// Commands in the process at once.
const COMMANDS: Limits = Limits { requests: 8_192, bytes: 128 << 20 };
/// Catalog calls at once: they are rare, and a preview takes much processor time.
const CATALOG: Limits = Limits { requests: 64, bytes: 128 << 20 };
/// Queries at once. Most wait for the database or for the projector; one answer may take [`MAX_ANSWER`].
const QUERIES: Limits = Limits { requests: 1_024, bytes: 256 << 20 };

/// The command service's name in health.
const COMMAND: &str = "collections.v1.CommandService";

/// The services beside health.
#[derive(Default)]
pub struct GrpcServices {
    pub command: Option<(CommandGrpc, CatalogGrpc)>,
    pub query: Option<QueryGrpc>,
}

impl GrpcServices {
    /// Serves until the task is stopped. Every service but health needs a token that `verifier` accepts.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<Newest<ServerConfig>>,
        verifier: Option<Verifier>,
        fit: watch::Receiver<bool>,
    ) -> Result<(Task, InProcess), Failure> {
        let (health, health_service) = tonic_health::server::health_reporter();
        let mut names = Vec::new();
        // A process of the command service alone is healthy while its clock is right; any other process while it runs.
        let follows_clock: &'static [&'static str] = match (&self.command, &self.query) {
            (Some(_), None) => &[COMMAND, ""],
            _ => {
                names.push("");
                &[COMMAND]
            }
        };
        let server = Server::builder().max_concurrent_streams(MAX_STREAMS).http2_keepalive_interval(Some(KEEPALIVE));
        let server = server.timeout(LONGEST);
        let mut router = server.layer(ServerSpans::new(saldo_api::method)).add_service(health_service);
        if let Some(verifier) = verifier {
            let reflection = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(saldo_api::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .build_v1()?;
            router = router.add_service(InterceptedService::new(reflection, verifier.clone()));
            if let Some((command, catalog)) = self.command {
                follow(command.clock(), fit.clone(), health.clone(), follows_clock.to_vec()).await;
                let command = command.into_service(MAX_REQUEST, COMMANDS);
                let catalog = CatalogServiceServer::new(catalog).max_decoding_message_size(MAX_REQUEST);
                let catalog = Counted::new(Gate::new(catalog, CATALOG), saldo_api::method, Calls::of("catalog"));
                router = router
                    .add_service(InterceptedService::new(command, verifier.clone()))
                    .add_service(InterceptedService::new(catalog, verifier.clone()));
                names.push("collections.v1.CatalogService");
            }
            if let Some(query) = self.query {
                let query = QueryServiceServer::new(query)
                    .max_decoding_message_size(MAX_REQUEST)
                    .max_encoding_message_size(MAX_ANSWER);
                let query = Gate::new(query, QUERIES).counting_answers();
                let query = Counted::new(query, saldo_api::method, Calls::of("query"));
                router = router.add_service(InterceptedService::new(query, verifier));
                names.push("collections.v1.QueryService");
            }
        }
        // No clock is judged for these.
        let (right, clock) = watch::channel(Standing::Right);
        follow(clock, fit, health, names).await;
        drop(right);
        let (incoming, in_process) = connections(listener, tls);
        let task = Task::spawn("gRPC server", |stop: CancellationToken| {
            router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        });
        Ok((task, in_process))
    }
}

/// These names are SERVING while the process is fit to serve and its clock is right. An instance with a wrong clock decides
/// nothing. Ends with the process.
async fn follow(
    mut clock: watch::Receiver<Standing>,
    mut fit: watch::Receiver<bool>,
    health: HealthReporter,
    names: Vec<&'static str>,
) {
    let tell = async move |standing: Standing, fit: bool| {
        let status = match (standing, fit) {
            (Standing::Right, true) => ServingStatus::Serving,
            _ => ServingStatus::NotServing,
        };
        for name in &names {
            health.set_service_status(*name, status).await;
        }
    };
    let now = (*clock.borrow_and_update(), *fit.borrow_and_update());
    tell(now.0, now.1).await;
    tokio::spawn(async move {
        loop {
            let changed = tokio::select! {
                changed = fit.changed() => changed,
                Ok(()) = clock.changed() => Ok(()),
            };
            if changed.is_err() {
                return;
            }
            let now = (*clock.borrow_and_update(), *fit.borrow_and_update());
            tell(now.0, now.1).await;
        }
    });
}
