//! A TCP proxy that cuts, delays, halves and throttles what goes through it, and counts what it did.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::sleep,
};

use crate::Failure;

/// A disturbance of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Pass,
    /// Connections are reset, new ones too.
    Cut,
    /// Bytes come late.
    Delay(Duration),
    /// Answers do not come back until it is over: what went out has arrived.
    Halve,
    /// A few bytes at a time.
    Throttle,
}

/// The counts of a link.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections taken.
    pub connections: AtomicU64,
    /// Connections reset.
    pub reset: AtomicU64,
    /// Connections refused.
    pub refused: AtomicU64,
    /// Bytes carried.
    pub carried: AtomicU64,
    /// Bytes that came late.
    pub late: AtomicU64,
    /// Bytes held back while a link was halved.
    pub held: AtomicU64,
    /// Bytes carried while throttled.
    pub throttled: AtomicU64,
}

impl Counts {
    /// All of them by name.
    pub fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("connections", self.connections.load(Relaxed)),
            ("reset", self.reset.load(Relaxed)),
            ("refused", self.refused.load(Relaxed)),
            ("carried", self.carried.load(Relaxed)),
            ("late", self.late.load(Relaxed)),
            ("held", self.held.load(Relaxed)),
            ("throttled", self.throttled.load(Relaxed)),
        ]
    }
}

/// One link.
pub struct Proxy {
    /// Whose way to what, for example `command-1 to kafka`.
    pub name: String,
    /// Where it listens.
    pub port: u16,
    /// The counts of the link.
    pub counts: Arc<Counts>,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// Carries connections on to `target` on this machine.
    pub async fn start(name: String, target: u16) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (mode, heard) = watch::channel(Mode::Pass);
        let counts = Arc::new(Counts::default());
        let link = Link { counts: counts.clone(), mode: heard };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let link = link.clone();
                tokio::spawn(async move {
                    // A line that breaks is for its two ends to notice.
                    let _ = link.carry(near, target).await;
                });
            }
        });
        Ok(Self { name, port, counts, mode })
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

#[derive(Clone)]
struct Link {
    counts: Arc<Counts>,
    mode: watch::Receiver<Mode>,
}

impl Link {
    async fn carry(mut self, mut near: TcpStream, target: u16) -> io::Result<()> {
        if *self.mode.borrow_and_update() == Mode::Cut {
            self.counts.refused.fetch_add(1, Relaxed);
            return near.set_zero_linger();
        }
        let mut far = TcpStream::connect(("127.0.0.1", target)).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        self.counts.connections.fetch_add(1, Relaxed);
        let cut = {
            let (near_in, near_out) = near.split();
            let (far_in, far_out) = far.split();
            let (there, back) = (self.pump(near_in, far_out, false), self.pump(far_in, near_out, true));
            let both = async { tokio::try_join!(there, back) };
            let mut mode = self.mode.clone();
            tokio::select! {
                _ = both => false,
                _ = mode.wait_for(|mode| *mode == Mode::Cut) => true,
            }
        };
        if cut {
            self.counts.reset.fetch_add(1, Relaxed);
            near.set_zero_linger()?;
            far.set_zero_linger()?;
        }
        Ok(())
    }

    async fn pump(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, back: bool) -> io::Result<()> {
        let mut mode = self.mode.clone();
        let mut bytes = vec![0; 16 << 10];
        loop {
            let most = if *mode.borrow() == Mode::Throttle { 512 } else { bytes.len() };
            let read = from.read(&mut bytes[..most]).await?;
            if read == 0 {
                return to.shutdown().await;
            }
            let count = |of: &AtomicU64| of.fetch_add(read as u64, Relaxed);
            let now = *mode.borrow_and_update();
            match now {
                Mode::Delay(late) => {
                    count(&self.counts.late);
                    sleep(late).await;
                }
                Mode::Halve if back => {
                    count(&self.counts.held);
                    let _ = mode.wait_for(|mode| *mode != Mode::Halve).await;
                }
                Mode::Throttle => {
                    count(&self.counts.throttled);
                    sleep(Duration::from_millis(10)).await;
                }
                _ => {}
            }
            to.write_all(&bytes[..read]).await?;
            count(&self.counts.carried);
        }
    }
}
