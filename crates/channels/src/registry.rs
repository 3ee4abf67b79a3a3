//! Which transport serves which channel.

use std::{collections::BTreeMap, fmt, sync::Arc};

use saldo_domain::party::Channel;

use crate::Transport;

/// The transports of a process, by channel. Cheap to clone.
#[derive(Clone, Default)]
pub struct Transports(BTreeMap<Channel, Arc<dyn Transport>>);

impl Transports {
    /// Adds a transport, in place of another one for the same channel.
    pub fn add(&mut self, transport: impl Transport + 'static) {
        self.0.insert(transport.channel(), Arc::new(transport));
    }

    /// The transport of a channel.
    pub fn get(&self, channel: Channel) -> Option<&Arc<dyn Transport>> {
        self.0.get(&channel)
    }

    /// Whether no channel has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every transport.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Transport>> {
        self.0.values()
    }

    /// The channels that have one.
    pub fn channels(&self) -> impl Iterator<Item = Channel> {
        self.0.keys().copied()
    }
}

impl<T: Transport + 'static> Extend<T> for Transports {
    fn extend<I: IntoIterator<Item = T>>(&mut self, transports: I) {
        transports.into_iter().for_each(|transport| self.add(transport));
    }
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.channels()).finish()
    }
}
