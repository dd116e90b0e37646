//! Canonical questions: what many clients ask in different words is one key, and each is answered from its entry by a
//! cut. docs/decisions/0009-the-cache.md says what that saves.

use super::{Entry, FilterKey, Listed, ReaderClass};
use crate::types::{Access, Filter, Head, Timestamp};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

/// A key with its hash, so that a filter of a thousand authors is hashed once a question.
#[derive(Debug, Clone)]
pub struct Name(Arc<(u64, FilterKey)>);

impl Name {
    /// The key.
    pub fn key(&self) -> &FilterKey {
        &self.0.1
    }

    /// Its hash under the cache's secret.
    pub(super) fn hash(&self) -> u64 {
        self.0.0
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}

/// What one reader asks: the key of the entry that can answer it, and what is cut from that entry.
#[derive(Debug, Clone)]
pub struct Question {
    name: Name,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit: usize,
    now: Timestamp,
}

/// An `until` that ends less than so many seconds before the present means "what there is now".
const PRESENT_SECONDS: Timestamp = 10;

/// No window is taken to be shorter, in seconds.
const LEAST_WINDOW: Timestamp = 64;

impl Question {
    /// What a reader with `access` asks by `filter` at the second `now`, for at most `limit` rows. `None`: the answer is
    /// theirs alone, and the cache has no part in it.
    pub(super) fn new(
        filter: &Filter,
        access: &Access,
        limit: usize,
        now: Timestamp,
        secret: &RandomState,
    ) -> Option<Self> {
        let reader = ReaderClass::of(filter, access)?;
        let since = filter.since.and_then(|since| coarse(since, now));
        let until = filter.until.filter(|until| *until < now.saturating_sub(PRESENT_SECONDS));
        let key = FilterKey { filter: Filter { since, until, limit: None, ..filter.clone() }, reader };
        let name = Name(Arc::new((secret.hash_one(&key), key)));
        Some(Self { name, since: filter.since, until: filter.until, limit, now })
    }

    /// The key of the entry.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// How many rows to read for an entry: some more than are asked for, so that a few removals leave enough, in steps,
    /// so that limits that are about the same get along with one entry.
    pub fn rows_to_read(&self) -> usize {
        let rows = self.limit.saturating_add(self.limit / 8 + 4);
        rows.checked_next_multiple_of((rows.checked_next_power_of_two().unwrap_or(rows) / 32).max(4)).unwrap_or(rows)
    }

    /// How many rows the entry may have after events have come: up to twice what is asked for.
    pub fn rows_to_keep(&self) -> usize {
        self.rows_to_read().max(self.limit.saturating_mul(2))
    }

