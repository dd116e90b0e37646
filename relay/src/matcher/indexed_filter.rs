//! A distinct filter in the matcher: what every event compares is in one cache line, the rest elsewhere.

use super::filing::Field;
use super::probe::Probe;
use super::subscribers::Subscribers;
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Event, Filter, Timestamp};
use std::cell::OnceCell;

/// Kinds that fit into the cache line.
const KINDS: usize = 7;

/// A filter without its `limit`. An event that finds it has met the condition that it is filed under.
#[repr(align(64))]
pub(super) struct IndexedFilter<T> {
    /// The number of the last event that it was compared with.
    pub(super) seen: u64,
    /// The subscribers of this filter.
    pub(super) subscribers: Subscribers<T>,
    /// The earliest and the latest time; 0 and the greatest number stand for no bound.
    since: u32,
    until: u32,
    kinds: [u16; KINDS],
    pub(super) detail: Box<Detail>,
    /// How many of `kinds` count; 0 means any kind.
    kinds_used: u8,
    /// [`Detail`] has further conditions.
    has_more: bool,
}

/// What few events need.
pub(super) struct Detail {
    pub(super) filter: Filter,
    pub(super) hash: u64,
    /// The field that it is filed under.
    pub(super) field: Field,
    /// Its places in the postings lists, in the order of its keys.
    pub(super) places: Vec<u32>,
    times_left: bool,
    kinds_left: bool,
    authors_left: bool,
    ids_left: bool,
    tags_left: bool,
}

impl<T> IndexedFilter<T> {
    pub(super) fn new(filter: Filter, hash: u64, field: Field) -> Self {
        let by_kind = matches!(field, Field::Kind | Field::Pair);
        let wanted = filter.kinds.as_deref().filter(|_| !by_kind).unwrap_or_default();
        let mut kinds = [0; KINDS];
        let fits = wanted.len() <= KINDS;
        if fits {
            kinds.iter_mut().zip(wanted).for_each(|(slot, kind)| *slot = kind.0);
        }
        let since = filter.since.and_then(|since| u32::try_from(since).ok()).filter(|since| *since > 0);
        let until = filter.until.and_then(|until| u32::try_from(until).ok()).filter(|until| *until < u32::MAX);
        let times_left = filter.since.is_some() != since.is_some() || filter.until.is_some() != until.is_some();
        let (kinds_left, ids_left) = (!fits, filter.ids.is_some() && field != Field::Id);
        let authors_left = filter.authors.is_some() && !matches!(field, Field::Author | Field::Pair);
        // It is filed under one condition, also where a letter has several (NIP-91).
        let tags_left = match field {
            Field::Tag(_) => filter.tags.len() > 1 && !ablated(Safeguard::AndTags),
            _ => !filter.tags.is_empty(),
        };
        Self {
            seen: 0,
            subscribers: Subscribers::new(),
            since: since.unwrap_or(0),
            until: until.unwrap_or(u32::MAX),
            kinds,
            kinds_used: if fits { wanted.len() as u8 } else { 0 },
            has_more: times_left || kinds_left || authors_left || ids_left || tags_left,
            detail: Box::new(Detail {
                filter,
                hash,
                field,
                places: Vec::new(),
                times_left,
                kinds_left,
                authors_left,
                ids_left,
                tags_left,
            }),
        }
    }

    /// True when `event`, which was found under a key of this filter, satisfies its other conditions too.
    pub(super) fn suits<'a>(&self, event: &'a Event, probe: &OnceCell<Probe<'a>>) -> bool {
        let kinds = self.kinds.get(..usize::from(self.kinds_used)).unwrap_or_default();
        (self.since..=self.until).contains(&within_u32(event.created_at()))
            && (kinds.is_empty() || kinds.contains(&event.kind().0))
            && (!self.has_more || self.detail.suits(event, probe))
    }
}

/// The nearest time that fits into [`IndexedFilter`]. The two outermost values stand for all times beyond, so no filter
/// has one of them as a bound.
fn within_u32(at: Timestamp) -> u32 {
    u32::try_from(at.max(0)).unwrap_or(u32::MAX)
}

impl Detail {
    fn suits<'a>(&self, event: &'a Event, probe: &OnceCell<Probe<'a>>) -> bool {
        let Filter { kinds, authors, ids, since, until, .. } = &self.filter;
        let has = |left: bool, met: &dyn Fn() -> bool| !left || met();
        let at = event.created_at();
        has(self.times_left, &|| since.is_none_or(|since| since <= at) && until.is_none_or(|until| at <= until))
            && has(self.kinds_left, &|| kinds.as_ref().is_none_or(|kinds| kinds.binary_search(&event.kind()).is_ok()))
            && has(self.authors_left, &|| {
                authors.as_ref().is_none_or(|list| list.binary_search(&event.pubkey()).is_ok())
            })
            && has(self.ids_left, &|| ids.as_ref().is_none_or(|ids| ids.binary_search(&event.id()).is_ok()))
            && has(self.tags_left, &|| probe.get_or_init(|| Probe::new(event)).suits_tags(&self.filter))
    }
}
