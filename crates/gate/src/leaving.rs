//! An answer's body. It takes up room until it is on its way: a client that reads slowly is not to pile up answers here.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body::Frame;
use tonic::{
    Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes, http::HeaderMap},
};

use crate::Held;

/// A body on its way out.
pub(crate) struct Leaving {
    body: Body,
    held: Arc<Held>,
    /// There was no room for it, which was said in its place.
    over: bool,
}

impl Leaving {
    pub(crate) fn new(body: Body, held: Arc<Held>) -> Self {
        Self { body, held, over: false }
    }
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(overloaded) = self.held.take(data.len())
        {
            self.over = true;
            let mut trailers = HeaderMap::new();
            overloaded.add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }
}
