//! Purges across instances: a short stream in Redis, beside the entries. An instance that purges appends to the stream,
//! and every instance reads it. An entry carries the number of the last purge that its writer knew of; so a purge makes
//! the older entries of every instance unusable without looking for them.

use super::codec::Generation;
use super::servers::{NoAnswer, Servers};
use crate::cache::{FilterKey, Purge};
use parking_lot::RwLock;
use redis::{FromRedisValue, Value, cmd};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// How often an instance reads the stream: a purge takes about this long to reach every instance.
const READ_EVERY: Duration = Duration::from_millis(250);
/// The longest that a purge, or a read of the stream, waits for the server.
const PURGE_TIMEOUT: Duration = Duration::from_secs(1);
/// Purges that the stream and each instance remember. Entries older than the oldest of them count as purged.
const REMEMBERED: usize = 1_000;
/// The field of a stream item that names what is purged.
const FIELD: &str = "purge";

pub(super) struct Purges {
    stream: String,
    /// The time to live of the stream: longer than that of any entry.
    lifetime: Duration,
    known: RwLock<KnownPurges>,
}

#[derive(Default)]
struct KnownPurges {
    /// The oldest first.
    recent: VecDeque<(Generation, Purge)>,
    /// Entries of an earlier generation count as purged.
    floor: Generation,
    latest: Generation,
}

impl Purges {
    pub(super) fn new(prefix: &str, entry_lifetime: Duration) -> Self {
        Self { stream: format!("{prefix}:cache:purges"), lifetime: 2 * entry_lifetime, known: RwLock::default() }
    }

    /// The number of the last purge that this instance knows of.
    pub(super) fn latest(&self) -> Generation {
        self.known.read().latest
    }

    /// True when an entry of `key`, written at `generation`, has been purged since.
    pub(super) fn concern(&self, key: &FilterKey, generation: Generation) -> bool {
        let known = self.known.read();
        let since = known.recent.iter().rev().take_while(|(number, _)| *number > generation);
        generation < known.floor || since.into_iter().any(|(_, purge)| purge.concerns(key))
    }

    /// Appends `purge` to the stream.
    pub(super) async fn announce(&self, servers: &Servers, purge: &Purge) -> Result<(), NoAnswer> {
        let mut add = cmd("XADD");
        add.arg(&self.stream).arg("MAXLEN").arg("~").arg(REMEMBERED).arg("*").arg(FIELD).arg(purge.to_string());
        let mut expire = cmd("PEXPIRE");
        expire.arg(&self.stream).arg(u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX));
        let id: String = servers
            .ask(self.stream.as_bytes(), Some(PURGE_TIMEOUT), |mut connection| async move {
                let id = add.query_async(&mut connection).await?;
                expire.query_async::<()>(&mut connection).await?;
                Ok(id)
            })
            .await?;

        if let Some(number) = generation(&id) {
            self.learn(number, purge.clone());
        }
        Ok(())
    }

    /// Reads the stream and sends on what other instances have purged. Returns when the receiver is gone.
    pub(super) async fn follow(&self, servers: &Servers, out: &mpsc::Sender<Purge>) {
        let mut ticks = interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = "0".to_owned();
        while !out.is_closed() {
            ticks.tick().await;
            let mut read = cmd("XREAD");
            read.arg("COUNT").arg(REMEMBERED).arg("STREAMS").arg(&self.stream).arg(&last);
            let ask = |mut connection| async move { read.query_async::<Value>(&mut connection).await };
            let Ok(reply) = servers.ask(self.stream.as_bytes(), Some(PURGE_TIMEOUT), ask).await else { continue };
            for (id, fields) in items(reply) {
                if let Some(purge) = self.take(&id, &fields)
                    && out.send(purge).await.is_err()
                {
                    return;
                }
                last = id;
            }
        }
    }

    /// The purge in a stream item, unless this instance knows it already.
    fn take(&self, id: &str, fields: &[Value]) -> Option<Purge> {
        let number = generation(id)?;
        let [_, value] = fields else { return None };
        let purge: Purge = String::from_redis_value(value.clone()).ok()?.parse().ok()?;
        self.learn(number, purge.clone()).then_some(purge)
    }

    fn learn(&self, number: Generation, purge: Purge) -> bool {
        let mut known = self.known.write();
        let at = known.recent.partition_point(|(other, _)| *other < number);
        if number < known.floor || known.recent.get(at).is_some_and(|(other, _)| *other == number) {
            return false;
        }
        known.recent.insert(at, (number, purge));
        known.latest = known.latest.max(number);
        if known.recent.len() > REMEMBERED
            && let Some((oldest, _)) = known.recent.pop_front()
        {
            known.floor = oldest;
        }
        true
    }
}

