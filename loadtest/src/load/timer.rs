//! A timer exact to about ten microseconds. The runtime's own timer is exact to a millisecond, which an open loop would
//! add to every latency.

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of the kernel (timerfd).
#[derive(Debug)]
pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// A timer on the runtime of the caller.
    #[expect(
        deprecated,
        reason = "deprecated for types that may give a foreign descriptor away; this one owns its own"
    )]
    pub(super) fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self(AsyncFd::with_interest(fd, Interest::READABLE)?))
    }

    /// Waits until `at`; returns at once when that has passed. Cancel safe.
    pub(super) async fn until(&self, at: Instant) -> io::Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let none = Timespec::try_from(Duration::ZERO).map_err(io::Error::other)?;
        let left = Timespec::try_from(left).map_err(io::Error::other)?;

        // Setting the timer also clears an expiry that a cancelled call has not read.
        timerfd_settime(
            self.0.get_ref(),
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: none, it_value: left },
        )?;

        loop {
            let mut ready = self.0.readable().await?;
            match rustix::io::read(self.0.get_ref(), &mut [0u8; 8]) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_never_early_and_may_be_cancelled() {
        let timer = Timer::new().unwrap();
        let far = Instant::now() + Duration::from_secs(3_600);
        tokio::select! {
            biased;
            _ = timer.until(far) => panic!("an hour has not passed"),
            () = std::future::ready(()) => {}
        }
        for micros in [0, 300, 5_000] {
            let at = Instant::now() + Duration::from_micros(micros);
            timer.until(at).await.unwrap();
            assert!(Instant::now() >= at);
        }
    }
}
