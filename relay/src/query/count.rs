//! COUNT (NIP-45): how many distinct events match.

use super::{MAX_ROUNDS, Queries, QueryError, QueryLimits};
use crate::log::Tail;
use crate::types::{Access, Change, Event, Filter, now};
use std::collections::HashSet;

impl Queries {
    /// Counts the distinct events that at least one of `filters` selects and this reader may see, as of a local head
    /// that a REQ at this moment would be answered at: a lagging snapshot's count is brought up to date by the log.
    pub async fn count(&self, filters: &[Filter], access: &Access, limits: QueryLimits) -> Result<u64, QueryError> {
        let now = now();
        let acknowledged = self.log.acknowledged();
        self.see_other_instances(filters, access, limits).await?;
        self.reach(acknowledged, limits).await?;
        let counts = |event: &Event| {
            !event.is_expired(now) && access.may_read(event) && filters.iter().any(|filter| filter.matches(event))
        };
        let mut at_least = self.log.floor();
        for _ in 0..MAX_ROUNDS {
            let (count, head) = self.timed(filters, self.store.count(filters, access, at_least, now)).await?;
            self.reach(head, limits).await?;
            at_least = match self.log.tail(head) {
                Ok(tail) => match correct(count, &tail, counts) {
                    Some(count) => return Ok(count),
                    None => tail.head.position,
                },
                Err(_) => self.log.floor(),
            };
        }
        Err(QueryError::OutOfReach)
    }
}

/// The count as of the tail's head. `None` where an event goes of which nobody can say whether it was counted: the log
/// leaves out an insertion whose event has gone since.
pub(super) fn correct(count: u64, tail: &Tail, counts: impl Fn(&Event) -> bool) -> Option<u64> {
    let mut new = HashSet::new();
    for change in tail.entries.iter().flat_map(|entry| entry.changes.iter()) {
        match change {
            Change::Inserted(insertion) if counts(&insertion.event) => {
                new.insert(insertion.event.id());
            }
            Change::Removed(removal) if counts(&removal.event) && !new.remove(&removal.id()) => return None,
            Change::Inserted(_) | Change::Removed(_) => {}
        }
    }
    Some(count + new.len() as u64)
}
