//! Calls that take much processor time: previews, and the trial of a policy's templates. Few of them work at once, beside the threads
//! that answer other calls, and one of each tenant. A call keeps its place in the gate until its work has really ended. The work ends
//! soon after its client has gone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use saldo_gate::Admission;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Calls that work at once. Commands need the other processors.
const AT_ONCE: usize = 2;
/// The longest that one may work.
const LONGEST: Duration = Duration::from_secs(10);

/// The place of a call in the gate; `None` where there is no gate.
pub type Place = Option<Arc<Admission>>;

/// The pool.
#[derive(Clone)]
pub struct Heavy {
    room: Arc<Semaphore>,
    /// The line in which the calls of one tenant wait for each other, by the tenant. Only the first of a line waits for room, so a
    /// tenant with many calls is not before a tenant with one.
    lines: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
}

impl Default for Heavy {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(AT_ONCE)), lines: Arc::default() }
    }
}

/// Whether work may go on.
pub struct GoesOn {
    given_up: CancellationToken,
    until: Instant,
}

impl GoesOn {
    pub fn check(&self) -> bool {
        !self.given_up.is_cancelled() && !self.is_late()
    }

    /// Whether it has taken all its time.
    pub fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }
}

impl Heavy {
    /// Does the work when there is room for it. The work asks now and then whether it may go on.
    pub async fn run<T: Send + 'static>(
        &self,
        tenant: &str,
        place: Place,
        work: impl FnOnce(&GoesOn) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let first = self.line(tenant).acquire_owned().await.map_err(|_| Failure::Stopped)?;
        let room = self.room.clone().acquire_owned().await.map_err(|_| Failure::Stopped)?;
        let given_up = CancellationToken::new();
        // Dropped with this future, when the client has gone.
        let _client = given_up.clone().drop_guard();
        let done = tokio::task::spawn_blocking(move || {
            let _held = (place, first, room);
            work(&GoesOn { given_up, until: Instant::now() + LONGEST })
        });
        done.await.map_err(|_| Failure::Stopped)
    }

    fn line(&self, tenant: &str) -> Arc<Semaphore> {
        // Between any two steps under the lock everything is whole.
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|_, line| line.strong_count() > 0);
        lines.get(tenant).and_then(Weak::upgrade).unwrap_or_else(|| {
            let line = Arc::new(Semaphore::new(1));
            lines.insert(tenant.to_owned(), Arc::downgrade(&line));
            line
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::mpsc,
        task::{Context, Poll},
    };

    use saldo_auth::Caller;
    use saldo_gate::{Gate, Limits};
    use tokio::sync::Notify;
    use tonic::{
        Code, Status,
        body::Body,
        codegen::{BoxFuture, Service, http},
    };

    use super::*;

    /// Works until it may not go on, and then until it is let go.
    #[derive(Clone)]
    struct Endless {
        heavy: Heavy,
        begun: Arc<Notify>,
        told: mpsc::SyncSender<bool>,
    }

    impl Service<http::Request<Body>> for Endless {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            let (Self { heavy, begun, told }, place) = (self.clone(), request.extensions().get().cloned());
            Box::pin(async move {
                let endless = move |goes_on: &GoesOn| {
                    begun.notify_one();
                    while goes_on.check() {
                        std::thread::yield_now();
                    }
                    told.send(goes_on.is_late())
                };
                let _ = heavy.run("acme", place, endless).await;
                Ok(Status::new(Code::Ok, "").into_http())
            })
        }
    }

    #[tokio::test]
    async fn work_ends_with_its_client_and_holds_its_place_and_its_room_until_then() {
        // Nobody takes what the work tells: so the work ends when this test lets it.
        let ((told, tells), begun) = (mpsc::sync_channel(0), Arc::new(Notify::new()));
        let heavy = Heavy::default();
        let limits = Limits { requests: 1, bytes: 1_000 };
        let gate = Gate::new(Endless { heavy: heavy.clone(), begun: begun.clone(), told }, limits);
        let call = || {
            let mut request = http::Request::new(Body::empty());
            let caller = Caller { subject: "ops".into(), tenant: "acme".into(), roles: Vec::new() };
            request.extensions_mut().insert(caller);
            gate.clone().call(request)
        };
        let client = tokio::spawn(call());
        begun.notified().await;
        client.abort();
        assert!(client.await.expect_err("it has gone").is_cancelled());
        let refused = call().await.expect("infallible");
        let refused = Status::from_header_map(refused.headers()).expect("a status");
        assert_eq!((refused.code(), heavy.room.available_permits()), (Code::ResourceExhausted, AT_ONCE - 1));

        assert!(!tells.recv().expect("told"), "it ended because its client had gone");
        while heavy.room.available_permits() < AT_ONCE {
            tokio::task::yield_now().await;
        }
        let again = tokio::spawn(call());
        begun.notified().await;
        again.abort();
        assert!(again.await.expect_err("it has gone").is_cancelled());
        tells.recv().expect("its place was given back");
    }

    #[tokio::test]
    async fn the_calls_of_one_tenant_wait_for_each_other_and_not_others_for_them() {
        let heavy = Heavy::default();
        let (let_go, wait) = mpsc::channel::<()>();
        let run = |tenant: &'static str, wait: Option<mpsc::Receiver<()>>| {
            let heavy = heavy.clone();
            tokio::spawn(async move { heavy.run(tenant, None, move |_| wait.map(|wait| wait.recv())).await.map(drop) })
        };
        let mut crowd = vec![run("big", Some(wait))];
        while heavy.room.available_permits() == AT_ONCE {
            tokio::task::yield_now().await;
        }
        crowd.extend((0..20).map(|_| run("big", None)));
        tokio::task::yield_now().await;
        for _ in 0..3 {
            run("single", None).await.expect("no panic").expect("done");
        }
        assert!(crowd.iter().all(|call| !call.is_finished()));
        let_go.send(()).expect("it waits");
        for call in crowd {
            call.await.expect("no panic").expect("done");
        }
        drop(heavy.line("next"));
        assert_eq!(heavy.lines.lock().expect("whole").len(), 1, "lines in which nobody waits are forgotten");
    }
}
