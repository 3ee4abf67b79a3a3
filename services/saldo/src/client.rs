//! The CLI as a client of the gRPC services.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use saldo_api::v1::{
    GetAgingRequest, command_service_client::CommandServiceClient, query_service_client::QueryServiceClient,
};
use saldo_commit::ConsistencyToken;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

/// Where and as whom to ask.
#[derive(Clone, clap::Args)]
pub struct Target {
    /// The gRPC endpoint.
    #[arg(long, env = "SALDO_ENDPOINT", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    pub endpoint: String,
    /// A token; `saldo dev` prints one, `saldo token` makes one.
    #[arg(long, env = "SALDO_TOKEN", hide_env_values = true, value_name = "JWT")]
    pub token: String,
}

/// Without the token.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Adds the token to every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A channel that carries the token.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// Why the client could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not a URL.
    #[error("endpoint {0:?} is not a URL such as http://127.0.0.1:50051")]
    Endpoint(String),
    /// Nobody answers.
    #[error("no answer from {endpoint}: {why}; is the service running (`saldo dev`), and SALDO_ENDPOINT right?")]
    Unreachable {
        /// The endpoint.
        endpoint: String,
        /// The transport's words.
        why: String,
    },
    /// Not a token.
    #[error("the token holds characters a header cannot; copy it whole")]
    Token,
}

impl Target {
    /// Connects.
    pub async fn connect(&self) -> Result<Clients, ClientError> {
        let endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(|_| ClientError::Endpoint(self.endpoint.clone()))?
            .connect_timeout(Duration::from_secs(5));
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| ClientError::Unreachable { endpoint: self.endpoint.clone(), why: error_chain(&error) })?;
        let bearer = format!("Bearer {}", self.token.trim()).parse().map_err(|_| ClientError::Token)?;
        let channel = InterceptedService::new(channel, Bearer(bearer));
        Ok(Clients {
            command: CommandServiceClient::new(channel.clone()),
            query: QueryServiceClient::new(channel).max_decoding_message_size(64 << 20),
        })
    }
}

/// The services' clients.
#[derive(Clone)]
pub struct Clients {
    /// Commands.
    pub command: CommandServiceClient<Authorized>,
    /// Queries.
    pub query: QueryServiceClient<Authorized>,
}

/// The longest that one request is asked again while the service is out of reach, busy or behind.
const PATIENCE: Duration = Duration::from_secs(300);

/// Asks again while asking again is the right answer; a command with the same request id.
pub async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let started = Instant::now();
    let mut pause = Duration::from_millis(50);
    loop {
        match ask().await {
            Err(status) if is_transient(&status) && started.elapsed() < PATIENCE => {
                tokio::time::sleep(Said::of(&status).retry_after.unwrap_or(pause)).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            answer => return answer,
        }
    }
}

/// The newest place of each partition that commands were answered at.
#[derive(Debug, Default)]
pub struct Reached(BTreeMap<u32, ConsistencyToken>);

impl Reached {
    /// Takes in an answer's consistency token. A text that is none is passed over: there is nothing to wait for.
    pub fn note(&mut self, token: &str) {
        if let Ok(token) = token.parse::<ConsistencyToken>() {
            let newest = self.0.entry(token.partition).or_insert(token);
            newest.offset = newest.offset.max(token.offset);
        }
    }

    /// Waits until the read models have passed all of it, so that whoever reads next finds what was written.
    pub async fn read_back(&self, clients: &Clients) -> Result<(), Status> {
        for token in self.0.values() {
            let request =
                GetAgingRequest { consistency_token: token.to_string(), page_size: 1, ..GetAgingRequest::default() };
            patiently(|| {
                let (mut query, request) = (clients.query.clone(), request.clone());
                async move { query.get_aging(request).await }
            })
            .await?;
        }
        Ok(())
    }
}

/// What an error status says to a machine.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// ErrorInfo's reason.
    pub reason: String,
    /// ErrorInfo's details.
    pub details: std::collections::HashMap<String, String>,
    /// RetryInfo's delay.
    pub retry_after: Option<Duration>,
}

impl Said {
    /// Reads a status's google.rpc details.
    pub fn of(status: &Status) -> Self {
        let info = status.get_details_error_info();
        Self {
            retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
            reason: info.as_ref().map(|info| info.reason.clone()).unwrap_or_default(),
            details: info.map(|info| info.metadata).unwrap_or_default(),
        }
    }
}

/// Whether asking again with the same request id is the right answer to this status.
pub fn is_transient(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
    )
}

/// A status in one line for people: what was said, and each field's rule.
pub fn explain(status: &Status) -> String {
    let mut text = status.message().to_owned();
    if let Some(bad) = status.get_details_bad_request() {
        let rules: Vec<String> = bad
            .field_violations
            .iter()
            .map(|violation| format!("{}: {}", violation.field, violation.description))
            .collect();
        if !rules.is_empty() {
            text = rules.join("; ");
        }
    }
    if text.is_empty() { format!("{:?}", status.code()) } else { text }
}

/// An error with all its causes.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed() {
        let target = Target { endpoint: "http://127.0.0.1:1".into(), token: "hunter2".into() };
        let shown = format!("{target:?}");
        assert!(shown.contains("127.0.0.1") && !shown.contains("hunter2"), "{shown}");
    }
}
