//! Connections to services: in the clear, over TLS, or within this process.

use std::{io, time::Duration};

use hyper_util::rt::TokioIo;
use saldo_tls::Newest;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::ClientError;

/// The longest that making a connection may take, its handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A ping is sent after so long, and a connection without an answer after as long again is given up: the other process stands
/// still, or the line is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const HTTPS_PORT: u16 = 443;

/// The way to one instance of a service.
pub struct Dial {
    endpoint: Endpoint,
    /// For https:// URLs.
    tls: Option<Newest<ClientConfig>>,
}

impl Dial {
    /// `http://host:port`, or `https://host:port` with these TLS settings. Each connection uses the newest ones.
    pub fn new(url: &str, tls: Option<&Newest<ClientConfig>>) -> Result<Self, ClientError> {
        let endpoint = endpoint(url)?;
        let uri = endpoint.uri().clone();
        match (uri.scheme_str(), tls) {
            (Some("https"), None) => Err(ClientError::NoTls(url.to_owned())),
            (Some("https"), Some(tls)) => {
                // tonic is given an http:// URL, since it would otherwise set up TLS itself, which our connector does.
                let authority = uri.authority().map_or("", |authority| authority.as_str());
                let clear = self::endpoint(&format!("http://{authority}"))?;
                Ok(Self { endpoint: clear.origin(uri), tls: Some(tls.clone()) })
            }
            _ => Ok(Self { endpoint, tls: None }),
        }
    }

    /// Connects at once.
    pub async fn connect(self) -> Result<Channel, tonic::transport::Error> {
        match self.tls {
            None => self.endpoint.connect().await,
            Some(tls) => self.endpoint.connect_with_connector(service_fn(move |uri| secured(uri, tls.clone()))).await,
        }
    }

    /// Connects with the first call.
    pub fn connect_lazy(self) -> Channel {
        match self.tls {
            None => self.endpoint.connect_lazy(),
            Some(tls) => self.endpoint.connect_with_connector_lazy(service_fn(move |uri| secured(uri, tls.clone()))),
        }
    }
}

/// A channel to a service in this process, over connections that `open` makes.
pub fn in_process<F, S>(open: impl Fn() -> F + Send + 'static) -> Result<Channel, ClientError>
where
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connector = service_fn(move |_: Uri| {
        let opening = open();
        async move { opening.await.map(TokioIo::new) }
    });
    Ok(endpoint("http://in-process")?.connect_with_connector_lazy(connector))
}

fn endpoint(url: &str) -> Result<Endpoint, ClientError> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| ClientError::Endpoint(url.to_owned()))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

async fn secured(uri: Uri, tls: Newest<ClientConfig>) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    // An IPv6 address stands in brackets in a URL and nowhere else.
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(HTTPS_PORT))).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(TlsConnector::from(tls.get()).connect(name, stream).await?))
}
