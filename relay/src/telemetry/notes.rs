//! Lists for the operator that no counter can show: the slowest queries, and the addresses that send most. Both lists
//! are bounded, and old entries leave them.

use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many slow queries are kept.
const SLOW_QUERIES: usize = 20;
/// How long a slow query stays in the list.
const TOLD_FOR: Duration = Duration::from_secs(3_600);
/// How many addresses are counted at the same time.
const ADDRESSES: usize = 512;
/// How many of them the list shows.
const TALKERS: usize = 20;
/// How often the counts of all addresses are halved, so that recent messages weigh most.
const HALVED_EVERY: Duration = Duration::from_secs(60);

/// One slow read of the store.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlowQuery {
    /// How long it took, in seconds, the wait for a connection included.
    pub seconds: f64,
    /// The filter without its values: `authors:300 kinds:2 limit:100`, where 300 and 2 are numbers of values.
    pub shape: String,
    /// The form of its statement, as `relay explain` calls it.
    pub form: String,
    /// When it ended, in seconds since 1970.
    pub at: i64,
}

/// An address and about how many messages it has sent lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Talker {
    /// The client's address.
    pub address: IpAddr,
    /// The messages of the last minutes; each minute ago halves their weight.
    pub messages: u64,
}

/// The lists; see the module.
#[derive(Debug, Default)]
pub struct Notes {
    slow: Mutex<Vec<(Instant, SlowQuery)>>,
    /// The fastest query of a full list, in nanoseconds: a faster one is skipped without the lock.
    threshold: AtomicU64,
    /// A slower query is logged.
    logged: Mutex<Option<Duration>>,
    talkers: Mutex<Talkers>,
}

#[derive(Debug, Default)]
struct Talkers {
    messages: HashMap<IpAddr, u64>,
    halved: Option<Instant>,
}

impl Notes {
    /// Logs each read that takes longer from now on. Begins with none.
    pub fn log_slower_than(&self, limit: Duration) {
        *self.logged.lock() = Some(limit);
    }

    /// Notes a read if it is one of the slowest of the last hour; `describe` gives its shape and its form.
    pub fn read(&self, took: Duration, at: i64, describe: impl FnOnce() -> (String, String)) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let logged = self.logged.lock().is_some_and(|limit| took >= limit);
        if !logged && nanos <= self.threshold.load(Ordering::Relaxed) {
            return;
        }
        let (shape, form) = describe();
        if logged {
            tracing::warn!(form, shape, elapsed_ms = took.as_millis(), "slow query");
        }

        let mut slow = self.slow.lock();
        // Queries of the same shape and form have one entry, with their worst time.
        if let Some(same) = slow.iter_mut().find(|(_, known)| known.shape == shape && known.form == form) {
            if same.1.seconds < took.as_secs_f64() {
                *same = (Instant::now(), SlowQuery { seconds: took.as_secs_f64(), shape, form, at });
            }
        } else {
            slow.push((Instant::now(), SlowQuery { seconds: took.as_secs_f64(), shape, form, at }));
        }

        slow.sort_by(|(_, one), (_, other)| other.seconds.total_cmp(&one.seconds));
        slow.truncate(SLOW_QUERIES);
        self.set_threshold(&slow);
    }

    fn set_threshold(&self, slow: &[(Instant, SlowQuery)]) {
        let last = slow.get(SLOW_QUERIES - 1).map_or(0.0, |(_, last)| last.seconds);
        self.threshold.store((last * 1e9) as u64, Ordering::Relaxed);
    }

    /// The slowest reads, the slowest first.
    pub fn slow_queries(&self) -> Vec<SlowQuery> {
        self.slow.lock().iter().map(|(_, query)| query.clone()).collect()
    }

    /// Notes that `address` has sent `messages` more.
    pub fn heard(&self, address: IpAddr, messages: u64) {
        let mut talkers = self.talkers.lock();
        if talkers.messages.len() >= ADDRESSES && !talkers.messages.contains_key(&address) {
            // Evict the address with the fewest messages: one that sends many comes back soon.
            let quietest = talkers.messages.iter().min_by_key(|(_, said)| **said).map(|(address, _)| *address);
            quietest.and_then(|quietest| talkers.messages.remove(&quietest));
        }
        *talkers.messages.entry(address).or_default() += messages;
    }

    /// The addresses that have sent most lately, in descending order.
    pub fn talkers(&self) -> Vec<Talker> {
        let talkers = self.talkers.lock();
        let mut told: Vec<_> =
            talkers.messages.iter().map(|(&address, &messages)| Talker { address, messages }).collect();
        drop(talkers);
        told.sort_unstable_by_key(|talker| (std::cmp::Reverse(talker.messages), talker.address));
        told.truncate(TALKERS);
        told
    }

    /// Drops slow queries older than an hour, and halves the counts when due. To be called every few seconds.
    pub fn forget_old(&self, now: Instant) {
        let mut slow = self.slow.lock();
        slow.retain(|(at, _)| now.saturating_duration_since(*at) < TOLD_FOR);
        self.set_threshold(&slow);
        drop(slow);
        let mut talkers = self.talkers.lock();
        if talkers.halved.is_none_or(|at| now.saturating_duration_since(at) >= HALVED_EVERY) {
            talkers.halved = Some(now);
            talkers.messages.retain(|_, said| {
                *said /= 2;
                *said > 0
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(notes: &Notes, millis: u64, shape: &str) {
        notes.read(Duration::from_millis(millis), 0, || (shape.to_owned(), "time".to_owned()));
    }

    #[test]
    fn the_slowest_stay_and_each_shape_stands_once() {
        let notes = Notes::default();
        for millis in 1..=100 {
            note(&notes, millis, &format!("kinds:{millis}"));
        }
        note(&notes, 500, "kinds:90");
        note(&notes, 400, "kinds:90");
        let told: Vec<_> = notes.slow_queries().into_iter().map(|query| (query.shape, query.seconds)).collect();
        assert_eq!(told.len(), SLOW_QUERIES);
        assert_eq!(told[0], ("kinds:90".to_owned(), 0.5));
        assert_eq!(told[1], ("kinds:100".to_owned(), 0.1));
        notes.read(Duration::from_millis(80), 0, || panic!("nobody asks for the shape of a fast one"));
        notes.forget_old(Instant::now() + TOLD_FOR);
        assert_eq!(notes.slow_queries(), []);
        note(&notes, 1, "again");
        assert_eq!(notes.slow_queries().len(), 1, "after an hour the list begins anew");
    }

    #[test]
    fn the_loudest_are_told_and_memory_is_bounded() {
        let notes = Notes::default();
        let address = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(n));
        for n in 0..10_000 {
            notes.heard(address(7), 2);
            notes.heard(address(n), 1);
        }
        let told = notes.talkers();
        assert_eq!((told[0].address, told[0].messages >= 20_000), (address(7), true), "{told:?}");
        assert_eq!(told.len(), TALKERS);
        assert!(notes.talkers.lock().messages.len() <= ADDRESSES);
        let start = Instant::now();
        for minute in 0..30 {
            notes.forget_old(start + HALVED_EVERY * minute);
        }
        assert_eq!(notes.talkers(), [], "who is silent is forgotten");
    }
}
