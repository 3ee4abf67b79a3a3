//! A mail server for trying things. It takes every mail, delivers none, keeps the newest in memory and shows them in a
//! browser. It refuses the faults of a sender that a strict server refuses.
//!
//! It asks for no password. On a loopback address only this machine can reach it.

mod received;
mod smtp;
mod store;
mod web;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use received::{Parsed, Received};
pub use smtp::{MAX_CONNECTIONS, MAX_MESSAGE_BYTES, MAX_RECIPIENTS};
use store::Store;
pub use store::{MAX_KEPT, MAX_KEPT_BYTES};

/// The longest that a stop waits for open connections. A browser may hold one.
const STOPPING: Duration = Duration::from_secs(5);

/// A running mail server. It stops when it is dropped; [`MailSink::stop`] waits for it.
#[derive(Debug)]
pub struct MailSink {
    smtp: SocketAddr,
    web: Option<SocketAddr>,
    store: Arc<Store>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl MailSink {
    /// Listens for mails, and for browsers if `web` is given. Port 0 takes a free port.
    pub async fn start(smtp: SocketAddr, web: Option<SocketAddr>) -> io::Result<Self> {
        let (smtp_listener, smtp) = listen(smtp, "mails").await?;
        let (store, stopping, tasks) = (Arc::new(Store::default()), CancellationToken::new(), TaskTracker::new());
        let web = match web {
            None => None,
            Some(web) => {
                let (listener, address) = listen(web, "browsers").await?;
                let pages = web::pages(store.clone(), address.ip().is_loopback())?;
                let stopped = stopping.clone().cancelled_owned();
                tasks.spawn(async move {
                    if let Err(error) = axum::serve(listener, pages).with_graceful_shutdown(stopped).await {
                        tracing::error!(%error, "the mail sink's pages are gone");
                    }
                });
                Some(address)
            }
        };
        tasks.spawn(smtp::serve(smtp_listener, store.clone(), stopping.clone(), tasks.clone()));
        Ok(Self { smtp, web, store, stopping, tasks })
    }

    /// Where it takes mails.
    pub fn smtp_address(&self) -> SocketAddr {
        self.smtp
    }

    /// Where it shows them.
    pub fn web_address(&self) -> Option<SocketAddr> {
        self.web
    }

    /// The mails that are kept, the oldest first: at most [`MAX_KEPT`] and [`MAX_KEPT_BYTES`], the newest of all.
    pub fn messages(&self) -> Vec<Arc<Received>> {
        self.store.newest(usize::MAX)
    }

    /// How many were ever taken.
    pub fn taken(&self) -> u64 {
        self.store.taken()
    }

    /// Waits until so many were ever taken, and gives those that are kept, the oldest first. It waits for ever if they do
    /// not come.
    pub async fn wait_for(&self, taken: u64) -> Vec<Arc<Received>> {
        self.store.wait_for(taken).await;
        self.messages()
    }

    /// Stops: nobody new is let in, senders are told so after the command that is under way. A mail that was not taken by
    /// then is not taken.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        if timeout(STOPPING, self.tasks.wait()).await.is_err() {
            tracing::warn!(seconds = STOPPING.as_secs(), "the mail sink was left before all its connections ended");
        }
    }
}

impl Drop for MailSink {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

async fn listen(address: SocketAddr, whom: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("the mail sink cannot listen for {whom} on {address}: {error}"))
    })
}

/// Whether a name in a URL is this machine's own.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
