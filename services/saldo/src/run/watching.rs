//! Streams of health. They have no token and no gate, and each lives until its client ends it: there are few, and none lives for
//! ever. Single questions of health are always answered.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::Frame;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tonic::{
    Status,
    body::Body,
    codegen::{Body as HttpBody, BoxFuture, Bytes, Service, http, http::HeaderMap},
    server::NamedService,
};

/// Streams at once, of all clients: about 11 kB each.
const STREAMS: usize = 256;
/// How long a stream lives. Its client begins another one.
const LIFE: Duration = Duration::from_secs(600);

/// The service of health with few streams.
#[derive(Clone)]
pub struct FewStreams<S> {
    inner: S,
    places: Arc<Semaphore>,
}

impl<S> FewStreams<S> {
    pub fn new(inner: S) -> Self {
        Self { inner, places: Arc::new(Semaphore::new(STREAMS)) }
    }
}

impl<S: NamedService> NamedService for FewStreams<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for FewStreams<S>
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
        if !request.uri().path().ends_with("/Watch") {
            return Box::pin(self.inner.call(request));
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            let refused = "too many clients watch the health of this process; ask with Check, or later";
            return Box::pin(async move { Ok(Status::resource_exhausted(refused).into_http()) });
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let watched = |body| Body::new(Watched { body, over: Box::pin(sleep(LIFE)), ended: false, _place: place });
            Ok(answer.await?.map(watched))
        })
    }
}

struct Watched {
    body: Body,
    over: Pin<Box<Sleep>>,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        ready!(self.over.as_mut().poll(context));
        self.ended = true;
        let mut trailers = HeaderMap::new();
        Status::unavailable("the stream has had its time; begin another one").add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Answers with a body that never ends.
    #[derive(Clone)]
    struct Endless;

    struct Nothing;

    impl HttpBody for Nothing {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    impl Service<http::Request<Body>> for Endless {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            Box::pin(async { Ok(http::Response::new(Body::new(Nothing))) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn few_streams_live_at_once_and_none_for_ever_and_questions_are_always_answered() {
        let mut health = FewStreams::new(Endless);
        let mut ask = async |method: &str| {
            let request = http::Request::builder().uri(format!("/grpc.health.v1.Health/{method}")).body(Body::empty());
            health.call(request.expect("a request")).await.expect("infallible")
        };
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            streams.push(ask("Watch").await);
        }
        let refused = Status::from_header_map(ask("Watch").await.headers()).expect("a status");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(ask("Check").await.headers().is_empty());
        let mut body = streams.pop().expect("one").into_body();
        let last = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let trailers = last.expect("a frame").expect("no error").into_trailers().expect("trailers");
        assert_eq!(Status::from_header_map(&trailers).expect("a status").code(), tonic::Code::Unavailable);
        drop(body);
        assert!(ask("Watch").await.headers().is_empty(), "its place is given back");
    }
}
