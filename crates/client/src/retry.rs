//! Retries: the same request, with the same request id, until it is answered.

use std::{pin::pin, time::Duration};

use saldo_outage::Outage;
use tokio::time::{Instant, sleep};
use tonic::Status;

use crate::status::{StatusDetails, is_transient};

/// How long one request is retried while the service is out of reach, busy or behind.
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// Backoff: each pause is twice as long as the pause before it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause that a service may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);
/// Retries that go on for longer are logged.
const LOGGED_AFTER: Duration = Duration::from_secs(10);
/// The outage that all requests of the process share.
static UNANSWERED: Outage = Outage::new("requests are not answered; they are retried", "requests are answered again");

/// Retries for five minutes while the error is transient. A command must keep its request id.
pub async fn patiently<T, F>(ask: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    patiently_until(ask, sleep(LONGEST_RETRY)).await
}

/// Retries while the error is transient and `enough` has not resolved. A call under way is not cut off: give it a time limit of
/// its own ([`crate::timed`]).
pub async fn patiently_until<T, F>(ask: impl FnMut() -> F, enough: impl Future<Output = ()>) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let (mut ask, mut enough) = (ask, pin!(enough));
    let (started, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        let status = match ask().await {
            Err(status) if is_transient(&status) => status,
            answer => {
                UNANSWERED.over();
                return answer;
            }
        };
        let details = StatusDetails::of(&status);
        if started.elapsed() >= LOGGED_AFTER {
            UNANSWERED.failed(format_args!("{:?} {}", status.code(), details.reason));
        }
        tokio::select! {
            biased;
            () = &mut enough => return Err(status),
            () = sleep(details.retry_after.map_or(pause, |asked| asked.min(LONGEST_RETRY_AFTER))) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn answer_after(tries: &AtomicU32, failures: u32) -> Result<u32, Status> {
        match tries.fetch_add(1, Ordering::SeqCst) {
            n if n < failures => Err(Status::unavailable("not yet")),
            n => Ok(n),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_service_is_asked_again_until_it_answers() {
        let tries = AtomicU32::new(0);
        assert_eq!(patiently(|| answer_after(&tries, 5)).await.expect("answer"), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_enough_when_it_is_enough() {
        let tries = AtomicU32::new(0);
        let status = patiently_until(|| answer_after(&tries, u32::MAX), sleep(Duration::from_secs(60))).await;
        assert_eq!(status.expect_err("no answer").code(), tonic::Code::Unavailable);
        // 50 ms doubled up to 2 s, then every 2 s: about 35 tries in a minute.
        assert!((25..45).contains(&tries.load(Ordering::SeqCst)), "{tries:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_no_is_an_answer() {
        let tries = AtomicU32::new(0);
        let ask = || async {
            tries.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>(Status::not_found("no such account"))
        };
        assert!(patiently(ask).await.is_err());
        assert_eq!(tries.load(Ordering::SeqCst), 1);
    }
}