/// The items of an answer to XREAD, `{stream: [[id, [field, value]], …]}`. Malformed items are left out.
fn items(reply: Value) -> Vec<(String, Vec<Value>)> {
    let Value::Map(streams) = reply else { return Vec::new() };
    let item = |item: Value| {
        let Value::Array(item) = item else { return None };
        let [id, Value::Array(fields)] = <[Value; 2]>::try_from(item).ok()? else { return None };
        Some((String::from_redis_value(id).ok()?, fields))
    };
    let items = streams.into_iter().filter_map(|(_, items)| match items {
        Value::Array(items) => Some(items),
        _ => None,
    });
    items.flatten().filter_map(item).collect()
}

/// The number in the id of an item: milliseconds, then a counter within them.
fn generation(id: &str) -> Option<Generation> {
    let (millis, count) = id.split_once('-')?;
    let (millis, count): (u64, u64) = (millis.parse().ok()?, count.parse().ok()?);
    Some(Generation(millis.checked_mul(1 << 16)?.saturating_add(count.min(0xffff))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CanonicalQuery, ReaderClass};
    use crate::types::{Filter, PublicKey};

    fn key(author: u8) -> FilterKey {
        let authors = Some([PublicKey::from_bytes([author; 32])].into());
        FilterKey {
            query: CanonicalQuery::Rows(Filter { authors, ..Filter::default() }),
            reader: ReaderClass::Everyone,
        }
    }

    #[test]
    fn a_purge_concerns_what_was_written_before_it() {
        let purges = Purges::new("test", Duration::from_secs(1));
        let at = |number| Generation(number);
        assert!(!purges.concern(&key(1), at(0)), "nothing was purged");
        assert!(purges.learn(at(10), Purge::Author(PublicKey::from_bytes([1; 32]))));
        assert!(!purges.learn(at(10), Purge::All), "it was known");
        for (author, written, purged) in [(1, 9, true), (1, 10, false), (2, 9, false)] {
            assert_eq!(purges.concern(&key(author), at(written)), purged, "{author} {written}");
        }
        // An older purge that arrives late.
        assert!(purges.learn(at(5), Purge::All));
        assert_eq!(purges.latest(), at(10));
        assert!(purges.concern(&key(2), at(4)) && !purges.concern(&key(2), at(5)));
    }

    #[test]
    fn what_was_purged_too_long_ago_to_be_remembered_counts_as_everything() {
        let purges = Purges::new("test", Duration::from_secs(1));
        let author = Purge::Author(PublicKey::from_bytes([1; 32]));
        for number in 1..=REMEMBERED as u64 + 1 {
            purges.learn(Generation(number), author.clone());
        }
        assert!(purges.concern(&key(2), Generation(0)));
        assert!(!purges.concern(&key(2), Generation(1)));
        assert!(purges.concern(&key(1), Generation(1)));
        assert_eq!(purges.known.read().recent.len(), REMEMBERED);
    }

    #[test]
    fn numbers_of_items_are_in_their_order() {
        let numbers = ["0-1", "1-0", "1-2", "1700000000000-0", "1700000000000-70000", "1700000000001-0"];
        assert!(numbers.map(|id| generation(id).unwrap()).is_sorted());
        for wrong in ["", "-", "1", "a-1", "99999999999999999999-0", "18446744073709551615-0"] {
            assert_eq!(generation(wrong), None, "{wrong}");
        }
    }
}
