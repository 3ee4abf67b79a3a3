//! The command line as a client of the gRPC services.

use std::{collections::BTreeMap, error::Error, fmt, path::PathBuf};

use saldo_api::{
    ApiRequest,
    v1::{
        self, ListRemindersRequest, catalog_service_client::CatalogServiceClient,
        command_service_client::CommandServiceClient, query_service_client::QueryServiceClient,
    },
};
use saldo_client::{Authorized, Bearer, Dial};
pub use saldo_client::{StatusDetails, error_chain, explain, is_transient, patiently};
use saldo_facts::ConsistencyToken;
use saldo_tls::{ClientFiles, Identity, TlsError};
use tonic::{Status, service::interceptor::InterceptedService, transport::Channel};

/// The services to call, and the token.
#[derive(Clone, clap::Args)]
pub struct Target {
    /// The gRPC endpoint.
    #[arg(
        long,
        env = "SALDO_ENDPOINT",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL",
        value_parser = not_empty
    )]
    pub endpoint: String,
    /// The query service's endpoint, if it is another one.
    #[arg(long, env = "SALDO_QUERY_ENDPOINT", value_name = "URL", value_parser = not_empty)]
    pub query_endpoint: Option<String>,
    /// A file that holds the token, instead of SALDO_TOKEN. `saldo dev` prints a token, `saldo token` makes one.
    #[arg(long, env = "SALDO_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The token itself. It comes from no flag: every user of the machine can read the flags of a process.
    #[arg(skip)]
    pub token: String,
    /// TLS of both endpoints.
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// A value that is there. A variable of the environment that is set to nothing is a slip.
fn not_empty(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("is empty; give it a value, or unset its variable".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// TLS of an https:// endpoint.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsArgs {
    /// PEM file of the authorities that certify the service; absent: the authorities that browsers trust.
    #[arg(long, env = "SALDO_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file with our certificate, for a service that asks for one.
    #[arg(long, env = "SALDO_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with our certificate's private key.
    #[arg(long, env = "SALDO_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Why a call was not answered. A service with tls.client_ca closes the connection of a client that shows no certificate, often
    /// before the client has read why.
    pub fn explain(&self, endpoint: &str, status: &Status) -> String {
        let why = explain(status);
        let is_cut_off = status.source().is_some() && endpoint.starts_with("https://");
        match &self.tls_cert {
            None if is_cut_off => format!(
                "{why}; no client certificate was shown, and a service with tls.client_ca asks for one: set SALDO_TLS_CERT and \
                 SALDO_TLS_KEY"
            ),
            _ => why,
        }
    }

    fn files(&self) -> ClientFiles {
        let identity = self.tls_cert.clone().zip(self.tls_key.clone());
        let identity = identity.map(|(certificate, key)| Identity { certificate, key });
        ClientFiles { ca: self.tls_ca.clone(), identity }
    }
}

/// The token is left out.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Why the client could not connect.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer.
    #[error("no answer from {endpoint}: {why}; is the service running (`saldo dev`), and SALDO_ENDPOINT right?")]
    Unreachable {
        /// The endpoint.
        endpoint: String,
        /// The transport's message.
        why: String,
    },
    /// There is none.
    #[error(
        "no token: set SALDO_TOKEN, or name a file that holds one with --token-file; `saldo token` makes one for trials"
    )]
    NoToken,
    /// The file of the token.
    #[error("--token-file {path}: {error}")]
    TokenFile {
        /// Its path.
        path: String,
        /// What went wrong.
        error: std::io::Error,
    },
    /// The token or the URL cannot be used.
    #[error(transparent)]
    Client(#[from] saldo_client::ClientError),
    /// A TLS file cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Target {
    /// One endpoint for every service.
    pub fn new(endpoint: String, token: String) -> Self {
        Self { endpoint, query_endpoint: None, token_file: None, token, tls: TlsArgs::default() }
    }

    fn bearer(&self) -> Result<Bearer, ClientError> {
        if !self.token.is_empty() {
            return Ok(Bearer::new(&self.token)?);
        }
        let token = match &self.token_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| ClientError::TokenFile { path: path.display().to_string(), error })?,
            None => std::env::var("SALDO_TOKEN").unwrap_or_default(),
        };
        if token.trim().is_empty() { Err(ClientError::NoToken) } else { Ok(Bearer::new(&token)?) }
    }

    /// Connects at once to every service.
    pub async fn connect(&self) -> Result<Clients, ClientError> {
        let bearer = self.bearer()?;
        let authorized = |channel| InterceptedService::new(channel, bearer.clone());
        let channel = connect(&self.endpoint, &self.tls).await?;
        let query = match &self.query_endpoint {
            Some(apart) => connect(apart, &self.tls).await?,
            None => channel.clone(),
        };
        let (channel, query) = (authorized(channel), authorized(query));
        Ok(Clients {
            command: CommandServiceClient::new(channel.clone()),
            catalog: CatalogServiceClient::new(channel.clone()),
            query: QueryServiceClient::new(query).max_decoding_message_size(64 << 20),
        })
    }
}

