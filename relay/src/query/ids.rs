//! Events by their ids. The event of an id never changes, so each id is looked up on its own, whatever other ids the
//! filter names: the ring and the cache answer what they have, and only the rest is read from the store.

use super::cached::{PageRequest, Source};
use super::page::{Candidate, PageSnapshot};
use super::{Queries, QueryError};
use crate::cache::{Cache, Listed};
use crate::telemetry::{CacheLayer, ReadSource};
use crate::types::{Event, EventId, Filter, Head, Row, now};
use std::time::Instant;

impl Queries {
    /// The newest events among those with these ids, at most `request.limit`.
    pub(super) async fn read_ids(
        &self,
        cache: &Cache,
        request: PageRequest<'_>,
        ids: &[EventId],
    ) -> Result<PageSnapshot, QueryError> {
        let limit = request.size.rows();
        let all = PageRequest { size: limit.max(ids.len()).into(), ..request };
        let mut read = self.read_all_ids(cache, all, ids).await?;
        read.complete &= read.rows.len() <= limit;
        read.rows.truncate(limit);
        read.limit = limit;
        Ok(read)
    }

    async fn read_all_ids(
        &self,
        cache: &Cache,
        request: PageRequest<'_>,
        ids: &[EventId],
    ) -> Result<PageSnapshot, QueryError> {
        let begun = Instant::now();
        let (known, missing) = self.gather(cache, ids, request);
        if missing.is_empty() {
            cache.note(CacheLayer::L1, true);
            self.metrics.cache_reads.of(ReadSource::L1).record(begun.elapsed());
            return Ok(known);
        }

        let nothing_known = missing.len() == ids.len();
        let rest = Filter { ids: Some(missing.into()), ..Filter::default() };
        let query = cache.rows_query(&rest, request.access, request.size, now());
        if query.is_some() {
            cache.note(CacheLayer::L1, false);
        }
        let rest = PageRequest { filter: &rest, ..request };
        let read = self.read_anew(cache, rest, query.as_ref(), Source::Any).await?;
        if nothing_known {
            return Ok(read);
        }

        // The two parts may be of different heads: both are brought to the local head before they become one page.
        self.reach(read.head, request.limits).await?;
        let mut both = [known, read];
        if self.bring_to_one_head(&mut both, request) {
            let [known, read] = both;
            let mut rows: Vec<Candidate> = known.rows.into_iter().chain(read.rows).collect();
            rows.sort_by_key(|row| row.key().order());
            // The log applies an insertion of one of the ids to both parts.
            rows.dedup_by_key(|row| row.key());
            return Ok(PageSnapshot { rows: rows.into(), ..read });
        }
        self.read_alone(request).await
    }

    /// What the ring and the cache know of these ids, and the ids of which they know nothing.
    fn gather(&self, cache: &Cache, ids: &[EventId], request: PageRequest<'_>) -> (PageSnapshot, Vec<EventId>) {
        let (now, access) = (now(), request.access);
        let (held, head) = self.log.held(ids);
        let (mut rows, mut not_in_ring, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for (id, held) in ids.iter().zip(held) {
            match held {
                Some(event) if access.may_read(&event) && !event.is_expired(now) => {
                    rows.push(Candidate::from(Row::from(&*event)));
                }
                Some(_) => {}
                None => not_in_ring.push(*id),
            }
        }

        let (mut oldest, mut is_of_one_head) = (head, true);
        for (id, found) in not_in_ring.iter().zip(cache.find_ids(&not_in_ring, access, now)) {
            match found {
                // An answer from beyond the ring's head says nothing about that head.
                Some((row, known_at)) if known_at.epoch == head.epoch && known_at.position <= head.position => {
                    oldest.position = oldest.position.min(known_at.position);
                    is_of_one_head &= known_at == head;
                    rows.extend(row.map(Candidate::from));
                }
                _ => missing.push(*id),
            }
        }

        rows.sort_by_key(|row| row.key().order());
        let mut known =
            [PageSnapshot { head: oldest, limit: ids.len(), rows: rows.into(), complete: true, read_at: now }];
        let is_of_one_head = is_of_one_head || self.bring_to_one_head(&mut known, request);
        let [known] = known;
        if is_of_one_head { (known, missing) } else { (PageSnapshot::nothing(head), ids.to_vec()) }
    }

    /// Brings snapshots of some ids to one head. Some rows may be of a later head than their snapshot says: in a
    /// complete snapshot an entry that is applied twice changes nothing. `false`: that is impossible, since a snapshot
    /// is not complete, or since an epoch has ended and what a snapshot holds may have been cut off.
    fn bring_to_one_head(&self, snapshots: &mut [PageSnapshot], request: PageRequest<'_>) -> bool {
        let heads: Vec<Head> = snapshots.iter().map(|snapshot| snapshot.head).collect();
        let Ok(tail) = self.log.tail_of_all(&heads) else { return false };
        let can_advance = |snapshot: &PageSnapshot| snapshot.head.epoch == tail.head.epoch && snapshot.complete;
        if !snapshots.iter().all(can_advance) {
            return false;
        }
        let now = now();
        let selects =
            |event: &Event| request.filter.matches(event) && !event.is_expired(now) && request.access.may_read(event);
        for snapshot in snapshots {
            // Every entry, also those that some of the rows already contain.
            snapshot.advance(&tail.entries, tail.head, selects);
        }
        true
    }
}
