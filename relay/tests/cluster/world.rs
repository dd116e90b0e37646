//! The state that publishers, subscribers and the recorder of the log share.

use crate::stage::DATABASE;
use deploy::postgres::PostgresCluster;
use parking_lot::Mutex;
use relay::config::Redacted;
use relay::store::postgres::{Options, PostgresStore};
use relay::store::{SharedLog, Store};
use relay::types::{Epoch, Event, EventId, Filter, LogEntry, Position};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What one subscription received, from REQ to CLOSED or to the end of its connection.
pub struct Session {
    /// The subscriber, the same after each reconnect; `None` for a client that asked only for stored events.
    pub subscriber: Option<usize>,
    pub relay: usize,
    pub filters: Arc<[Filter]>,
    /// The log's head, as the recorder knew it, when the REQ went out and when its EOSE came.
    pub asked_at: u64,
    pub eose_at: u64,
    pub stored: Vec<EventId>,
    pub live: Vec<EventId>,
    /// Whether it lasted until the event that ends the run.
    pub whole: bool,
}

/// The time of an event from its publisher to a subscriber, or to its OK.
pub struct Delivery {
    pub at: Instant,
    pub took: Duration,
}

#[derive(Default)]
pub struct World {
    /// True once publishers must stop.
    pub quiet: AtomicBool,
    /// Extra bytes of each note.
    pub padding: usize,
    /// The last position that the recorder has seen.
    pub head: AtomicU64,
    pub sent: Mutex<HashMap<EventId, Instant>>,
    pub acknowledged: Mutex<Vec<EventId>>,
    /// Acknowledged events that a newer version may replace.
    pub replaceable: Mutex<Vec<Event>>,
    /// Events that their authors have deleted, with an OK.
    pub deleted: Mutex<Vec<EventId>>,
    pub refused: Mutex<Vec<String>>,
    pub sessions: Mutex<Vec<Session>>,
    pub deliveries: Mutex<Vec<Delivery>>,
    /// The times from sending an event to its OK. They depend on the machine, but not on the bus.
    pub answers: Mutex<Vec<Delivery>>,
}

impl World {
    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    /// The 50th and the 99th percentile of deliveries or answers in a window, and their number.
    pub fn latency(of: &Mutex<Vec<Delivery>>, from: Instant, to: Instant) -> (Duration, Duration, usize) {
        let deliveries = of.lock();
        let within = deliveries.iter().filter(|delivery| delivery.at - delivery.took >= from && delivery.at < to);
        let mut took: Vec<_> = within.map(|delivery| delivery.took).collect();
        took.sort();
        let at = |percent: usize| took.get((took.len() * percent / 100).min(took.len().saturating_sub(1)));
        let at = |percent| at(percent).copied().unwrap_or_default();
        (at(50), at(99), took.len())
    }
}

/// The log as far as the recorder has read it.
#[derive(Default)]
pub struct Record {
    pub entries: Vec<LogEntry>,
    /// Entries that promotions have cut off, as far as they were read before.
    pub cut_off: Vec<LogEntry>,
    /// The last position before the last cut.
    pub base: Position,
}

/// Records the whole log. It must follow closely: the log has no texts of events that were removed meanwhile.
pub async fn record(world: Arc<World>, urls: Vec<String>, last: Arc<Mutex<Option<EventId>>>) -> Record {
    let store = PostgresStore::open(Options::new(urls.iter().map(Redacted::new))).await.unwrap();
    let mut record = Record::default();
    let mut after = Position(0);
    let mut epoch: Option<Epoch> = None;
    loop {
        let last = *last.lock();
        if let Ok(slice) = store.entries(after, 2_048).await {
            let shared = slice.head;
            let known = epoch.replace(shared.head.epoch);
            if known.is_some_and(|known| known != shared.head.epoch) && after > shared.base {
                let kept = record.entries.partition_point(|entry| entry.position <= shared.base);
                record.cut_off.extend(record.entries.drain(kept..));
                (record.base, after) = (shared.base, shared.base);
                continue;
            }

            let entries = &mut record.entries;
            for entry in &slice.entries {
                assert_eq!(entry.position, after.next(), "the log has a hole");
                after = entry.position;
            }
            entries.extend(slice.entries);
            world.head.store(after.0, Ordering::Relaxed);
            let ended = |id| entries.iter().rev().take(50).any(|entry| inserts(entry, id));
            if last.is_some_and(ended) {
                store.close().await;
                return record;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether this entry stored that event.
pub fn inserts(entry: &LogEntry, id: EventId) -> bool {
    entry.changes.iter().any(|change| match change {
        relay::types::Change::Inserted(insertion) => insertion.event.id() == id,
        relay::types::Change::Removed(_) => false,
    })
}

/// The addresses of all servers.
pub fn urls(cluster: &PostgresCluster) -> Vec<String> {
    cluster.database_urls(DATABASE)
}
