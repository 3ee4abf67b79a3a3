//! The room that requests share, and what one of them takes up of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use saldo_auth::ERROR_DOMAIN;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::Places;

/// What a request that is sent away is told to wait, at least and at most, in microseconds.
const RETRY_MICROS: (u64, u64) = (100_000, 5_000_000);
/// How much of the usual time of a request the newest one makes up.
const WEIGHT: u64 = 64;

/// How much is let in at once, of all tenants together.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests.
    pub requests: usize,
    /// Bytes of their bodies, and of those of their answers. What they are decoded to takes a small multiple.
    pub bytes: usize,
}

/// Room for requests and their bytes.
pub(crate) struct Room {
    pub(crate) requests: Places,
    pub(crate) bytes: Places,
    /// How long requests usually take.
    usual_micros: AtomicU64,
}

/// What a request takes up, given back when its answer is on its way and nobody works on it any more.
pub struct Held {
    room: Arc<Room>,
    tenant: Arc<str>,
    bytes: AtomicUsize,
    since: Instant,
}

impl Room {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            requests: Places::new(limits.requests),
            bytes: Places::new(limits.bytes),
            usual_micros: AtomicU64::new(0),
        }
    }

    /// Room for one more request of this tenant.
    pub(crate) fn enter(self: &Arc<Self>, tenant: &str) -> Result<Held, Status> {
        let tenant = tenant.into();
        if !self.requests.take(&tenant, 1) {
            return Err(self.overloaded());
        }
        Ok(Held { room: self.clone(), tenant, bytes: AtomicUsize::new(0), since: Instant::now() })
    }

    fn overloaded(&self) -> Status {
        let usual = self.usual_micros.load(Ordering::Relaxed);
        let mut details = ErrorDetails::with_error_info("OVERLOADED", ERROR_DOMAIN, []);
        details.set_retry_info(Some(Duration::from_micros(usual.clamp(RETRY_MICROS.0, RETRY_MICROS.1))));
        let message = "too many requests are in this process; nothing was done, try again later";
        Status::with_error_details(Code::ResourceExhausted, message, details)
    }
}

impl Held {
    /// When it came.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Room for so many bytes of it.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Status> {
        if !self.room.bytes.take(&self.tenant, bytes) {
            return Err(self.room.overloaded());
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.bytes.give_back(&self.tenant, *self.bytes.get_mut());
        self.room.requests.give_back(&self.tenant, 1);
        let took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let usual = &self.room.usual_micros;
        let before = usual.load(Ordering::Relaxed);
        // Two that end at once may lose one of them, which an average can bear.
        usual.store(before - before / WEIGHT + took / WEIGHT, Ordering::Relaxed);
    }
}
