//! Connections to the gRPC server: in the clear, over TLS, or from this process itself.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use saldo_tls::Newest;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::run::places::{Place, Places};

/// Connections at once, below the 1,024 files that a process may usually open. One address alone gets half of them, two get a third
/// each, so that health and other clients find a place. Further ones are closed at once. If they waited, they would wait for ever
/// behind those that stay.
const CONNECTIONS: usize = 768;
/// The longest that a TLS handshake may take, and then the longest until the client has sent its whole preface.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Bytes that every client of HTTP/2 sends first: the preface, and the head of the frame of settings (RFC 9113, 3.4).
const PREFACE: usize = 24 + 9;
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
    _place: Option<Place>,
    /// Runs out if the preface does not come in time, and the bytes of it that are missing; `None` once it has come.
    preface: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Connection {
    fn from_outside(io: impl Io + 'static, place: Place) -> Self {
        Self { io: Box::new(io), _place: Some(place), preface: Some((Box::pin(sleep(HANDSHAKE)), PREFACE)) }
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
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if let Some((late, missing)) = &mut self.preface {
            *missing = missing.saturating_sub(buffer.filled().len() - before);
            if *missing == 0 {
                self.preface = None;
            } else if late.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
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
        let theirs = Connection { io: Box::new(theirs), _place: None, preface: None };
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
    let places = Places::new(most);
    loop {
        let accepted = tokio::select! {
            () = sender.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take(Some(peer.ip())) else {
            tracing::debug!(%peer, most, "too many connections, or too many of this address: the connection is closed");
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "a connection ended at once");
            continue;
        }
        let Some(tls) = &tls else {
            if sender.send(Connection::from_outside(stream, place)).await.is_err() {
                return;
            }
            continue;
        };
        let (acceptor, sender) = (TlsAcceptor::from(tls.get()), sender.clone());
        tokio::spawn(async move {
            let secured = timeout(HANDSHAKE, acceptor.accept(stream)).await;
            match secured.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                // The server has stopped if nobody takes the connection.
                Ok(stream) => drop(sender.send(Connection::from_outside(stream, place)).await),
                Err(error) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpSocket,
    };

    use super::*;

    #[tokio::test]
    async fn an_address_gets_half_of_the_places_and_others_find_one_meanwhile() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (connections, _in_process) = up_to(6, listener, None);
        let mut connections = Box::pin(connections);
        let (mut clients, mut served, mut byte) = (Vec::new(), Vec::new(), [0; 1]);
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.expect("connected"));
            served.push(connections.next().await.expect("served").expect("a connection"));
        }
        let mut beyond = TcpStream::connect(address).await.expect("connected");
        assert!(!matches!(timeout(HANDSHAKE, beyond.read(&mut byte)).await.expect("closed at once"), Ok(1..)));
        let other = TcpSocket::new_v4().expect("a socket");
        other.bind("127.0.0.2:0".parse().expect("an address")).expect("bound");
        let _other = other.connect(address).await.expect("connected");
        let _theirs = timeout(HANDSHAKE, connections.next()).await.expect("another address finds a place");
        served.pop();
        // The place is given back: with another address there, the first one has a third.
        clients.push(TcpStream::connect(address).await.expect("connected"));
        assert!(timeout(HANDSHAKE, connections.next()).await.is_ok(), "it is served when another has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_say_the_whole_preface_is_cut_off() {
        let (places, mut bytes) = (Places::new(8), [0; 64]);
        let place = || places.take(None).expect("a place");
        for said in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let (mut speaks, ours) = duplex(IN_PROCESS_BYTES);
            let mut connection = Connection::from_outside(ours, place());
            speaks.write_all(said).await.expect("written");
            let error = loop {
                match connection.read(&mut bytes).await {
                    Ok(read) => assert!(read > 0),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        let (mut speaks, ours) = duplex(IN_PROCESS_BYTES);
        let mut connection = Connection::from_outside(ours, place());
        speaks.write_all(&[b'a'; PREFACE]).await.expect("written");
        assert_eq!(connection.read(&mut bytes).await.expect("read"), PREFACE);
        assert!(timeout(HANDSHAKE * 100, connection.read(&mut bytes)).await.is_err(), "later it may be silent");
    }
}
