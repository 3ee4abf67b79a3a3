//! The capacity that requests share, and the part of it that one request takes up.

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

use crate::FairSemaphore;

/// The shortest and the longest wait that is told to a request that is sent away, in microseconds.
const RETRY_MICROS: (u64, u64) = (100_000, 5_000_000);
/// The newest request counts for one part in so many of the usual time.
const WEIGHT: u64 = 64;

/// How much is admitted at once, of all tenants together.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests.
    pub requests: usize,
    /// Bytes of request bodies and of response bodies. A decoded message takes a small multiple of its bytes.
    pub bytes: usize,
}

/// The capacity of a process for requests and their bytes.
pub(crate) struct Capacity {
    pub(crate) requests: FairSemaphore,
    pub(crate) bytes: FairSemaphore,
    /// How long requests usually take.
    usual_micros: AtomicU64,
}

/// A request's part of the capacity. It is given back when the answer is sent and nobody works on the request.
pub struct Admission {
    capacity: Arc<Capacity>,
    tenant: Arc<str>,
    bytes: AtomicUsize,
    since: Instant,
}

impl Capacity {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            requests: FairSemaphore::new(limits.requests),
            bytes: FairSemaphore::new(limits.bytes),
            usual_micros: AtomicU64::new(0),
        }
    }

    /// Admits one more request of this tenant.
    pub(crate) fn admit(self: &Arc<Self>, tenant: &str) -> Result<Admission, Status> {
        let tenant = tenant.into();
        if !self.requests.take(&tenant, 1) {
            return Err(self.overloaded());
        }
        Ok(Admission { capacity: self.clone(), tenant, bytes: AtomicUsize::new(0), since: Instant::now() })
    }

    fn overloaded(&self) -> Status {
        let usual = self.usual_micros.load(Ordering::Relaxed);
        let mut details = ErrorDetails::with_error_info("OVERLOADED", ERROR_DOMAIN, []);
        details.set_retry_info(Some(Duration::from_micros(usual.clamp(RETRY_MICROS.0, RETRY_MICROS.1))));
        let message = "too many requests are in this process; nothing was done, try again later";
        Status::with_error_details(Code::ResourceExhausted, message, details)
    }
}

impl Admission {
    /// When the request came.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Takes so many bytes for it.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Status> {
        if !self.capacity.bytes.take(&self.tenant, bytes) {
            return Err(self.capacity.overloaded());
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.capacity.bytes.give_back(&self.tenant, *self.bytes.get_mut());
        self.capacity.requests.give_back(&self.tenant, 1);
        let took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let usual = &self.capacity.usual_micros;
        let before = usual.load(Ordering::Relaxed);
        // One of two requests that end at once may not be counted, which an average can bear.
        usual.store(before - before / WEIGHT + took / WEIGHT, Ordering::Relaxed);
    }
}
