//! Handing one message over: the time to send, the last look at the clock, and the channel's patience.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use saldo_channels::{Message, Outcome, Transport};
use saldo_clock::Moment;
use saldo_domain::dunning::attempt::unknown_after;
use tokio::time::timeout;

/// Hands the message over if there is still time when its first byte could leave. Before that it waits for as long as there
/// is time to send. Then it waits for as long as the channel's patience, and in no case longer than the account does.
pub(crate) async fn hand_over(transport: &dyn Transport, message: &Message, send_before: Moment) -> Outcome {
    let allowed = Arc::new(AtomicBool::new(false));
    let last_look = {
        let allowed = allowed.clone();
        Box::new(move || {
            let in_time = Moment::now() < send_before;
            allowed.store(in_time, Ordering::Release);
            in_time
        })
    };
    let mut handing_over = transport.hand_over(message, last_look);
    if let Ok(outcome) = timeout(send_before.since(Moment::now()), &mut handing_over).await {
        return outcome;
    }
    // Nobody polls the hand-over between this look and its end here, so nothing can leave in between.
    if !allowed.load(Ordering::Acquire) {
        return Outcome::Withdrawn;
    }
    let patience = transport.patience().min(unknown_after(transport.channel()).unsigned_abs());
    let outcome = timeout(patience, handing_over).await;
    outcome.unwrap_or_else(|_| Outcome::Unknown { why: format!("no answer within {} seconds", patience.as_secs()) })
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use futures::future::BoxFuture;
    use saldo_channels::{Draft, LastLook, RenderError, RouteFailure};
    use saldo_domain::party::Channel;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(7);

    /// A provider that never answers, before or after the message began to leave.
    struct Silent {
        asks_for_the_message: bool,
    }

    impl Transport for Silent {
        fn channel(&self) -> Channel {
            Channel::Sms
        }

        fn patience(&self) -> Duration {
            PATIENCE
        }

        fn capacity(&self) -> usize {
            1
        }

        fn reach<'t>(&'t self, _: Option<&'t str>) -> BoxFuture<'t, Result<(), RouteFailure>> {
            Box::pin(async { Ok(()) })
        }

        fn render(&self, _: &Draft<'_>) -> Result<Message, RenderError> {
            Err(RenderError("not asked".into()))
        }

        fn hand_over<'t>(&'t self, _: &'t Message, last_look: LastLook) -> BoxFuture<'t, Outcome> {
            Box::pin(async move {
                if self.asks_for_the_message && !last_look() {
                    return Outcome::Withdrawn;
                }
                pending().await
            })
        }
    }

    async fn outcome(asks_for_the_message: bool, send_before: Moment) -> Outcome {
        let message = Message {
            id: "1".into(),
            from: "Ejemplo".into(),
            to: "+34600000000".into(),
            media_type: "text/plain",
            content: b"Hola".to_vec(),
        };
        hand_over(&Silent { asks_for_the_message }, &message, send_before).await
    }

    #[tokio::test(start_paused = true)]
    async fn u11_after_the_time_to_send_only_a_message_that_could_leave_is_waited_for() {
        let to_send = Duration::from_secs(120);
        let began = tokio::time::Instant::now();
        assert!(matches!(outcome(true, Moment::now() + to_send).await, Outcome::Unknown { .. }));
        assert!(began.elapsed() >= PATIENCE && began.elapsed() <= to_send + PATIENCE + Duration::from_secs(1));
        assert_eq!(outcome(false, Moment::now() + to_send).await, Outcome::Withdrawn);
    }

    #[tokio::test]
    async fn a_message_that_is_too_late_is_withdrawn() {
        assert_eq!(outcome(true, Moment::now()).await, Outcome::Withdrawn);
    }
}
