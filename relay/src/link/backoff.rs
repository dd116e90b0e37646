//! The pause between two attempts.

use std::time::Duration;

/// The pause before the next attempt: it doubles up to a second, with jitter, so that instances do not reconnect in
/// step.
#[derive(Debug, Default)]
pub struct Backoff(u32);

impl Backoff {
    /// Begins with about 20 ms.
    pub fn new() -> Self {
        Self(0)
    }

    /// The next pause.
    pub fn next_wait(&mut self) -> Duration {
        let most = Duration::from_millis(20 << self.0.min(6)).min(Duration::from_secs(1));
        self.0 = self.0.saturating_add(1);
        most.mul_f64(0.5 + 0.5 * rand::random::<f64>())
    }
}
