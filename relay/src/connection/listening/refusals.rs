//! Logs each refused connection as one line in a form that fail2ban reads (docs/observability.md). An address gets at
//! most one line a second, so that an attack cannot fill the disk.

use crate::telemetry::{ConnectionOutcome, Label};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The shortest time between two lines for one address.
const MIN_LINE_INTERVAL: Duration = Duration::from_secs(1);
/// How many addresses are remembered for that; those beyond get no line.
const MAX_ADDRESSES: usize = 1_024;

/// Writes the lines. Memory: at most [`MAX_ADDRESSES`] entries.
#[derive(Debug, Default)]
pub(in crate::connection) struct Refusals {
    /// For each address: when its last line was written, and how many refusals got none since.
    last_lines: Mutex<HashMap<IpAddr, (Instant, u64)>>,
}

impl Refusals {
    /// Logs that a connection from `address` was refused; `times` counts the refusals since the last line.
    pub(in crate::connection) fn note(&self, address: IpAddr, outcome: ConnectionOutcome) {
        if let Some(times) = self.count(address, Instant::now()) {
            let reason = ConnectionOutcome::VALUES.get(outcome.index()).copied().unwrap_or_default();
            tracing::info!(%address, %reason, times, "refused connection");
        }
    }

    /// How many refusals one line stands for; `None` while it is too early for one.
    fn count(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let mut last_lines = self.last_lines.lock();
        if let Some((last, unlogged)) = last_lines.get_mut(&address) {
            if now.saturating_duration_since(*last) < MIN_LINE_INTERVAL {
                *unlogged += 1;
                return None;
            }
            let times = std::mem::take(unlogged) + 1;
            *last = now;
            return Some(times);
        }
        if last_lines.len() >= MAX_ADDRESSES {
            last_lines.retain(|_, (last, _)| now.saturating_duration_since(*last) < MIN_LINE_INTERVAL);
        }
        let has_room = last_lines.len() < MAX_ADDRESSES;
        has_room.then(|| {
            last_lines.insert(address, (now, 0));
            1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_and_logged_once_a_second() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let address = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(n));
        assert_eq!(refusals.count(address(1), start), Some(1));
        (0..50).for_each(|_| assert_eq!(refusals.count(address(1), start), None));
        assert_eq!(refusals.count(address(2), start), Some(1), "other addresses are logged");
        assert_eq!(refusals.count(address(1), start + MIN_LINE_INTERVAL), Some(51));
        assert_eq!(refusals.count(address(1), start + MIN_LINE_INTERVAL * 2), Some(1));
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let logged = |now: Instant| {
            let addresses = (0..100_000_u32).map(std::net::Ipv4Addr::from);
            addresses.filter(|address| refusals.count((*address).into(), now).is_some()).count()
        };
        assert_eq!(logged(start), MAX_ADDRESSES);
        assert!(logged(start + MIN_LINE_INTERVAL) <= 2 * MAX_ADDRESSES);
        assert!(refusals.last_lines.lock().len() <= MAX_ADDRESSES);
    }
}
