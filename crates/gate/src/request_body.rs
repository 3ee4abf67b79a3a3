//! The body of a request: its bytes are counted as they come, and they must come in time.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::Frame;
use saldo_auth::ERROR_DOMAIN;
use tokio::time::{Sleep, sleep_until};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes},
};

use tonic_types::{ErrorDetails, StatusExt};

use crate::Admission;

/// The longest that a body may take to come. It has a megabyte at most, and takes up capacity all the while.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(10);
/// The time that a client is asked to wait before it sends the request again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A body on its way in.
pub(crate) struct RequestBody {
    body: Body,
    admission: Arc<Admission>,
    /// Ends when the body is late. Most bodies are there before anybody waits.
    late: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(crate) fn new(body: Body, admission: Arc<Admission>) -> Self {
        Self { body, admission, late: None }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            let late = this.late.get_or_insert_with(|| Box::pin(sleep_until(this.admission.since() + BODY_TIME)));
            ready!(late.as_mut().poll(context));
            return Poll::Ready(Some(Err(too_slow())));
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.admission.take(data.len())?;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

fn too_slow() -> Status {
    let mut details = ErrorDetails::with_error_info("REQUEST_TOO_SLOW", ERROR_DOMAIN, []);
    details.set_retry_info(Some(TRY_AGAIN));
    let message = format!("the request was not there within {BODY_TIME:?}; nothing was done, send it again");
    Status::with_error_details(Code::DeadlineExceeded, message, details)
}
