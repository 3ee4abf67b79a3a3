//! Admits requests before their bodies are read. A request beyond its tenant's share is answered at once and told when to
//! come back. So memory stays bounded, and nothing waits to be admitted.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
};

use crate::{Limits, capacity::Capacity, request_body::RequestBody, response_body::ResponseBody};

/// A gRPC service behind its gate.
#[derive(Clone)]
pub struct Gate<S> {
    inner: S,
    capacity: Arc<Capacity>,
    counts_answer: fn(&str) -> bool,
}

impl<S> Gate<S> {
    /// Admits so much at once. A request keeps its place until its answer is sent: a client that does not read its answers must not
    /// pile them up here.
    pub fn new(inner: S, limits: Limits) -> Self {
        Self { inner, capacity: Arc::new(Capacity::new(limits)), counts_answer: |_| false }
    }

    /// Counts the bytes of the answers of these paths too, until they are sent. An answer that finds no capacity is not sent. So these
    /// may only be calls that read: a recorded command must never be answered with "nothing was done".
    pub fn counting_answers(self, of: fn(&str) -> bool) -> Self {
        Self { counts_answer: of, ..self }
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
        let admitted = saldo_auth::caller(request.extensions()).and_then(|caller| self.capacity.admit(&caller.tenant));
        let admission = match admitted {
            Ok(admission) => Arc::new(admission),
            Err(status) => return Box::pin(async { Ok(status.into_http()) }),
        };
        let mut request = request.map(|body| Body::new(RequestBody::new(body, admission.clone())));
        // A service that goes on working on the request keeps the admission.
        request.extensions_mut().insert(admission.clone());
        let counted = (self.counts_answer)(request.uri().path());
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Body::new(ResponseBody::new(body, admission, counted)))) })
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn, pin::Pin};

    use saldo_auth::Caller;
    use tokio::{sync::Notify, time::Instant};
    use tonic::{
        Code, Status,
        codegen::{Body as HttpBody, Bytes},
    };
    use tonic_types::StatusExt;

    use super::*;
    use crate::request_body::BODY_TIME;

    /// Reads the body, then waits to be let go.
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

    fn gate(requests: usize, bytes: usize) -> (Gate<Slow>, Arc<Notify>) {
        let go = Arc::new(Notify::new());
        (Gate::new(Slow(go.clone()), Limits { requests, bytes }), go)
    }

    fn of(tenant: &str, body: Body) -> http::Request<Body> {
        let mut request = http::Request::new(body);
        let caller = Caller { subject: "somebody".into(), tenant: tenant.into(), roles: Vec::new() };
        request.extensions_mut().insert(caller);
        request
    }

    async fn send(gate: &Gate<Slow>, request: http::Request<Body>) -> Status {
        let answer = gate.clone().call(request).await;
        Status::from_header_map(answer.expect("infallible").headers()).expect("a status")
    }

    async fn ask(gate: &Gate<Slow>, tenant: &str, bytes: usize) -> Status {
        send(gate, of(tenant, Body::new(Bytewise(Some(bytes))))).await
    }

    /// So much is taken: requests and bytes.
    fn taken(gate: &Gate<Slow>) -> (usize, usize) {
        (gate.capacity.requests.taken(), gate.capacity.bytes.taken())
    }

    fn assert_sent_away(status: &Status) {
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("OVERLOADED"));
        assert!(details.retry_info().and_then(|info| info.retry_delay).is_some_and(|delay| !delay.is_zero()));
    }

    #[tokio::test]
    async fn beyond_its_share_a_tenant_is_sent_away_at_once_and_others_are_not() {
        let (gate, go) = gate(6, 1_000);
        let (first, others) = tokio::join!(ask(&gate, "big", 500), async {
            assert_eq!(taken(&gate), (1, 500));
            assert_sent_away(&ask(&gate, "big", 1).await);
            assert_eq!(taken(&gate), (1, 500), "what was sent away takes up nothing");
            let others = async { tokio::join!(ask(&gate, "other", 100), ask(&gate, "other", 0), ask(&gate, "big", 0)) };
            let (others, ()) = tokio::join!(others, async {
                assert_eq!(taken(&gate), (4, 600));
                assert_sent_away(&ask(&gate, "big", 0).await);
                assert_sent_away(&ask(&gate, "other", 0).await);
                let (third, ()) = tokio::join!(ask(&gate, "third", 0), async { go.notify_waiters() });
                assert_eq!(third.code(), Code::Ok);
            });
            others
        });
        assert_eq!([first.code(), others.0.code(), others.1.code(), others.2.code()], [Code::Ok; 4]);
        assert_eq!(taken(&gate), (0, 0));
    }

    #[tokio::test]
    async fn nobody_comes_in_without_a_token() {
        let (gate, _) = gate(6, 1_000);
        let status = send(&gate, http::Request::new(Body::new(Bytewise(Some(1))))).await;
        assert_eq!((status.code(), taken(&gate)), (Code::Unauthenticated, (0, 0)));
    }

    /// A byte at a time, and never all.
    struct Trickle(tokio::time::Interval);

    impl HttpBody for Trickle {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
            self.0.poll_tick(context).map(|_| Some(Ok(http_body::Frame::data(vec![7].into()))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_in_time_gives_its_capacity_back() {
        let (gate, _) = gate(4, 1_000);
        let came = Instant::now();
        let trickle = Trickle(tokio::time::interval(BODY_TIME / 4));
        let (trickled, never) = tokio::join!(send(&gate, of("big", Body::new(trickle))), async {
            let never = Trickle(tokio::time::interval_at(came + 2 * BODY_TIME, BODY_TIME));
            send(&gate, of("big", Body::new(never))).await
        });
        assert!((BODY_TIME..2 * BODY_TIME).contains(&came.elapsed()), "{:?}", came.elapsed());
        assert_eq!(taken(&gate), (0, 0));
        for status in [trickled, never] {
            let details = status.get_error_details();
            let reason = details.error_info().map(|info| info.reason.as_str());
            assert_eq!((status.code(), reason), (Code::DeadlineExceeded, Some("REQUEST_TOO_SLOW")));
            assert!(details.retry_info().and_then(|info| info.retry_delay).is_some(), "o11: it may be sent again");
        }
    }

    /// Answers with as many bytes as were asked.
    #[derive(Clone)]
    struct Echo;

    impl Service<http::Request<Body>> for Echo {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            Box::pin(async { Ok(http::Response::new(request.into_body())) })
        }
    }

    #[tokio::test]
    async fn an_answer_takes_up_capacity_until_it_is_gone() {
        let gate = Gate::new(Echo, Limits { requests: 8, bytes: 1_000 }).counting_answers(|_| true);
        let answer = async || {
            let answer = gate.clone().call(of("big", Body::new(Bytewise(Some(200))))).await.expect("infallible");
            let mut body = answer.into_body();
            let first = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            (first.expect("a frame").expect("no error"), body)
        };
        // In and out: it is counted twice.
        let (first, unread) = answer().await;
        assert!(first.is_data() && gate.capacity.bytes.taken() == 400);
        let (second, mut refused) = answer().await;
        let trailers = second.into_trailers().expect("no data");
        assert_sent_away(&Status::from_header_map(&trailers).expect("a status"));
        assert!(poll_fn(|context| Pin::new(&mut refused).poll_frame(context)).await.is_none());
        drop((unread, refused));
        assert_eq!((gate.capacity.requests.taken(), gate.capacity.bytes.taken()), (0, 0));
    }

    #[tokio::test]
    async fn an_answer_about_what_was_done_is_given_whatever_else_is_there() {
        let gate = Gate::new(Echo, Limits { requests: 8, bytes: 1_000 });
        let answer = gate.clone().call(of("big", Body::new(Bytewise(Some(500))))).await.expect("infallible");
        let mut body = answer.into_body();
        let first = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        assert!(first.expect("a frame").expect("no error").is_data());
    }

    #[tokio::test]
    async fn a_request_keeps_its_place_until_its_answer_is_read() {
        let gate = Gate::new(Echo, Limits { requests: 1, bytes: 1_000 });
        let call = || gate.clone().call(of("big", Body::new(Bytewise(Some(1)))));
        let unread = call().await.expect("infallible");
        let refused = call().await.expect("infallible");
        assert_sent_away(&Status::from_header_map(refused.headers()).expect("a status"));
        drop((unread, refused));
        assert_eq!(gate.capacity.requests.taken(), 0);
    }

    #[tokio::test]
    async fn what_is_still_worked_on_takes_up_capacity_though_its_client_is_gone() {
        let (gate, _) = gate(1, 1_000);
        let admission = Arc::new(gate.capacity.admit("big").expect("free"));
        admission.take(500).expect("free");
        let with_the_worker = admission.clone();
        drop(admission);
        assert_eq!(taken(&gate), (1, 500));
        drop(with_the_worker);
        assert_eq!(taken(&gate), (0, 0));
    }
}
