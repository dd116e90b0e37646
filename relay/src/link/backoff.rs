//! How long to wait before trying again.

use std::time::Duration;

/// How long to wait before the next attempt: longer each time, up to a second, never quite the same, so that many
/// instances do not come back in step.
#[derive(Debug, Default)]
pub struct Backoff(u32);

impl Backoff {
    /// Begins with about 20 ms.
    pub fn new() -> Self {
        Self(0)
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let most = Duration::from_millis(20 << self.0.min(6)).min(Duration::from_secs(1));
        self.0 = self.0.saturating_add(1);
        most.mul_f64(0.5 + 0.5 * rand::random::<f64>())
    }
}
