//! `[sending]`: how debtors are reminded.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{
    error::{ConfigError, within},
    secret::Secret,
};

/// Gentle beside a command service that answers thousands a second.
const REWAKES: NonZeroU32 = NonZeroU32::new(500).unwrap();

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SendingConfig {
    /// The mail server: `smtps://user:password@host`, `smtp://user:password@host:587`, `smtp://host:25?tls=none`. Absent:
    /// reminders fall due and wait in the outbox.
    pub smtp: Option<Secret>,
    /// PEM file of the authorities that certify the mail server; absent: the authorities that browsers trust.
    pub smtp_ca: Option<PathBuf>,
    /// The most connections to the mail server.
    pub smtp_connections: usize,
    /// The most attempts under way at once, for each channel.
    pub attempts: usize,
    /// The most accounts woken at once.
    pub wakes: usize,
    /// Accounts woken a second after a policy was published.
    pub rewakes_per_second: NonZeroU32,
    /// How long scheduler and dispatcher wait before they look for work again.
    #[serde(skip)]
    pub poll: Duration,
}

impl Default for SendingConfig {
    fn default() -> Self {
        Self {
            smtp: None,
            smtp_ca: None,
            smtp_connections: 8,
            attempts: 128,
            wakes: 256,
            rewakes_per_second: REWAKES,
            poll: Duration::from_millis(200),
        }
    }
}

impl SendingConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("sending.smtp_connections", self.smtp_connections as u64, 1_000)?;
        within("sending.attempts", self.attempts as u64, 10_000)?;
        within("sending.wakes", self.wakes as u64, 10_000)?;
        within("sending.rewakes_per_second", self.rewakes_per_second.get().into(), 1_000_000)
    }
}
