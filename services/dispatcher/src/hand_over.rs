//! Handing one message over: the last look at the clock, and the channel's patience.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use saldo_channels::{Message, Outcome, Stage, Transport};
use saldo_clock::Moment;
use saldo_domain::dunning::attempt::UNKNOWN_AFTER;
use tokio::time::timeout;

/// The transport did not come to an end within its patience, and nothing had left.
const NO_ANSWER: Stage = Stage::new("no-answer");

/// Hands the message over if there is still time when its first byte could leave. Waits no longer than the channel's
/// patience, and in no case longer than the account does.
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
    let patience = transport.patience().min(UNKNOWN_AFTER.unsigned_abs());
    match timeout(patience, transport.hand_over(message, last_look)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let why = format!("no answer within {} seconds", patience.as_secs());
            match allowed.load(Ordering::Acquire) {
                true => Outcome::Unknown { why },
                false => Outcome::Deferred { stage: NO_ANSWER, code: 0, why },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use futures::future::BoxFuture;
    use saldo_channels::{Draft, LastLook, RenderError};
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
    async fn after_its_patience_only_a_message_that_could_leave_is_unknown() {
        let in_time = Moment::now() + Duration::from_secs(120);
        let began = tokio::time::Instant::now();
        assert!(matches!(outcome(true, in_time).await, Outcome::Unknown { .. }));
        assert_eq!(began.elapsed(), PATIENCE);
        assert!(matches!(outcome(false, in_time).await, Outcome::Deferred { stage: NO_ANSWER, .. }));
    }

    #[tokio::test]
    async fn a_message_that_is_too_late_is_withdrawn() {
        assert_eq!(outcome(true, Moment::now()).await, Outcome::Withdrawn);
    }
}