    /// The answer that `entry`, exact as of `head`, holds for this question; `None` where it does not reach back far
    /// enough.
    pub fn answer<R: Listed + Clone, T: From<R>>(&self, entry: &Entry<R>, head: Head) -> Option<Entry<T>> {
        let newer_than = |second: Timestamp| entry.rows.partition_point(|row| row.key().created_at > second);
        let begin = self.until.map_or(0, newer_than);
        let end = self.since.map_or(entry.rows.len(), |since| newer_than(since.saturating_sub(1)));
        let window = entry.rows.get(begin..end).unwrap_or_default();
        // Where a row lies beyond `since`, every row on this side of it is there.
        let knows_all = entry.complete || end < entry.rows.len();
        let mut alive = window.iter().filter(|row| !row.is_expired(self.now));
        let mut rows = Vec::with_capacity(self.limit.min(window.len()));
        rows.extend(alive.by_ref().take(self.limit).cloned().map(T::from));
        if rows.len() < self.limit && !knows_all {
            return None;
        }
        let complete = knows_all && alive.next().is_none();
        Some(Entry { head, limit: self.limit, rows, complete })
    }
}

/// `since` moved back to a grid whose steps grow with its distance from `now`: the window becomes at most twice as long,
/// and whoever asks for about the same window at about the same time asks the same. `None`: the beginning of time.
fn coarse(since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let window = now.saturating_sub(since).max(LEAST_WINDOW);
    // The greatest power of two that is not above it.
    let step = 1 << (Timestamp::BITS - 1 - window.leading_zeros());
    Some(since.saturating_sub(since.rem_euclid(step))).filter(|since| *since > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EventId, Key, Kind, Row};

    const NOW: Timestamp = 1_790_000_000;

    fn ask(filter: &Filter, limit: usize) -> Question {
        Question::new(filter, &Access::default(), limit, NOW, &SECRET.with(Clone::clone)).unwrap()
    }

    thread_local!(static SECRET: RandomState = RandomState::new());

    fn kind_1() -> Filter {
        Filter { kinds: Some([Kind(1)].into()), ..Filter::default() }
    }

    #[test]
    fn what_means_the_same_now_has_one_key() {
        let plain = ask(&kind_1(), 20);
        for filter in [
            Filter { limit: Some(20), ..kind_1() },
            Filter { limit: Some(500), until: Some(NOW), ..kind_1() },
            Filter { until: Some(NOW + 3_600), since: Some(1), ..kind_1() },
        ] {
            assert_eq!(ask(&filter, 20).name, plain.name, "{filter:?}");
        }
        assert_ne!(ask(&Filter { until: Some(NOW - 3_600), ..kind_1() }, 20).name, plain.name);
    }

    #[test]
    fn a_window_becomes_at_most_twice_as_long_and_seldom_changes_its_key() {
        for window in [1, 60, 3_600, 86_400, 30 * 86_400, 10 * 366 * 86_400] {
            let mut keys = std::collections::HashSet::new();
            for later in 0..1_000 {
                let now = NOW + later * window / 1_000;
                let coarse = coarse(now - window, now).unwrap_or(0);
                assert!(coarse <= now - window && coarse > now - window - window.max(LEAST_WINDOW), "{window}");
                keys.insert(coarse);
            }
            assert!(keys.len() <= 3, "{window}: {}", keys.len());
        }
        assert_eq!(coarse(Timestamp::MIN, NOW), None);
        assert!(coarse(Timestamp::MAX, NOW).is_some_and(|since| since <= Timestamp::MAX));
    }

    #[test]
    fn no_more_is_read_than_a_quarter_beyond_what_is_asked_for_and_a_few() {
        for limit in 1..6_000 {
            let rows = ask(&kind_1(), limit).rows_to_read();
            assert!(rows >= limit + 4 && rows <= limit + limit / 4 + 8, "{limit}: {rows}");
        }
    }

    fn entry(seconds: &[Timestamp], complete: bool) -> Entry {
        let row = |(at, created_at): (usize, &Timestamp)| Row {
            key: Key { created_at: *created_at, id: EventId::from_bytes([at as u8; 32]) },
            expires_at: (created_at % 10 == 9).then_some(NOW),
            text: "".into(),
        };
        let rows = seconds.iter().enumerate().map(row).collect();
        Entry { head: Head::default(), limit: 100, rows, complete }
    }

    fn answer(filter: &Filter, limit: usize, entry: &Entry) -> Option<(Vec<Timestamp>, bool)> {
        let answer: Entry = ask(filter, limit).answer(entry, entry.head)?;
        Some((answer.rows.iter().map(|row| row.key.created_at).collect(), answer.complete))
    }

    #[test]
    fn an_answer_is_cut_from_an_entry_that_reaches_back_far_enough_and_from_no_other() {
        let rows = [108, 107, 105, 105, 103, 101];
        let (partial, whole) = (entry(&rows, false), entry(&rows, true));
        assert_eq!(answer(&kind_1(), 3, &partial), Some((vec![108, 107, 105], false)));
        assert_eq!(answer(&kind_1(), 6, &partial), Some((rows.to_vec(), false)));
        assert_eq!(answer(&kind_1(), 7, &partial), None);
        assert_eq!(answer(&kind_1(), 7, &whole), Some((rows.to_vec(), true)));
        let since = |since| Filter { since: Some(since), ..kind_1() };
        assert_eq!(answer(&since(105), 7, &partial), Some((vec![108, 107, 105, 105], true)));
        assert_eq!(answer(&since(101), 7, &partial), None, "others may have been made in that second");
        assert_eq!(answer(&since(101), 6, &partial), Some((rows.to_vec(), false)));
        assert_eq!(answer(&since(105), 2, &partial), Some((vec![108, 107], false)));
        let until = Filter { until: Some(NOW), ..since(0) };
        assert_eq!(answer(&until, 7, &entry(&[NOW + 5, NOW, 7], true)), Some((vec![NOW, 7], true)));
    }

    #[test]
    fn what_has_expired_is_no_part_of_an_answer() {
        assert_eq!(answer(&kind_1(), 2, &entry(&[109, 108, 99, 98, 97], false)), Some((vec![108, 98], false)));
        assert_eq!(answer(&kind_1(), 2, &entry(&[109, 108, 99], false)), None);
        assert_eq!(answer(&kind_1(), 1, &entry(&[109, 108, 99], true)), Some((vec![108], true)));
    }

    #[test]
    fn readers_who_may_see_different_things_have_different_keys_or_none() {
        let any = Filter::default();
        let secret = RandomState::new();
        let me = crate::types::PublicKey::from_bytes([1; 32]);
        let known = Access { authenticated: [me].into_iter().collect(), ..Access::default() };
        let open = Access { private_kinds: crate::types::PrivateKinds::new(Vec::new()), ..Access::default() };
        let name = |filter: &Filter, access: &Access| {
            Question::new(filter, access, 5, NOW, &secret).map(|question| question.name)
        };
        assert!(name(&any, &known).is_none(), "it may hold what only they may read");
        assert_ne!(name(&any, &Access::default()), name(&any, &open));
        assert_eq!(name(&kind_1(), &known), name(&kind_1(), &Access::default()));
        let wraps = Filter { kinds: Some([Kind(1), Kind::GIFT_WRAP].into()), ..Filter::default() };
        assert!(name(&wraps, &known).is_none());
        assert_ne!(name(&wraps, &Access::default()), name(&wraps, &open));
    }
}
