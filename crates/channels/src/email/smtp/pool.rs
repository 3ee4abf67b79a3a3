//! Connections that are kept for the next mail. Greeting, TLS and login cost more than the mail itself.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use lettre::Address;
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use super::{
    Server,
    connection::{Connection, NotBegun},
    stage,
};
use crate::{Concerns, Outcome, RouteFailure, email::Envelope};

/// Most connections of one pool: providers allow tens.
pub const MAX_POOL: usize = 1_000;
/// The longest that a connection is kept without a mail. Servers wait for minutes (RFC 5321, 4.5.3.2.7), but firewalls drop
/// silent connections, and many servers count them against the client.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// Most mails on one connection. Servers limit this number, usually to a hundred or more.
const MAX_MAILS: u32 = 100;
/// How long a server that was reached counts as reachable.
const REACHED: Duration = Duration::from_secs(30);

/// A server and the connections to it. Clones share them.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    server: Server,
    max_idle: Duration,
    max_mails: u32,
    size: usize,
    /// When the server last let us in.
    reached: Mutex<Option<Instant>>,
    /// Held while one call of `reach` opens a connection. The other calls wait for its result.
    reaching: AsyncMutex<()>,
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
        let size = size.clamp(1, MAX_POOL);
        let (permits, idle) = (Arc::new(Semaphore::new(size)), Mutex::default());
        let (reached, reaching) = (Mutex::default(), AsyncMutex::default());
        Self(Arc::new(Shared { server, max_idle, max_mails, size, reached, reaching, permits, idle }))
    }

    /// The longest that the server may take from the message's first byte to its answer.
    pub fn patience(&self) -> Duration {
        self.0.server.limits.message
    }

    /// How many mails are handed over at once.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// Whether the server lets us in, and takes mails of this sender. A server that has let us in a moment ago is not asked
    /// again, unless about a sender. The connection is kept for the next mail.
    pub async fn reach(&self, sender: Option<&str>) -> Result<(), RouteFailure> {
        let shared = &self.0;
        let _one = shared.reaching.lock().await;
        if sender.is_none() && shared.was_reached() {
            return Ok(());
        }
        let fails = |stage, why: &str| RouteFailure { stage, code: 0, why: why.to_owned() };
        let sender = sender.map(str::parse::<Address>).transpose();
        let sender = sender.map_err(|_| fails(stage::MAIL, "the sender's address is none"))?;
        let permit = shared.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| fails(stage::CONNECT, "the pool was closed"))?;
        // A mail may have reached the server while this one waited for its turn.
        if sender.is_none() && shared.was_reached() {
            return Ok(());
        }
        let kept = sender.as_ref().and_then(|_| shared.take());
        let mut connection = match kept {
            Some(kept) => kept,
            None => shared.open().await?,
        };
        if let Some(sender) = &sender {
            let mut asked = connection.asks_for(sender).await;
            if matches!(asked, Err(NotBegun { dead: true, .. })) {
                connection = shared.open().await?;
                asked = connection.asks_for(sender).await;
            }
            if let Err(NotBegun { outcome, .. }) = asked {
                close(Some(connection), permit);
                return Err(match outcome {
                    Outcome::Deferred { stage, code, why, .. } => RouteFailure { stage, code, why },
                    _ => fails(stage::MAIL, "the sender was refused"),
                });
            }
        }
        shared.keep(connection);
        Ok(())
    }

    /// Hands one mail over, as soon as one of the pool's connections is free.
    ///
    /// `last_look` is asked when the server is ready for the message, before the message's first byte. If it says no, the
    /// mail is certainly not handed over ([`Outcome::Withdrawn`]). It is not asked where the server refuses earlier. It must
    /// not block. If the returned future is dropped, the connection is dropped without another byte. Whether the mail was
    /// handed over is then unknown if `last_look` had said yes.
    pub async fn hand_over(&self, mail: &Envelope, last_look: impl FnOnce() -> bool) -> Outcome {
        let outcome = self.hand_over_now(mail, last_look).await;
        match outcome {
            Outcome::Accepted { .. } => self.0.note_reached(true),
            // The next call of `reach` finds out anew.
            Outcome::Deferred { concerns: Concerns::Route | Concerns::Sender, .. } => self.0.note_reached(false),
            _ => {}
        }
        outcome
    }

    async fn hand_over_now(&self, mail: &Envelope, last_look: impl FnOnce() -> bool) -> Outcome {
        let Ok(permit) = self.0.permits.clone().acquire_owned().await else {
            let why = "the pool was closed".to_owned();
            return Outcome::Deferred { stage: stage::CONNECT, code: 0, why, concerns: Concerns::Route };
        };
        let mut connection = match self.0.offered(mail).await {
            Ok(connection) => connection,
            Err((outcome, connection)) => {
                self.0.put_back(connection, permit);
                return outcome;
            }
        };
        let outcome = connection.send(mail, last_look).await;
        self.0.put_back(Some(connection), permit);
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
    /// A connection on which the server waits for the message.
    ///
    /// Nothing of the message is anywhere before that, so a connection that breaks is replaced: a kept one that turns out dead,
    /// and one that breaks at this mail, once. Where the server cannot be reached then, the route has failed. Where the second
    /// connection breaks at the same mail, it may be because of the mail.
    async fn offered(&self, mail: &Envelope) -> Result<Connection, (Outcome, Option<Connection>)> {
        let (mut kept, mut has_broken) = (self.take(), false);
        loop {
            let was_kept = kept.is_some();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.open().await.map_err(|failure| (failure.into(), None))?,
            };
            let (refused, at_the_mail) = match connection.begin(&mail.from).await {
                Err(refused) => (refused, false),
                Ok(()) => match connection.offer(mail).await {
                    Ok(()) => return Ok(connection),
                    Err(refused) => (refused, true),
                },
            };
            match refused {
                // Nobody is there to say goodbye to.
                NotBegun { dead: true, .. } if was_kept && !at_the_mail => {}
                NotBegun { dead: true, .. } if at_the_mail && !has_broken => has_broken = true,
                NotBegun { outcome, .. } => return Err((outcome, Some(connection))),
            }
        }
    }

    /// A new connection.
    async fn open(&self) -> Result<Connection, RouteFailure> {
        let opened = Connection::open(&self.server).await;
        self.note_reached(opened.is_ok());
        opened
    }

    fn note_reached(&self, is_reached: bool) {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = is_reached.then(Instant::now);
    }

    fn was_reached(&self) -> bool {
        let reached = *self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.is_some_and(|at| at.elapsed() < REACHED)
    }

    /// The connection that was used last. So connections that are not needed grow old and are closed.
    fn take(&self) -> Option<Connection> {
        let (since, connection) = self.idle().connections.pop()?;
        (since.elapsed() < self.max_idle).then_some(connection)
    }

    /// Keeps the connection for the next mail, or closes it.
    fn put_back(self: &Arc<Self>, connection: Option<Connection>, permit: OwnedSemaphorePermit) {
        match connection {
            Some(connection) if connection.is_reusable() && connection.mails() < self.max_mails => {
                self.keep(connection)
            }
            spent => close(spent, permit),
        }
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
