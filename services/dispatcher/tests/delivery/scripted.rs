//! A transport that follows a script.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use saldo_channels::{
    Concerns, Draft, LastLook, Message, Outcome, RenderError, RouteFailure, Stage, Transport, Transports,
};
use saldo_domain::party::Channel;
use tokio::sync::watch;

use crate::PATIENCE;

/// Takes every message, once it is released.
#[derive(Clone)]
pub struct Scripted {
    pub channel: Channel,
    pub released: watch::Receiver<bool>,
    /// Whether it can be reached.
    pub is_open: watch::Receiver<bool>,
    /// Whether it refuses the sender.
    pub refuses: watch::Receiver<bool>,
    /// How often it was not reached, or refused the sender, without a message.
    pub probes: Arc<watch::Sender<u32>>,
    /// Whether messages get through that it answers.
    pub works: watch::Receiver<bool>,
    /// How many did not.
    pub tries: Arc<watch::Sender<u32>>,
}

impl Scripted {
    const REFUSED: Stage = Stage::new("sender");

    pub fn quick(channel: Channel) -> Self {
        let always = |value| watch::channel(value).1;
        let counter = || Arc::new(watch::channel(0).0);
        Self {
            channel,
            released: always(true),
            is_open: always(true),
            refuses: always(false),
            probes: counter(),
            works: always(true),
            tries: counter(),
        }
    }
}

pub fn transports<const N: usize>(all: [Scripted; N]) -> Transports {
    let mut transports = Transports::default();
    transports.extend(all);
    transports
}

impl Transport for Scripted {
    fn channel(&self) -> Channel {
        self.channel
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn capacity(&self) -> usize {
        64
    }

    fn reach<'t>(&'t self, sender: Option<&'t str>) -> BoxFuture<'t, Result<(), RouteFailure>> {
        Box::pin(async move {
            if *self.is_open.borrow() && (sender.is_none() || !*self.refuses.borrow()) {
                return Ok(());
            }
            self.probes.send_modify(|probes| *probes += 1);
            Err(RouteFailure { stage: Self::REFUSED, code: 553, why: "not you".into() })
        })
    }

    fn render(&self, draft: &Draft<'_>) -> Result<Message, RenderError> {
        let text = draft.template.render(draft.variables).map_err(|error| RenderError(error.to_string()))?.text;
        Ok(Message {
            id: draft.id.to_owned(),
            from: draft.sender.name.clone(),
            to: draft.address.to_owned(),
            media_type: "text/plain",
            content: text.into_bytes(),
        })
    }

    fn hand_over<'t>(&'t self, _: &'t Message, last_look: LastLook) -> BoxFuture<'t, Outcome> {
        Box::pin(async move {
            if *self.refuses.borrow() {
                let (why, concerns) = ("not you".into(), Concerns::Sender);
                return Outcome::Deferred { stage: Self::REFUSED, code: 553, why, concerns };
            }
            if !*self.works.borrow() {
                self.tries.send_modify(|tries| *tries += 1);
                let (why, concerns) = ("too busy".into(), Concerns::Route);
                return Outcome::Deferred { stage: Self::REFUSED, code: 421, why, concerns };
            }
            if !last_look() {
                return Outcome::Withdrawn;
            }
            let _ = self.released.clone().wait_for(|released| *released).await;
            Outcome::Accepted { reply: "taken".into() }
        })
    }
}
