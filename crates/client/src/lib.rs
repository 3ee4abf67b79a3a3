//! gRPC clients of our services and of the command line: connections, tokens, retries, and reading errors.

mod dial;
mod retry;
mod service;
mod status;

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

pub use dial::{Dial, in_process};
pub use retry::{patiently, patiently_until};
pub use service::{ServiceClients, timed};
pub use status::{StatusDetails, error_chain, explain, is_transient};

/// Adds the token to every call, and the trace that the call is part of.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// White space around the JWT is ignored.
    pub fn new(token: &str) -> Result<Self, ClientError> {
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {}", token.trim()).parse().map_err(|_| ClientError::Token)?;
        // Keeps the token out of debug output and out of HTTP/2's table of headers.
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        if let Some(trace) = saldo_telemetry::traceparent().and_then(|trace| trace.parse().ok()) {
            request.metadata_mut().insert("traceparent", trace);
        }
        Ok(request)
    }
}

/// A channel that sends the token with every call.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The text is no token.
    #[error("the token contains characters that an HTTP header cannot carry; copy the whole token again")]
    Token,
    /// The text is no URL.
    #[error("{0:?} is not a URL such as http://127.0.0.1:50051")]
    Endpoint(String),
    /// An https:// URL without TLS settings.
    #[error("{0} is an https:// address, but TLS is not set up")]
    NoTls(String),
    /// No instance to call.
    #[error("no instance of the command service is configured")]
    NoInstance,
    /// A service's own token could not be signed.
    #[error("signing the service's own token: {0}")]
    Issuer(#[from] saldo_auth::IssuerError),
}

/// Internal: a retry would not help.
impl From<ClientError> for Status {
    fn from(error: ClientError) -> Self {
        Self::internal(error.to_string())
    }
}
