//! The gRPC server of a process: health for everybody, reflection with a token, and calls through their gate.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use saldo_api::{
    ApiRequest,
    v1::{
        GetCatalogRequest, PreviewContactsRequest, catalog_service_server::CatalogServiceServer,
        query_service_server::QueryServiceServer,
    },
};
use saldo_auth::{ERROR_DOMAIN, Verifier};
use saldo_command::{CatalogGrpc, CommandGrpc, skew::ClockState};
use saldo_gate::{Gate, Limits};
use saldo_query::QueryGrpc;
use saldo_telemetry::{Counted, ServerSpans};
use saldo_tls::Newest;
use tokio::{net::TcpListener, sync::watch};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    codegen::http,
    service::{Routes, interceptor::InterceptedService},
    transport::Server,
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    Failure,
    config::Config,
    run::{
        calls::Calls as CallMetrics,
        incoming::{InProcess, connections},
        service::Service,
        task::Task,
        watching::FewStreams,
    },
};

/// Largest request: above the largest commit, below gRPC's usual 4 MiB.
const MAX_REQUEST: usize = 1 << 20;
/// Largest answer: a page of 1,000 rows, or all open items of one account.
const MAX_ANSWER: usize = 16 << 20;
/// Calls under way on one connection. A client holds further calls back.
const MAX_STREAMS: u32 = 2_048;
/// How old a connection gets. Its client opens another one, and its calls under way are answered.
const OLDEST: Duration = Duration::from_secs(3_600);
/// How often a client is pinged. The calls of a client that is gone are dropped.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The longest a call may go unanswered. More than any call needs, the ageing of a large tenant included.
const LONGEST: Duration = Duration::from_secs(60);
/// Commands in the process at once.
const COMMANDS: Limits = Limits { requests: 8_192, bytes: 128 << 20 };
/// Catalog calls at once: they are rare, and a preview takes much processor time. One answer may take [`MAX_ANSWER`].
const CATALOG_CALLS: Limits = Limits { requests: 64, bytes: 128 << 20 };
/// Queries at once. Most wait for the database or for the projector; one answer may take [`MAX_ANSWER`].
const QUERIES: Limits = Limits { requests: 1_024, bytes: 256 << 20 };

/// Questions of reflection at once. Their streams end with the time for a body.
const REFLECTIONS: Limits = Limits { requests: 64, bytes: 16 << 20 };

/// The names of the command service's and the query service's parts in health.
const COMMAND: &str = "collections.v1.CommandService";
const CATALOG: &str = "collections.v1.CatalogService";
const QUERY: &str = "collections.v1.QueryService";
/// The process runs, however far it is with its start: what a supervisor asks before it kills a process.
const LIVENESS: &str = "liveness";
/// The process takes calls: what a load balancer asks. The empty name says the same.
const READINESS: [&str; 2] = ["readiness", ""];

/// When a call may be tried again that comes before the services are there.
const STARTING: Duration = Duration::from_secs(1);

/// The services beside health.
#[derive(Default)]
pub struct GrpcServices {
    pub command: Option<(CommandGrpc, CatalogGrpc)>,
    pub query: Option<QueryGrpc>,
}

/// The gRPC server of a process. It listens from the start of the process on: health is answered at once, and calls once the
/// services are there.
pub struct Endpoint {
    pub address: SocketAddr,
    health: HealthReporter,
    calls: Calls,
    task: Task,
    in_process: InProcess,
}

