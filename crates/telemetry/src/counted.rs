//! Every call is counted once, however it ends: answered, sent away at a gate, or given up by who asked.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, FutureExt as _};
use http::{Request, Response};
use tonic::server::NamedService;
use tower_service::Service;

/// The counters of calls.
pub trait Tally: Clone + Send + 'static {
    /// How a call ended.
    type Ending: Send;

    /// As a call ends that is not answered.
    fn given_up() -> Self::Ending;

    /// As this answer ends it.
    fn ending<A>(answer: &Response<A>) -> Self::Ending;

    /// A call of this method, named without its service, has ended.
    fn count(&self, method: &'static str, ending: Self::Ending, took: Duration);
}

/// A service whose calls are counted.
#[derive(Clone)]
pub struct Counted<S, T> {
    inner: S,
    known: fn(&str) -> Option<&'static str>,
    tally: T,
}

impl<S, T> Counted<S, T> {
    /// Counts calls of the methods that `known` knows: it says a method's name (`package.Service/Method`) as it stands in the
    /// code, if it is one.
    pub fn new(inner: S, known: fn(&str) -> Option<&'static str>, tally: T) -> Self {
        Self { inner, known, tally }
    }
}

/// A call that is counted when it is dropped.
struct Call<T: Tally> {
    tally: T,
    method: &'static str,
    began: Instant,
    ending: Option<T::Ending>,
}

impl<T: Tally> Drop for Call<T> {
    fn drop(&mut self) {
        let ending = self.ending.take().unwrap_or_else(T::given_up);
        self.tally.count(self.method, ending, self.began.elapsed());
    }
}

impl<S: NamedService, T> NamedService for Counted<S, T> {
    const NAME: &'static str = S::NAME;
}

impl<S, T, B, A> Service<Request<B>> for Counted<S, T>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
    T: Tally,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let name = (self.known)(request.uri().path().trim_start_matches('/'));
        let call = name.and_then(|name| name.rsplit_once('/')).map(|(_, method)| Call {
            tally: self.tally.clone(),
            method,
            began: Instant::now(),
            ending: None,
        });
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await?;
            if let Some(mut call) = call {
                call.ending = Some(T::ending(&answer));
            }
            Ok(answer)
        }
        .boxed()
    }
}
