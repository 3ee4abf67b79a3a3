//! Connections that are kept for the next mail. Greeting, TLS and login cost more than the mail itself.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use super::{
    Server,
    connection::{Connection, NotBegun},
    stage,
};
use crate::{Outcome, email::Envelope};

/// Most connections of one pool: providers allow tens.
pub const MAX_POOL: usize = 1_000;
/// The longest that a connection is kept without a mail. Servers wait for minutes (RFC 5321, 4.5.3.2.7), but firewalls drop
/// silent connections, and many servers count them against the client.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// Most mails on one connection. Servers limit this number, usually to a hundred or more.
const MAX_MAILS: u32 = 100;
/// The longest that a mail waits for a free connection: as long as the account gives a message to begin to leave.
const MAX_WAIT: Duration = Duration::from_secs(120);
/// Steps of the longest conversation: RSET and MAIL on a kept connection that turns out dead, then greeting, STARTTLS,
/// login, MAIL, RCPT, DATA and the message on a new one.
const MOST_STEPS: u32 = 9;

/// A server and the connections to it. Clones share them.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    server: Server,
    max_idle: Duration,
    max_mails: u32,
    /// One for each connection that is in use or being closed.
    permits: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

/// The connections that wait for a mail.
#[derive(Default)]
struct Idle {
    /// Each with the moment that it began to wait; the longest waiting first.
    connections: Vec<(Instant, Connection)>,
    /// Whether a task closes those that wait too long.
    swept: bool,
}

impl Pool {
    /// At most `size` mails are handed over at once, and at most as many connections are open; between 1 and [`MAX_POOL`].
    pub fn new(server: Server, size: usize) -> Self {
        Self::with_limits(server, size, MAX_IDLE, MAX_MAILS)
    }

    pub(super) fn with_limits(server: Server, size: usize, max_idle: Duration, max_mails: u32) -> Self {
        let permits = Arc::new(Semaphore::new(size.clamp(1, MAX_POOL)));
        let idle = Mutex::default();
        Self(Arc::new(Shared { server, max_idle, max_mails, permits, idle }))
    }

    /// The longest that a hand-over may take, with the wait for a free connection.
    pub fn patience(&self) -> Duration {
        MAX_WAIT + self.0.server.patience * MOST_STEPS
    }

    /// Hands one mail over, as soon as one of the pool's connections is free.
    ///
    /// `last_look` is asked when the server is ready for the message, before the message's first byte. If it says no, the
    /// mail is certainly not handed over ([`Outcome::Withdrawn`]). It is not asked where the server refuses earlier. It must
    /// not block. If the returned future is dropped, the connection is dropped without another byte. Whether the mail was
    /// handed over is then unknown if `last_look` had said yes.
    pub async fn hand_over(&self, mail: &Envelope, last_look: impl FnOnce() -> bool) -> Outcome {
        let Ok(permit) = self.0.permits.clone().acquire_owned().await else {
            return Outcome::Deferred { stage: stage::CONNECT, code: 0, why: "the pool was closed".to_owned() };
        };
        let mut connection = match self.0.begun(mail).await {
            Ok(connection) => connection,
            Err((outcome, connection)) => {
                close(connection, permit);
                return outcome;
            }
        };
        let outcome = connection.complete(mail, last_look).await;
        if connection.is_reusable() && connection.mails() < self.0.max_mails {
            self.0.keep(connection);
        } else {
            close(Some(connection), permit);
        }
        outcome
    }
}

/// Without the password.
impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} free", self.0.server, self.0.permits.available_permits())
    }
}

/// Closes a connection in the background, so that the mail's outcome does not wait for it. Until then the connection counts
/// as one of the pool's.
fn close(connection: Option<Connection>, permit: OwnedSemaphorePermit) {
    if let Some(connection) = connection {
        tokio::spawn(async move {
            connection.close().await;
            drop(permit);
        });
    }
}

impl Shared {
    /// A connection on which the mail has begun. A kept connection that turns out dead is replaced once, since nothing of the
    /// mail is anywhere yet.
    async fn begun(&self, mail: &Envelope) -> Result<Connection, (Outcome, Option<Connection>)> {
        if let Some(mut connection) = self.take() {
            match connection.begin(mail).await {
                Ok(()) => return Ok(connection),
                Err(NotBegun { dead: false, outcome }) => return Err((outcome, Some(connection))),
                // Nobody is there to say goodbye to.
                Err(NotBegun { dead: true, .. }) => {}
            }
        }
        let mut connection = Connection::open(&self.server).await.map_err(|outcome| (outcome, None))?;
        match connection.begin(mail).await {
            Ok(()) => Ok(connection),
            Err(NotBegun { outcome, .. }) => Err((outcome, Some(connection))),
        }
    }

    /// The connection that was used last. So connections that are not needed grow old and are closed.
    fn take(&self) -> Option<Connection> {
        let (since, connection) = self.idle().connections.pop()?;
        (since.elapsed() < self.max_idle).then_some(connection)
    }

    fn keep(self: &Arc<Self>, connection: Connection) {
        let mut idle = self.idle();
        if !idle.swept {
            idle.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        idle.connections.push((Instant::now(), connection));
    }

    /// Takes out the connections that have waited too long. Says when the next one will have.
    fn old(&self) -> (Vec<Connection>, Option<Instant>) {
        let mut idle = self.idle();
        let old = idle.connections.partition_point(|(since, _)| since.elapsed() >= self.max_idle);
        let old = idle.connections.drain(..old).map(|(_, connection)| connection).collect();
        let next = idle.connections.first().map(|(since, _)| *since + self.max_idle);
        idle.swept = next.is_some();
        (old, next)
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        // Every change under the lock is complete in one step, so a panic elsewhere leaves no half-changed list.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that wait too long, until none waits or the pool is gone.
async fn sweep(pool: Weak<Shared>) {
    loop {
        let Some((old, next)) = pool.upgrade().map(|pool| pool.old()) else { return };
        for connection in old {
            connection.close().await;
        }
        let Some(next) = next else { return };
        sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests;