impl Endpoint {
    /// Listens for these services.
    pub async fn open(
        config: &Config,
        services: &[Service],
        tls: Option<Newest<ServerConfig>>,
    ) -> Result<Self, Failure> {
        let port = services.first().map_or(0, |service| service.port());
        let listen = config.listen(port);
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            format!("listen {listen}: {error}; is another instance running? Name another address with --listen")
        })?;
        Self::over(listener, services, tls).await
    }

    async fn over(
        listener: TcpListener,
        services: &[Service],
        tls: Option<Newest<ServerConfig>>,
    ) -> Result<Self, Failure> {
        let address = listener.local_addr()?;
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_service_status(LIVENESS, ServingStatus::Serving).await;
        let parts = services.iter().flat_map(|service| match service {
            Service::Command => &[COMMAND, CATALOG][..],
            Service::Query => &[QUERY],
            _ => &[],
        });
        for name in READINESS.iter().chain(parts) {
            health.set_service_status(*name, ServingStatus::NotServing).await;
        }
        let calls = Calls::default();
        let routes = Routes::new(FewStreams::new(health_service)).into_axum_router().fallback_service(calls.clone());
        let server = Server::builder().max_concurrent_streams(MAX_STREAMS).http2_keepalive_interval(Some(KEEPALIVE));
        let server = server.max_connection_age(OLDEST).max_connection_age_grace(LONGEST * 2);
        let mut server = server.timeout(LONGEST).layer(ServerSpans::new(saldo_api::method));
        let server = server.add_routes(routes.into());
        let (incoming, in_process) = connections(listener, tls);
        let task = Task::spawn("gRPC server", |stop: CancellationToken| {
            server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        });
        Ok(Self { address, health, calls, task, in_process })
    }

    /// Takes calls from now on, until the task is stopped. Every service but health needs a token that `verifier` accepts. The
    /// process is ready while it is fit to serve.
    pub async fn serve(
        self,
        services: GrpcServices,
        verifier: Option<Verifier>,
        fit: watch::Receiver<bool>,
    ) -> Result<(Task, InProcess), Failure> {
        let Self { health, calls, task, in_process, .. } = self;
        // No clock is judged for other names than these. A process of the command service alone is healthy while its clock is right.
        let (_, no_clock) = watch::channel(ClockState::Right);
        let (mut names, mut by_clock) = (READINESS.to_vec(), vec![COMMAND]);
        if services.command.is_some() && services.query.is_none() {
            by_clock.append(&mut names);
        }
        let Some(verifier) = verifier else {
            follow(no_clock, fit, health, names).await;
            return Ok((task, in_process));
        };
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(saldo_api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let reflection = Gate::new(reflection, REFLECTIONS);
        let mut routes = Routes::new(InterceptedService::new(reflection, verifier.clone()));
        let mut clock = None;
        if let Some((command, catalog)) = services.command {
            clock = Some(command.clock());
            let command = command.into_service(MAX_REQUEST, COMMANDS);
            let catalog = CatalogServiceServer::new(catalog)
                .max_decoding_message_size(MAX_REQUEST)
                .max_encoding_message_size(MAX_ANSWER);
            let reads = |path: &str| {
                let reading = [PreviewContactsRequest::METHOD, GetCatalogRequest::METHOD];
                path.rsplit('/').next().is_some_and(|method| reading.contains(&method))
            };
            let catalog = Gate::new(catalog, CATALOG_CALLS).counting_answers(reads);
            let catalog = Counted::new(catalog, saldo_api::method, CallMetrics::of("catalog"));
            routes = routes
                .add_service(InterceptedService::new(command, verifier.clone()))
                .add_service(InterceptedService::new(catalog, verifier.clone()));
            names.push(CATALOG);
        }
        if let Some(query) = services.query {
            let query = QueryServiceServer::new(query)
                .max_decoding_message_size(MAX_REQUEST)
                .max_encoding_message_size(MAX_ANSWER);
            let query = Gate::new(query, QUERIES).counting_answers(|_| true);
            let query = Counted::new(query, saldo_api::method, CallMetrics::of("query"));
            routes = routes.add_service(InterceptedService::new(query, verifier));
            names.push(QUERY);
        }
        calls.begin(routes);
        if let Some(clock) = clock {
            follow(clock, fit.clone(), health.clone(), by_clock).await;
        }
        follow(no_clock, fit, health, names).await;
        Ok((task, in_process))
    }
}

