//! How the app tells every connection that the relay drains.

use std::time::Duration;
use tokio::sync::watch;

/// The app's end: says when the relay begins to drain.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<Option<Duration>>);

/// A connection's end.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Option<Duration>>);

/// The two ends of the signal.
pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(None);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    /// From now on new connections are refused, and those that are open are closed one by one over this time. Calling
    /// it again with a shorter time does not hurry those that have chosen their moment already.
    pub fn drain(&self, over: Duration) {
        self.0.send_replace(Some(over));
    }
}

impl Shutdown {
    /// True once draining has begun.
    pub fn is_draining(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits until draining begins and returns over how long connections are to be closed. A trigger that was dropped
    /// means: at once. Cancel safe.
    pub async fn draining(mut self) -> Duration {
        match self.0.wait_for(Option::is_some).await {
            Ok(over) => over.unwrap_or_default(),
            Err(_) => Duration::ZERO,
        }
    }
}
