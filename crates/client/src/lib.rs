//! What our services and the CLI share as clients of the gRPC services: who asks, asking again, and reading errors.

mod dial;
mod patience;
mod service;
mod status;

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

pub use dial::{Dial, within};
pub use patience::{patiently, patiently_until};
pub use service::{ServiceClients, timed};
pub use status::{Said, error_chain, explain, is_transient};

/// Adds the token to every call, and the trace that it is part of.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// Takes a JWT; white space around it is passed over.
    pub fn new(token: &str) -> Result<Self, ClientError> {
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {}", token.trim()).parse().map_err(|_| ClientError::Token)?;
        // Never in anybody's debug output, and not in HTTP/2's table of headers.
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

/// A channel that carries the token.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not a token.
    #[error("the token holds characters a header cannot; copy it whole")]
    Token,
    /// Not a URL.
    #[error("{0:?} is not a URL such as http://127.0.0.1:50051")]
    Endpoint(String),
    /// A URL with TLS and nobody to trust.
    #[error("{0} wants TLS, and none is set up")]
    NoTls(String),
    /// No instance to ask.
    #[error("no instance of the command service is named")]
    Nobody,
    /// A service's own token could not be signed.
    #[error("a token for the service itself: {0}")]
    Issuer(#[from] saldo_auth::IssuerError),
}

/// To whoever asks again: nothing that asking again mends.
impl From<ClientError> for Status {
    fn from(error: ClientError) -> Self {
        Self::internal(error.to_string())
    }
}