/// These names are SERVING while the process is fit to serve and its clock is right. An instance with a wrong clock decides
/// nothing. Ends with the process.
async fn follow(
    mut clock: watch::Receiver<ClockState>,
    mut fit: watch::Receiver<bool>,
    health: HealthReporter,
    names: Vec<&'static str>,
) {
    let tell = async move |standing: ClockState, fit: bool| {
        let status = match (standing, fit) {
            (ClockState::Right, true) => ServingStatus::Serving,
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

/// Where calls go: to the services once they are there. Before that the client is told to come back.
#[derive(Clone, Default)]
struct Calls(Arc<OnceLock<Routes>>);

impl Calls {
    fn begin(&self, routes: Routes) {
        let _ = self.0.set(routes.prepare());
    }
}

impl<B> tower_service::Service<http::Request<B>> for Calls
where
    B: tonic::codegen::Body<Data = tonic::codegen::Bytes> + Send + 'static,
    B::Error: Into<Failure>,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routes are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match self.0.get() {
            Some(routes) => Box::pin(routes.clone().call(request)),
            None => Box::pin(async { Ok(starting().into_http()) }),
        }
    }
}

fn starting() -> Status {
    let mut details = ErrorDetails::with_error_info("STARTING", ERROR_DOMAIN, []);
    details.set_retry_info(Some(STARTING));
    let message = "the service is starting, and reads the log; nothing was done, ask again";
    Status::with_error_details(Code::Unavailable, message, details)
}

#[cfg(test)]
mod tests {
    use saldo_api::v1::{ListParkedRequest, query_service_client::QueryServiceClient};
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus::*, health_client::HealthClient};

    use super::*;

    #[tokio::test]
    async fn o7_while_it_starts_a_process_is_alive_and_not_ready_and_says_when_to_ask_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = Endpoint::over(listener, &[Service::Query], None).await.expect("listening");
        let url = format!("http://{}", endpoint.address);
        let channel = tonic::transport::Endpoint::from_shared(url).expect("a URL").connect().await.expect("connected");
        let health = async |service: &str| {
            let request = HealthCheckRequest { service: service.to_owned() };
            HealthClient::new(channel.clone()).check(request).await.expect("answered").into_inner().status()
        };
        for (name, status) in [("liveness", Serving), ("readiness", NotServing), ("", NotServing), (QUERY, NotServing)]
        {
            assert_eq!(health(name).await, status, "{name}");
        }
        let call = QueryServiceClient::new(channel.clone()).list_parked(ListParkedRequest::default()).await;
        let status = call.expect_err("it is starting");
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("STARTING"), "{status}");
        assert!(details.retry_info().is_some_and(|info| info.retry_delay == Some(STARTING)));
        let (mut server, _) =
            endpoint.serve(GrpcServices::default(), None, watch::channel(true).1).await.expect("served");
        for name in ["liveness", "readiness", ""] {
            assert_eq!(health(name).await, Serving, "{name}");
        }
        server.stop(Duration::from_secs(5)).await.expect("stopped");
    }

    #[tokio::test]
    async fn a_client_that_watches_health_again_and_again_leaves_streams_to_others() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = Endpoint::over(listener, &[Service::Query], None).await.expect("listening");
        let url = format!("http://{}", endpoint.address);
        let channel = tonic::transport::Endpoint::from_shared(url).expect("a URL").connect().await.expect("connected");
        let mut greedy = HealthClient::new(channel);
        let mut streams = Vec::new();
        let refused = loop {
            match greedy.watch(HealthCheckRequest::default()).await {
                Ok(stream) => streams.push(stream),
                Err(refused) => break refused,
            }
        };
        assert_eq!((refused.code(), streams.len()), (Code::ResourceExhausted, 128), "{refused}");
        greedy.check(HealthCheckRequest::default()).await.expect("a question is answered all the same");
        let in_process = endpoint.in_process.clone();
        let other = saldo_client::in_process(move || in_process.clone().open()).expect("a channel");
        HealthClient::new(other).watch(HealthCheckRequest::default()).await.expect("another client finds a place");
    }
}
