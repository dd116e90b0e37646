//! One line in the log for each connection that is turned away, in a form that fail2ban reads (docs/observability.md).
//! Whoever comes again and again gets one line a second, so that an attack cannot fill the disk.

use crate::telemetry::{ConnectionOutcome, Label};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// At most one line for an address in this time.
const EVERY: Duration = Duration::from_secs(1);
/// Addresses that are remembered for that; while there are more, those beyond get no line.
const MAX_ADDRESSES: usize = 1_024;

/// Writes the lines.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// When an address got its last line, and how many it would have got since.
    told: Mutex<HashMap<IpAddr, (Instant, u64)>>,
}

impl Refusals {
    /// Says that a connection from `address` was turned away. For the log: `times` counts those since the last line.
    pub(super) fn note(&self, address: IpAddr, outcome: ConnectionOutcome) {
        if let Some(times) = self.times(address, Instant::now()) {
            let reason = ConnectionOutcome::VALUES.get(outcome.index()).copied().unwrap_or_default();
            tracing::info!(%address, %reason, times, "refused connection");
        }
    }

    /// How many refusals a line would speak of; `None` while it is too early for one.
    fn times(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let mut told = self.told.lock();
        if let Some((last, silent)) = told.get_mut(&address) {
            if now.saturating_duration_since(*last) < EVERY {
                *silent += 1;
                return None;
            }
            let times = std::mem::take(silent) + 1;
            *last = now;
            return Some(times);
        }
        if told.len() >= MAX_ADDRESSES {
            told.retain(|_, (last, _)| now.saturating_duration_since(*last) < EVERY);
        }
        let has_room = told.len() < MAX_ADDRESSES;
        has_room.then(|| {
            told.insert(address, (now, 0));
            1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_and_told_once_a_second() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let address = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(n));
        assert_eq!(refusals.times(address(1), start), Some(1));
        (0..50).for_each(|_| assert_eq!(refusals.times(address(1), start), None));
        assert_eq!(refusals.times(address(2), start), Some(1), "others are told");
        assert_eq!(refusals.times(address(1), start + EVERY), Some(51));
        assert_eq!(refusals.times(address(1), start + EVERY * 2), Some(1));
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let told = |now: Instant| {
            let addresses = (0..100_000_u32).map(std::net::Ipv4Addr::from);
            addresses.filter(|address| refusals.times((*address).into(), now).is_some()).count()
        };
        assert_eq!(told(start), MAX_ADDRESSES);
        assert!(told(start + EVERY) <= 2 * MAX_ADDRESSES);
        assert!(refusals.told.lock().len() <= MAX_ADDRESSES);
    }
}
