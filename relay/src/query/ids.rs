//! Events by their ids. An id's event never changes, so each id is a question of its own, whatever the company in which
//! it is asked for: what the ring or the cache has of them is taken from there, and only the rest is read.

use super::cached::{Source, Wanted};
use super::page::{Candidate, Snapshot};
use super::{Queries, QueryError};
use crate::cache::{Cache, Listed, only_ids};
use crate::telemetry::{CacheLayer, ReadSource};
use crate::types::{Access, EventId, Filter, Row, now};
use std::time::Instant;

/// More ids are one question.
const FEW: usize = 64;

/// The ids of a filter that asks for all of a few events by their ids, and for nothing else.
pub(super) fn of_few<'a>(wanted: Wanted<'a>) -> Option<&'a [EventId]> {
    only_ids(wanted.filter).filter(|ids| ids.len() <= FEW.min(wanted.limit))
}

impl Queries {
    /// The events of these ids.
    pub(super) async fn read_ids(
        &self,
        cache: &Cache,
        wanted: Wanted<'_>,
        ids: &[EventId],
    ) -> Result<Snapshot, QueryError> {
        let begun = Instant::now();
        let (known, missing) = self.gather(cache, ids, wanted.access);
        if missing.is_empty() {
            cache.note(CacheLayer::L1, true);
            self.metrics.cache_reads.of(ReadSource::L1).record(begun.elapsed());
            return Ok(known);
        }
        let rest = Filter { ids: Some(missing.into()), ..Filter::default() };
        let question = cache.question(&rest, wanted.access, wanted.limit, now());
        if question.is_some() {
            cache.note(CacheLayer::L1, false);
        }
        let rest = Wanted { filter: &rest, ..wanted };
        let read = self.read_anew(cache, rest, question.as_ref(), Source::Any).await?;
        match join(known, read) {
            Some(all) => Ok(all),
            // A failover has come between.
            None => self.read_alone(wanted).await,
        }
    }

    /// What is known here of these ids, and those of which nothing is.
    fn gather(&self, cache: &Cache, ids: &[EventId], access: &Access) -> (Snapshot, Vec<EventId>) {
        let now = now();
        let (held, head) = self.log.held(ids);
        let (mut rows, mut head, mut others): (Vec<Candidate>, _, Vec<EventId>) = (Vec::new(), head, Vec::new());
        for (id, held) in ids.iter().zip(held) {
            match held {
                Some(event) if access.may_read(&event) && !event.is_expired(now) => {
                    rows.push(Row::from(&*event).into())
                }
                Some(_) => {}
                None => others.push(*id),
            }
        }
        let mut missing = Vec::new();
        for (id, found) in others.iter().zip(cache.find_ids(&others, access, now)) {
            match found {
                Some((row, known_at)) if known_at.epoch == head.epoch => {
                    head.position = head.position.min(known_at.position);
                    rows.extend(row.map(Candidate::from));
                }
                _ => missing.push(*id),
            }
        }
        rows.sort_by_key(|row| row.key().order());
        (Snapshot { head, limit: ids.len(), rows, complete: true }, missing)
    }
}

/// Both as one, as of the older head: where all events that are asked for by their ids are known, an entry that is applied
/// twice changes nothing. `None`: they are not of one epoch, or not all is known.
fn join(known: Snapshot, read: Snapshot) -> Option<Snapshot> {
    let (mut all, other) = if known.head.position <= read.head.position { (known, read) } else { (read, known) };
    if all.head.epoch != other.head.epoch || !all.complete || !other.complete {
        return None;
    }
    all.limit += other.limit;
    all.rows.extend(other.rows);
    all.rows.sort_by_key(|row| row.key().order());
    Some(all)
}
