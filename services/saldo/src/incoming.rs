//! Connections of the gRPC server: in the clear or over TLS, and from this process itself.

use std::{io, time::Duration};

use futures::{Stream, stream};
use saldo_tls::Newest;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// The longest a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes under way at once; whoever comes then waits to be accepted.
const HANDSHAKES: u32 = 256;
/// Connections that are made and not yet served.
const AHEAD: usize = 16;
/// After a failure to accept, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes on their way between two ends in one process: HTTP/2's window.
const WITHIN: usize = 1 << 16;

/// A connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// Who is connected.
    fn info(&self) -> TcpConnectInfo;
}

impl Io for TcpStream {
    fn info(&self) -> TcpConnectInfo {
        self.connect_info()
    }
}

impl Io for TlsStream<TcpStream> {
    fn info(&self) -> TcpConnectInfo {
        self.get_ref().0.connect_info()
    }
}

impl Io for DuplexStream {
    fn info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: None }
    }
}

/// Any of them.
pub type Connection = Box<dyn Io>;

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.as_ref().info()
    }
}

/// A way to the server for those who run in its process, whatever certificates it asks of others.
#[derive(Clone)]
pub struct Within(mpsc::Sender<Connection>);

impl Within {
    /// Makes a connection.
    pub async fn open(self) -> io::Result<DuplexStream> {
        let (ours, theirs) = duplex(WITHIN);
        let ended = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
        self.0.send(Box::new(theirs)).await.map(|()| ours).map_err(ended)
    }
}

/// The connections to a listener, which is closed when they are dropped.
pub fn connections(
    listener: TcpListener,
    tls: Option<Newest<ServerConfig>>,
) -> (impl Stream<Item = io::Result<Connection>>, Within) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(accept(listener, tls, sender.clone()));
    let connections = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|connection| (Ok(connection), receiver))
    });
    (connections, Within(sender))
}

async fn accept(listener: TcpListener, tls: Option<Newest<ServerConfig>>, sender: mpsc::Sender<Connection>) {
    let handshakes = std::sync::Arc::new(Semaphore::new(HANDSHAKES as usize));
    loop {
        let next = async {
            let place = handshakes.clone().acquire_owned().await.map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true).map(|()| (stream, place))
        };
        let accepted = tokio::select! {
            () = sender.closed() => return,
            accepted = next => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(tls) = &tls else {
            if sender.send(Box::new(stream)).await.is_err() {
                return;
            }
            continue;
        };
        let (acceptor, sender) = (TlsAcceptor::from(tls.get()), sender.clone());
        tokio::spawn(async move {
            let peer = stream.peer_addr().ok();
            let secured = timeout(HANDSHAKE, acceptor.accept(stream)).await;
            drop(place);
            match secured.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                // Where nobody serves any more there is nobody to tell.
                Ok(stream) => drop(sender.send(Box::new(stream)).await),
                Err(error) => tracing::debug!(?peer, %error, "a TLS handshake failed"),
            }
        });
    }
}
