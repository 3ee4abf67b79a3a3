//! Before a request's body is read: so many requests, and so many bytes of them, are in the process at once. Whoever comes
//! beyond is answered at once and told when to come back, so memory stays bounded and nothing waits for a place.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{
    Status,
    body::Body,
    codegen::{Body as HttpBody, BoxFuture, Bytes, Service, http},
    server::NamedService,
};

use crate::failure::Failure;

/// Requests in the process at once.
pub const MAX_REQUESTS: usize = 8_192;
/// Bytes of their bodies at once. What is decoded of them takes a small multiple.
pub const MAX_BYTES: usize = 128 << 20;
/// What a request that is sent away is told to wait, at least and at most, in microseconds.
const RETRY_MICROS: (u64, u64) = (100_000, 5_000_000);
/// How much of the usual time of a request the newest one makes up.
const WEIGHT: u64 = 64;

/// A gRPC service behind its gate.
#[derive(Clone)]
pub struct Gate<S> {
    inner: S,
    room: Arc<Room>,
}

struct Room {
    requests: Arc<Semaphore>,
    bytes: Semaphore,
    /// How long requests usually take.
    usual_micros: AtomicU64,
}

/// What a request takes up, given back when it is answered and nobody works on it any more.
pub struct Held {
    room: Arc<Room>,
    bytes: AtomicU64,
    since: Instant,
    _request: OwnedSemaphorePermit,
}

/// A body whose bytes are counted as they come.
struct Counted {
    body: Body,
    held: Arc<Held>,
}

impl<S> Gate<S> {
    /// Lets in as many as [`MAX_REQUESTS`] and [`MAX_BYTES`] say.
    pub fn new(inner: S) -> Self {
        Self::with_room(inner, MAX_REQUESTS, MAX_BYTES)
    }

    fn with_room(inner: S, requests: usize, bytes: usize) -> Self {
        let room = Room {
            requests: Arc::new(Semaphore::new(requests)),
            bytes: Semaphore::new(bytes),
            usual_micros: AtomicU64::new(0),
        };
        Self { inner, room: Arc::new(room) }
    }

    /// Room for one more request.
    fn enter(&self) -> Result<Held, Failure> {
        let place = self.room.requests.clone().try_acquire_owned().map_err(|_| self.room.overloaded())?;
        Ok(Held { room: self.room.clone(), bytes: AtomicU64::new(0), since: Instant::now(), _request: place })
    }
}

impl Room {
    fn overloaded(&self) -> Failure {
        let usual = self.usual_micros.load(Ordering::Relaxed);
        Failure::Overloaded(Duration::from_micros(usual.clamp(RETRY_MICROS.0, RETRY_MICROS.1)))
    }
}

impl Held {
    fn take(&self, bytes: usize) -> Result<(), Failure> {
        let count = u32::try_from(bytes).map_err(|_| self.room.overloaded())?;
        self.room.bytes.try_acquire_many(count).map_err(|_| self.room.overloaded())?.forget();
        self.bytes.fetch_add(u64::from(count), Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.bytes.add_permits(*self.bytes.get_mut() as usize);
        let took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let usual = &self.room.usual_micros;
        let before = usual.load(Ordering::Relaxed);
        // Two that end at once may lose one of them, which an average can bear.
        usual.store(before - before / WEIGHT + took / WEIGHT, Ordering::Relaxed);
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let held = match self.enter() {
            Ok(held) => Arc::new(held),
            Err(overloaded) => {
                let answer = Status::from(overloaded).into_http();
                return Box::pin(async { Ok(answer) });
            }
        };
        let mut request = request.map(|body| Body::new(Counted { body, held: held.clone() }));
        // With it the worker holds the room as long as it holds the request.
        request.extensions_mut().insert(held.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(held);
            answer
        })
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.held.take(data.len()).map_err(Status::from)?;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn};

    use tokio::sync::Notify;
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;

    /// Reads the body, then waits to be let go; keeps what the worker would.
    #[derive(Clone)]
    struct Slow(Arc<Notify>);

    impl Service<http::Request<Body>> for Slow {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
            let go = self.0.clone();
            Box::pin(async move {
                while let Some(frame) = poll_fn(|context| Pin::new(request.body_mut()).poll_frame(context)).await {
                    if let Err(status) = frame {
                        return Ok(status.into_http());
                    }
                }
                go.notified().await;
                Ok(Status::new(Code::Ok, "").into_http())
            })
        }
    }

    /// One frame of so many bytes.
    struct Bytewise(Option<usize>);

    impl HttpBody for Bytewise {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.take().map(|size| Ok(http_body::Frame::data(vec![7; size].into()))))
        }
    }

    async fn ask(gate: &Gate<Slow>, bytes: usize) -> Status {
        let answer = gate.clone().call(http::Request::new(Body::new(Bytewise(Some(bytes))))).await;
        Status::from_header_map(answer.expect("infallible").headers()).expect("a status")
    }

    /// So much is free: requests and bytes.
    fn free(gate: &Gate<Slow>) -> (usize, usize) {
        (gate.room.requests.available_permits(), gate.room.bytes.available_permits())
    }

    fn assert_sent_away(status: &Status) {
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("OVERLOADED"));
        assert!(details.retry_info().and_then(|info| info.retry_delay).is_some_and(|delay| !delay.is_zero()));
    }

    #[tokio::test]
    async fn beyond_so_many_requests_or_bytes_one_is_sent_away_at_once_and_room_comes_back() {
        let go = Arc::new(Notify::new());
        let gate = Gate::with_room(Slow(go.clone()), 3, 1_000);
        let (first, second) = tokio::join!(ask(&gate, 600), async {
            assert_eq!(free(&gate), (2, 400));
            assert_sent_away(&ask(&gate, 401).await);
            assert_eq!(free(&gate), (2, 400));
            let others = async { tokio::join!(ask(&gate, 100), ask(&gate, 100)) };
            let (others, ()) = tokio::join!(others, async {
                assert_eq!(free(&gate), (0, 200));
                assert_sent_away(&ask(&gate, 1).await);
                go.notify_waiters();
            });
            others
        });
        assert_eq!([first.code(), second.0.code(), second.1.code()], [Code::Ok; 3]);
        assert_eq!(free(&gate), (3, 1_000));
    }

    #[tokio::test]
    async fn what_a_worker_still_works_on_takes_up_room_though_its_client_is_gone() {
        let gate = Gate::with_room(Slow(Arc::default()), 1, 1_000);
        let held = Arc::new(gate.enter().expect("free"));
        held.take(600).expect("free");
        let with_the_worker = held.clone();
        drop(held);
        assert_eq!(free(&gate), (0, 400));
        drop(with_the_worker);
        assert_eq!(free(&gate), (1, 1_000));
    }
}
