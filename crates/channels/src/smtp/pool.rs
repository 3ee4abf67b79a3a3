//! Connections kept for the next mail: greeting, TLS and login cost more than a mail does.

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
    Server, Stage,
    line::{Line, NotBegun},
};
use crate::{Outcome, mail::Envelope};

/// Most connections of one pool: providers allow tens.
pub const MAX_POOL: usize = 1_000;
/// The longest that a connection is kept without a mail. Servers wait for minutes (RFC 5321, 4.5.3.2.7), but what stands
/// between drops silent ones, and on many servers they count against the client.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// Most mails on one connection: servers limit them, the usual ones at a hundred or more.
const MAX_MAILS: u32 = 100;

/// A server and the connections to it. Clones share them.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    server: Server,
    max_idle: Duration,
    max_mails: u32,
    /// One for each connection in use or being closed.
    permits: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

/// The connections that wait for a mail.
#[derive(Default)]
struct Idle {
    /// Each with when it began to wait; the longest waiting first.
    lines: Vec<(Instant, Line)>,
    /// Somebody closes those that wait too long.
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

    /// Hands one mail over, as soon as one of the pool's connections is free for it.
    ///
    /// `last_look` is asked when the server is ready for the message, and before the first byte of it: if it says no, the
    /// mail is certainly not handed over ([`Outcome::Withdrawn`]). It is not asked where the server refuses earlier. It
    /// must not block. If the returned future is dropped, the connection is dropped without another byte; whether the mail
    /// was handed over is then unknown from `last_look` on.
    pub async fn hand_over(&self, mail: &Envelope, last_look: impl FnOnce() -> bool) -> Outcome {
        let Ok(permit) = self.0.permits.clone().acquire_owned().await else {
            return Outcome::Deferred { stage: Stage::Connect, why: "the pool was closed".to_owned() };
        };
        let mut line = match self.0.begun(mail).await {
            Ok(line) => line,
            Err((outcome, line)) => {
                leave(line, permit);
                return outcome;
            }
        };
        let outcome = line.complete(mail, last_look).await;
        if line.is_reusable() && line.mails() < self.0.max_mails {
            self.0.keep(line);
        } else {
            leave(Some(line), permit);
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

/// Takes leave without letting the mail's outcome wait for it; until then the connection counts.
fn leave(line: Option<Line>, permit: OwnedSemaphorePermit) {
    if let Some(line) = line {
        tokio::spawn(async move {
            line.close().await;
            drop(permit);
        });
    }
}

impl Shared {
    /// A connection on which the mail has begun. A kept one that turns out dead is replaced once: nothing of the mail is
    /// anywhere yet.
    async fn begun(&self, mail: &Envelope) -> Result<Line, (Outcome, Option<Line>)> {
        if let Some(mut line) = self.take() {
            match line.begin(mail).await {
                Ok(()) => return Ok(line),
                Err(NotBegun { dead: false, outcome }) => return Err((outcome, Some(line))),
                // Dropped, since nobody is there to take leave of.
                Err(NotBegun { dead: true, .. }) => {}
            }
        }
        let mut line = Line::open(&self.server).await.map_err(|outcome| (outcome, None))?;
        match line.begin(mail).await {
            Ok(()) => Ok(line),
            Err(NotBegun { outcome, .. }) => Err((outcome, Some(line))),
        }
    }

    /// The connection that was used last, so that those which are not needed grow old.
    fn take(&self) -> Option<Line> {
        let (since, line) = self.idle().lines.pop()?;
        (since.elapsed() < self.max_idle).then_some(line)
    }

    fn keep(self: &Arc<Self>, line: Line) {
        let mut idle = self.idle();
        if !idle.swept {
            idle.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        idle.lines.push((Instant::now(), line));
    }

    /// Those that have waited too long, and when the next will have.
    fn old(&self) -> (Vec<Line>, Option<Instant>) {
        let mut idle = self.idle();
        let old = idle.lines.partition_point(|(since, _)| since.elapsed() >= self.max_idle);
        let old = idle.lines.drain(..old).map(|(_, line)| line).collect();
        let next = idle.lines.first().map(|(since, _)| *since + self.max_idle);
        idle.swept = next.is_some();
        (old, next)
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        // Between any two steps under the lock the list is whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what waits too long, until nothing waits or the pool is gone.
async fn sweep(pool: Weak<Shared>) {
    loop {
        let Some((old, next)) = pool.upgrade().map(|pool| pool.old()) else { return };
        for line in old {
            line.close().await;
        }
        let Some(next) = next else { return };
        sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests;