/// Connects at once to one endpoint.
pub async fn connect(endpoint: &str, tls: &TlsArgs) -> Result<Channel, ClientError> {
    let unreachable =
        |error| ClientError::Unreachable { endpoint: endpoint.to_owned(), why: error_chain(&error as &dyn Error) };
    let tls = tls.files().open()?;
    Dial::new(endpoint, Some(&tls))?.connect().await.map_err(unreachable)
}

/// One client for each service.
#[derive(Clone)]
pub struct Clients {
    /// Commands.
    pub command: CommandServiceClient<Authorized>,
    /// Policies.
    pub catalog: CatalogServiceClient<Authorized>,
    /// Queries.
    pub query: QueryServiceClient<Authorized>,
}

/// A request that the client of its service can send.
pub trait ClientRequest: ApiRequest {
    /// Sends it once.
    fn ask(self, clients: Clients) -> impl Future<Output = Result<Self::Answer, Status>> + Send;
}

macro_rules! asked_of {
    ($client:ident $($function:ident $request:ident;)*) => {
        $(impl ClientRequest for v1::$request {
            async fn ask(self, mut clients: Clients) -> Result<Self::Answer, Status> {
                Ok(clients.$client.$function(self).await?.into_inner())
            }
        })*
    };
}

saldo_api::command_rpcs!(asked_of, command);
saldo_api::catalog_rpcs!(asked_of, catalog);
saldo_api::query_rpcs!(asked_of, query);

impl Clients {
    /// Sends a request once.
    pub async fn ask<R: ClientRequest>(&self, request: R) -> Result<R::Answer, Status> {
        request.ask(self.clone()).await
    }

    /// Sends a request until it is answered, always under the same request id.
    pub async fn ask_patiently<R: ClientRequest>(&self, request: R) -> Result<R::Answer, Status> {
        patiently(|| request.clone().ask(self.clone())).await
    }
}

/// The newest answered position of each partition.
#[derive(Debug, Default)]
pub struct Reached(BTreeMap<u32, ConsistencyToken>);

impl Reached {
    /// Takes in an answer's consistency token. An empty one is ignored: there is nothing to wait for.
    pub fn note(&mut self, token: &str) {
        if let Ok(token) = token.parse::<ConsistencyToken>() {
            let newest = self.0.entry(token.partition).or_insert(token);
            newest.offset = newest.offset.max(token.offset);
        }
    }

    /// Waits until the read models have passed every noted position, so that the next query finds what was written.
    pub async fn read_back(&self, clients: &Clients) -> Result<(), Status> {
        for token in self.0.values() {
            // The one query over a whole tenant whose cost does not grow with the data.
            let request = ListRemindersRequest {
                consistency_token: token.to_string(),
                page_size: 1,
                ..ListRemindersRequest::default()
            };
            clients.ask_patiently(request).await?;
        }
        Ok(())
    }
}
