//! Requests to vanish (NIP-62): what they remove, and the floor below which nothing of a key is stored again.

use super::Address;
use crate::store::{Page, Read, StoreError};
use crate::types::{Event, EventId, Filter, Kind, Position, PublicKey, TagFilter, Timestamp};

/// How many recipients of a gift wrap are looked at. NIP-59 names one; without a bound, one hostile event costs
/// thousands of look-ups.
const MAX_RECIPIENTS: usize = 16;

/// A store as a write sees it, which looks for what it is to remove.
pub(crate) trait SelectIds: Send {
    /// Reads one page for the write.
    fn page(&mut self, read: &Read<'_>) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// The ids of up to `max` events that `filter` selects, expired ones too.
    fn select_ids(
        &mut self,
        filter: &Filter,
        max: usize,
    ) -> impl Future<Output = Result<Vec<EventId>, StoreError>> + Send {
        async move {
            let read = Read {
                filter,
                limit: max,
                after: None,
                access: None,
                at_least: Position::default(),
                now: Timestamp::MIN,
                // The ids are all that is wanted.
                max_text_bytes: 0,
            };
            let Page { rows, rest, .. } = self.page(&read).await?;
            Ok(rows.iter().map(|row| row.key.id).chain(rest.iter().map(|key| key.id)).collect())
        }
    }
}

/// What one key wants to be gone: its events up to a second, and the gift wraps addressed to it up to then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vanish {
    /// The key.
    pub pubkey: PublicKey,
    /// The last second whose events go.
    pub up_to: Timestamp,
    /// The request itself, which stays: it carries the floor through exports and imports. `None`: the operator's order.
    pub request: Option<EventId>,
}

impl Vanish {
    /// What `event` asks for; `None` where it is no request to vanish. A store only ever gets requests that are meant
    /// for this relay: `policy` refuses the others.
    pub fn of(event: &Event) -> Option<Self> {
        (event.kind() == Kind::VANISH).then(|| Self {
            pubkey: event.pubkey(),
            up_to: event.created_at(),
            request: Some(event.id()),
        })
    }

    /// The filters that together select what goes; the request itself is among it.
    pub fn filters(&self) -> [Filter; 2] {
        let until = Some(self.up_to);
        let wraps = TagFilter { letter: b'p', values: [self.pubkey.to_hex().into_boxed_str()].into() };
        [
            Filter { authors: Some([self.pubkey].into()), until, ..Filter::default() },
            Filter { kinds: Some([Kind::GIFT_WRAP].into()), tags: [wraps].into(), until, ..Filter::default() },
        ]
    }

    /// The ids of up to `max` events of `store` that go next, and the filter that selects them; no ids where nothing is
    /// left.
    pub(crate) async fn next_batch<S: SelectIds>(
        &self,
        store: &mut S,
        max: usize,
    ) -> Result<(Vec<EventId>, Filter), StoreError> {
        let [events, wraps] = self.filters();
        for filter in [&events, &wraps] {
            // One more than `max`, since the request itself may be among them.
            let mut ids = store.select_ids(filter, max.saturating_add(1)).await?;
            ids.retain(|id| Some(*id) != self.request);
            ids.truncate(max);
            if !ids.is_empty() {
                return Ok((ids, filter.clone()));
            }
        }
        Ok((Vec::new(), events))
    }

    /// The address whose deletion mark is the floor of this key. See [`vanish_floor`].
    pub(crate) fn floor(&self) -> Address {
        vanish_floor(self.pubkey)
    }
}

/// Where a store keeps the floor of a key: as the deletion mark of an address that no event can have, for kind 62 is
/// neither replaceable nor addressable. So the floor is looked up, checked against other writers and written by what
/// does this for every address, and needs no table of its own.
pub(crate) fn vanish_floor(pubkey: PublicKey) -> Address {
    Address { kind: Kind::VANISH, pubkey, identifier: "".into() }
}

/// The keys whose vanishing bars `event`: its author and, for a gift wrap, its recipients (the first 16).
pub(crate) fn barring_keys(event: &Event) -> impl Iterator<Item = PublicKey> + '_ {
    let is_wrap = event.kind() == Kind::GIFT_WRAP;
    let recipients = event.tag_values(b'p').take(if is_wrap { MAX_RECIPIENTS } else { 0 });
    std::iter::once(event.pubkey()).chain(recipients.filter_map(|value| PublicKey::from_hex(value.as_bytes()).ok()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::types::{Head, Key};
    use futures_util::FutureExt;

    /// What the two filters of a request select.
    struct Selected<'a> {
        events: &'a [u8],
        wraps: &'a [u8],
    }

    impl SelectIds for Selected<'_> {
        async fn page(&mut self, read: &Read<'_>) -> Result<Page, StoreError> {
            let selected = if read.filter.kinds.is_none() { self.events } else { self.wraps };
            let key = |id| Key { created_at: 0, id };
            let rest = ids(selected).into_iter().take(read.limit).map(key).collect();
            Ok(Page { rows: Vec::new(), rest, head: Head::default(), complete: true })
        }
    }

    /// The next batch of up to `max` events.
    fn next(vanish: &Vanish, max: usize, events: &[u8], wraps: &[u8]) -> (Vec<EventId>, Filter) {
        let batch = vanish.next_batch(&mut Selected { events, wraps }, max).now_or_never();
        batch.expect("nothing waits").unwrap()
    }

    fn ids(bytes: &[u8]) -> Vec<EventId> {
        bytes.iter().map(|byte| EventId::from_bytes([*byte; 32])).collect()
    }

    #[test]
    fn the_events_go_first_then_the_gift_wraps_and_the_request_stays() {
        let request = Some(EventId::from_bytes([9; 32]));
        let vanish = Vanish { pubkey: PublicKey::from_bytes([1; 32]), up_to: 100, request };
        let [events, wraps] = vanish.filters();
        assert_eq!(next(&vanish, 2, &[9, 1, 2, 3], &[4]), (ids(&[1, 2]), events.clone()));
        assert_eq!(next(&vanish, 2, &[1, 2, 9], &[4]), (ids(&[1, 2]), events.clone()));
        assert_eq!(next(&vanish, 1, &[9], &[4, 5]), (ids(&[4]), wraps));
        assert_eq!(next(&vanish, 1, &[9], &[]), (Vec::new(), events.clone()));

        let order = Vanish { request: None, ..vanish };
        assert_eq!(next(&order, 2, &[9], &[]), (ids(&[9]), events));
    }
}
