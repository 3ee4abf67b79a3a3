//! Values that are made from files, and made anew when the files change.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::{KeyValue, global};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{error, info, warn};

use crate::{TlsError, pem::Leaf};

/// Between two looks at the files.
pub const EVERY: Duration = Duration::from_secs(5);
/// A certificate that ends so soon should have been replaced.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
/// Between two warnings of it.
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// Files, and what they are made into.
pub(crate) trait Source: Send + Sync + 'static {
    type Made: Send + Sync + 'static;

    fn read(&self) -> Result<Fresh<Self::Made>, TlsError>;
}

/// Just read.
pub(crate) struct Fresh<T> {
    pub(crate) made: T,
    /// Tells contents apart.
    pub(crate) print: [u8; 32],
    /// Our own certificate, where there is one.
    pub(crate) leaf: Option<Leaf>,
}

/// The newest that could be made of some files. Files that cannot be used are logged, and change nothing. The files are looked
/// at for as long as somebody holds one of these.
#[derive(Debug)]
pub struct Newest<T>(watch::Receiver<Arc<T>>);

impl<T> Clone for Newest<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send + Sync + 'static> Newest<T> {
    pub(crate) fn open(source: impl Source<Made = T>) -> Result<Self, TlsError> {
        let Fresh { made, print, leaf } = source.read()?;
        let (newest, receiver) = watch::channel(Arc::new(made));
        tokio::spawn(look_after(Arc::new(source), newest, print, leaf));
        Ok(Self(receiver))
    }

    /// As it is now.
    pub fn get(&self) -> Arc<T> {
        self.0.borrow().clone()
    }

    /// Whether there is another one since this was asked last, of this clone.
    pub fn is_replaced(&mut self) -> bool {
        let replaced = self.0.has_changed().unwrap_or(false);
        self.0.mark_unchanged();
        replaced
    }
}

async fn look_after<S: Source>(
    source: Arc<S>,
    newest: watch::Sender<Arc<S::Made>>,
    mut known: [u8; 32],
    mut leaf: Option<Leaf>,
) {
    let (mut reminded, mut trouble) = (None, None);
    loop {
        if let Some(leaf) = &leaf {
            tell_expiry(leaf, &mut reminded);
        }
        tokio::select! {
            () = newest.closed() => return,
            () = sleep(EVERY) => {}
        }
        let reading = source.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || reading.read()).await else { continue };
        let found = read.as_ref().err().cloned();
        match read {
            Ok(fresh) if fresh.print != known => {
                if let Some(leaf) = &fresh.leaf {
                    info!(certificate = %leaf.path.display(), serial = leaf.serial, "a new certificate is in use");
                } else {
                    info!("new certification authorities are in use");
                }
                (known, leaf, reminded) = (fresh.print, fresh.leaf, None);
                newest.send_replace(Arc::new(fresh.made));
            }
            Err(error) if found != trouble => {
                error!(%error, "new TLS files cannot be used; what was read before stays in use");
            }
            _ => {}
        }
        trouble = found;
    }
}

fn tell_expiry(leaf: &Leaf, reminded: &mut Option<(Urgency, Instant)>) {
    #[allow(clippy::disallowed_methods, reason = "nothing is decided by it: it says when to see to a certificate")]
    let left = leaf.expiry.duration_since(SystemTime::now());
    let seconds = match &left {
        Ok(left) => left.as_secs().cast_signed(),
        Err(over) => -over.duration().as_secs().cast_signed(),
    };
    let certificate = leaf.path.display().to_string();
    global::meter("saldo.tls")
        .i64_gauge("saldo.tls.certificate_expiry")
        .with_description("Until a certificate in use expires; negative once it has")
        .with_unit("s")
        .build()
        .record(seconds, &[KeyValue::new("certificate", certificate.clone())]);
    let Some(urgency) = Urgency::of(seconds) else { return };
    if reminded.is_some_and(|(told, at)| told == urgency && at.elapsed() < REMIND) {
        return;
    }
    *reminded = Some((urgency, Instant::now()));
    let days = (seconds / (24 * 3600)).abs();
    match urgency {
        Urgency::Soon => {
            warn!(certificate, serial = leaf.serial, days_left = days, "a certificate in use expires soon")
        }
        Urgency::Over => error!(certificate, serial = leaf.serial, days_ago = days, "a certificate in use has expired"),
    }
}

/// The remark about a certificate's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    /// It should have been replaced.
    Soon,
    /// Nobody takes it any more.
    Over,
}

impl Urgency {
    /// With so many seconds left.
    fn of(left: i64) -> Option<Self> {
        match left {
            ..=0 => Some(Self::Over),
            left if left.unsigned_abs() < SOON.as_secs() => Some(Self::Soon),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_is_not_said_to_expire_soon() {
        let days = |count: i64| Urgency::of(count * 24 * 3_600);
        assert_eq!(
            [-3, 0, 1, 13, 14].map(days),
            [Some(Urgency::Over), Some(Urgency::Over), Some(Urgency::Soon), Some(Urgency::Soon), None]
        );
    }
}
