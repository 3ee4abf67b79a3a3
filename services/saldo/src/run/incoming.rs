//! Connections to the gRPC server: in the clear, over TLS, or from this process itself.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, stream};
use saldo_tls::Newest;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Connections at once, below the 1,024 files that a process may usually open. Further ones wait to be accepted.
const CONNECTIONS: usize = 768;
/// The longest a TLS handshake may take, and the longest a connection may stay silent before its first byte.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// TLS handshakes under way at once.
const HANDSHAKES: usize = 256;
/// Accepted connections that wait to be served.
const AHEAD: usize = 16;
/// The pause after a failure to accept, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes under way on a connection within the process: HTTP/2's window.
const IN_PROCESS_BYTES: usize = 1 << 16;

pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// Both addresses.
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

/// An accepted connection.
pub struct Connection {
    io: Box<dyn Io>,
    /// Held while the connection lives; connections are limited.
    _permit: Option<OwnedSemaphorePermit>,
    /// Runs out if the first byte does not come in time; `None` once it has come.
    silent: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    fn from_outside(io: impl Io + 'static, permit: OwnedSemaphorePermit) -> Self {
        Self { io: Box::new(io), _permit: Some(permit), silent: Some(Box::pin(sleep(HANDSHAKE))) }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.io.info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        match &mut self.silent {
            Some(silent) if read.is_pending() => {
                ready!(silent.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            _ => {
                self.silent.take_if(|_| read.is_ready());
                read
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Opens connections from within the process. They need no certificate, even if the server asks others for one.
#[derive(Clone)]
pub struct InProcess(mpsc::Sender<Connection>);

impl InProcess {
    pub async fn open(self) -> io::Result<DuplexStream> {
        let (ours, theirs) = duplex(IN_PROCESS_BYTES);
        let ended = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
        let theirs = Connection { io: Box::new(theirs), _permit: None, silent: None };
        self.0.send(theirs).await.map(|()| ours).map_err(ended)
    }
}

/// The connections to a listener. Dropping the stream closes the listener.
pub fn connections(
    listener: TcpListener,
    tls: Option<Newest<ServerConfig>>,
) -> (impl Stream<Item = io::Result<Connection>>, InProcess) {
    up_to(CONNECTIONS, listener, tls)
}

fn up_to(
    most: usize,
    listener: TcpListener,
    tls: Option<Newest<ServerConfig>>,
) -> (impl Stream<Item = io::Result<Connection>>, InProcess) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(accept(most, listener, tls, sender.clone()));
    let connections = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|connection| (Ok(connection), receiver))
    });
    (connections, InProcess(sender))
}

async fn accept(
    most: usize,
    listener: TcpListener,
    tls: Option<Newest<ServerConfig>>,
    sender: mpsc::Sender<Connection>,
) {
    let (permits, handshakes) = (Arc::new(Semaphore::new(most)), Arc::new(Semaphore::new(HANDSHAKES)));
    loop {
        let next = async {
            if permits.available_permits() == 0 {
                tracing::debug!(most, "further connections wait for one to end");
            }
            let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
            let handshake = handshakes.clone().acquire_owned().await.map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true).map(|()| (stream, permit, handshake))
        };
        let accepted = tokio::select! {
            () = sender.closed() => return,
            accepted = next => accepted,
        };
        let (stream, permit, handshake) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(tls) = &tls else {
            if sender.send(Connection::from_outside(stream, permit)).await.is_err() {
                return;
            }
            continue;
        };
        let (acceptor, sender) = (TlsAcceptor::from(tls.get()), sender.clone());
        tokio::spawn(async move {
            let peer = stream.peer_addr().ok();
            let secured = timeout(HANDSHAKE, acceptor.accept(stream)).await;
            drop(handshake);
            match secured.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                // The server has stopped if nobody takes the connection.
                Ok(stream) => drop(sender.send(Connection::from_outside(stream, permit)).await),
                Err(error) => tracing::debug!(?peer, %error, "a TLS handshake failed"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn beyond_the_limit_a_connection_waits_for_another_to_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (connections, _in_process) = up_to(3, listener, None);
        let mut connections = Box::pin(connections);
        let (mut clients, mut served) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.expect("connected"));
            served.push(connections.next().await.expect("served").expect("a connection"));
        }
        clients.push(TcpStream::connect(address).await.expect("connected"));
        assert!(timeout(Duration::from_millis(100), connections.next()).await.is_err(), "one too many is served");
        served.pop();
        assert!(timeout(HANDSHAKE, connections.next()).await.is_ok(), "it is served when another has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_is_cut_off() {
        let (permits, mut byte) = (Arc::new(Semaphore::new(2)), [0; 1]);
        let permit = || permits.clone().try_acquire_owned().expect("a permit");
        let (_silent, ours) = duplex(IN_PROCESS_BYTES);
        let error = Connection::from_outside(ours, permit()).read(&mut byte).await.expect_err("cut off");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut speaks, ours) = duplex(IN_PROCESS_BYTES);
        let mut connection = Connection::from_outside(ours, permit());
        speaks.write_all(b"a").await.expect("written");
        connection.read_exact(&mut byte).await.expect("read");
        assert!(timeout(HANDSHAKE * 100, connection.read(&mut byte)).await.is_err(), "later it may be silent");
    }
}
