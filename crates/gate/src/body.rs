//! A request's body, whose bytes are counted as they come.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body::Frame;
use tonic::{
    Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes},
};

use crate::Held;

/// A body on its way in.
pub(crate) struct Arriving {
    body: Body,
    held: Arc<Held>,
}

impl Arriving {
    pub(crate) fn new(body: Body, held: Arc<Held>) -> Self {
        Self { body, held }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.held.take(data.len())?;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
