//! Streams of health. They have no token and no gate, and a client may hold them open. So their number and their life are bounded.
//! Single questions of health are always answered.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::Frame;
use tokio::time::{Sleep, sleep};
use tonic::{
    Status,
    body::Body,
    codegen::{Body as HttpBody, BoxFuture, Bytes, Service, http, http::HeaderMap},
    server::NamedService,
    transport::server::TcpConnectInfo,
};

use crate::run::places::{Place, Places};

/// Streams at once, of all clients: about 11 kB each. One address alone gets half of them.
const STREAMS: usize = 256;
/// How long a stream lives. Its client begins another one.
const LIFE: Duration = Duration::from_secs(600);

/// The service of health with few streams.
#[derive(Clone)]
pub struct FewStreams<S> {
    inner: S,
    places: Places,
}

impl<S> FewStreams<S> {
    pub fn new(inner: S) -> Self {
        Self { inner, places: Places::new(STREAMS) }
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
        let address = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        let Some(place) = self.places.take(address.map(|address| address.ip())) else {
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
    _place: Place,
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
        let mut ask_from = async |host: u8, method: &str| {
            let request = http::Request::builder().uri(format!("/grpc.health.v1.Health/{method}")).body(Body::empty());
            let mut request = request.expect("a request");
            let remote_addr = Some(([192, 0, 2, host], 443).into());
            request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr });
            health.call(request).await.expect("infallible")
        };
        let mut streams = Vec::new();
        for _ in 0..STREAMS / 2 {
            streams.push(ask_from(1, "Watch").await);
        }
        let refused = Status::from_header_map(ask_from(1, "Watch").await.headers()).expect("a status");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(ask_from(1, "Check").await.headers().is_empty());
        assert!(ask_from(2, "Watch").await.headers().is_empty(), "another client finds a place");
        let mut body = streams.pop().expect("one").into_body();
        let last = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let trailers = last.expect("a frame").expect("no error").into_trailers().expect("trailers");
        assert_eq!(Status::from_header_map(&trailers).expect("a status").code(), tonic::Code::Unavailable);
        drop(body);
        assert!(ask_from(1, "Watch").await.headers().is_empty(), "its place is given back");
    }
}
