//! The receiving side of SMTP: connections and their limits. The conversation on one connection is in [`session`].

mod command;
mod session;

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::store::Store;
pub use session::{MAX_MESSAGE_BYTES, MAX_RECIPIENTS};
use session::{Next, Session};

/// Most senders at a time: each may hold a message in memory.
pub const MAX_CONNECTIONS: usize = 256;
/// The longest that a sender may be silent, or not read its answers (RFC 5321, 4.5.3.2.7).
const IDLE: Duration = Duration::from_secs(300);
/// How much is read at once.
const READ: usize = 16 << 10;
/// The pause after a connection could not be accepted, which mostly means that file descriptors have run out. It is also the
/// longest that turning a sender away may take.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections, until it is stopped.
pub(crate) async fn serve(listener: TcpListener, store: Arc<Store>, stopping: CancellationToken, tasks: TaskTracker) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        let mut stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the mail sink could not accept a connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else {
            tasks.spawn(async move {
                // Nobody waits for a sender that does not read why it is turned away.
                let _ = timeout(PAUSE, stream.write_all(b"421 4.3.2 too many connections\r\n")).await;
            });
            continue;
        };
        let (store, stopping) = (store.clone(), stopping.clone());
        tasks.spawn(async move {
            if let Err(error) = converse(stream, &store, &stopping).await {
                tracing::debug!(%error, "a sender's connection to the mail sink broke");
            }
            drop(permit);
        });
    }
}

async fn converse(mut stream: TcpStream, store: &Store, stopping: &CancellationToken) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut session = Session::new(|from, to, raw| store.take(from, to, raw));
    let mut input = BytesMut::with_capacity(READ);
    // The answers to commands that came together are written together.
    let mut answers = Vec::from(session::GREETING);
    loop {
        timeout(IDLE, stream.write_all(&answers)).await??;
        answers.clear();
        input.reserve(READ);
        let read = tokio::select! {
            read = timeout(IDLE, stream.read_buf(&mut input)) => read,
            () = stopping.cancelled() => return stream.write_all(b"421 4.3.2 the mail sink is stopping\r\n").await,
        };
        let Ok(read) = read else { return stream.write_all(b"421 4.4.2 silent for too long\r\n").await };
        if read? == 0 {
            return Ok(());
        }
        if session.take(&mut input, &mut answers) == Next::Close {
            timeout(IDLE, stream.write_all(&answers)).await??;
            return stream.shutdown().await;
        }
    }
}
