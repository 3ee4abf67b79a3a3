//! The body of an answer. It keeps the place of its request until it is sent, so that a client that reads slowly piles up no answers
//! here.

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

use crate::Admission;

/// A body on its way out.
pub(crate) struct ResponseBody {
    body: Body,
    admission: Arc<Admission>,
    /// Whether its bytes take up capacity too.
    counted: bool,
    /// There was no capacity for the body; the status that says so was sent instead.
    over: bool,
}

impl ResponseBody {
    pub(crate) fn new(body: Body, admission: Arc<Admission>, counted: bool) -> Self {
        Self { body, admission, counted, over: false }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if self.counted
            && let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(overloaded) = self.admission.take(data.len())
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
