//! Compares what one subscription saw with the log.

use relay::query::QueryLimits;
use relay::types::{Access, Change, Event, EventId, Filter, LogEntry, Position, Row};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What one subscription saw.
pub(crate) struct Transcript {
    pub(crate) filters: Arc<[Filter]>,
    /// The reader: what is private to others is no part of its answer.
    pub(crate) access: Access,
    pub(crate) limits: QueryLimits,
    pub(crate) asked_at: Position,
    pub(crate) eose_at: Position,
    /// The store's position at EOSE, which may be ahead of the log's local head: texts that a page has left out are
    /// fetched there, without those of events that the store has removed meanwhile.
    pub(crate) store_head: Option<Position>,
    pub(crate) stored: Vec<EventId>,
    pub(crate) live: Vec<EventId>,
    /// The head when the last items were taken: everything up to it must be there.
    pub(crate) drained_at: Position,
}

/// Compares one transcript with the log: some H between asking and EOSE must explain all of it.
pub(crate) fn check(transcript: &Transcript, entries: &[LogEntry]) -> Result<(), String> {
    let mut reason = String::new();
    for head in transcript.asked_at.0..=transcript.eose_at.0 {
        match explain(transcript, entries, Position(head)) {
            Ok(()) => return Ok(()),
            Err(why) => reason = why,
        }
    }
    Err(format!(
        "no H in {}..={} explains a transcript of {} stored and {} live; at the last: {reason}",
        transcript.asked_at.0,
        transcript.eose_at.0,
        transcript.stored.len(),
        transcript.live.len()
    ))
}

fn explain(transcript: &Transcript, entries: &[LogEntry], head: Position) -> Result<(), String> {
    let removed_at: HashMap<EventId, Position> = entries
        .iter()
        .flat_map(|entry| entry.changes.iter().map(move |change| (entry.position, change)))
        .filter_map(|(position, change)| match change {
            Change::Removed(removal) => Some((removal.id(), position)),
            Change::Inserted(_) => None,
        })
        .collect();
    // Stored: the naive answer at H, without what was removed before it could be sent.
    let sent_at = transcript.store_head.unwrap_or(transcript.eose_at);

    let expected = naive_answer(transcript, entries, head);
    let stored: HashSet<_> = transcript.stored.iter().copied().collect();
    if stored.len() != transcript.stored.len() {
        return Err("a stored event came twice".to_owned());
    }
    let mut rest = transcript.stored.iter();
    let mut next = rest.next();
    for id in &expected {
        if next == Some(id) {
            next = rest.next();
        } else if !removed_at.get(id).is_some_and(|position| *position > head && *position <= sent_at) {
            return Err(format!("a stored event is missing or out of order at {}", head.0));
        }
    }

    if next.is_some() {
        return Err(format!("a stored event is not part of the answer at {}", head.0));
    }
    // Live: every match after H, in order, once, without removed events.
    let matches = entries.iter().filter(|entry| entry.position > head).flat_map(|entry| {
        let wanted = entry.changes.iter().filter_map(|change| match change {
            Change::Inserted(insertion) if wants(transcript, &insertion.event) => Some(insertion.event.id()),
            _ => None,
        });
        wanted.map(move |id| (entry.position, id)).collect::<Vec<_>>()
    });

    let mut live = transcript.live.iter();
    let mut next = live.next();
    for (position, id) in matches {
        if next == Some(&id) {
            next = live.next();
        } else if position <= transcript.drained_at && !removed_at.contains_key(&id) {
            return Err(format!("a live event at {} is missing or out of order", position.0));
        }
    }
    if next.is_some() { Err("a live event came twice, or before its time".to_owned()) } else { Ok(()) }
}

fn wants(transcript: &Transcript, event: &Event) -> bool {
    transcript.access.may_read(event) && transcript.filters.iter().any(|filter| filter.matches(event))
}

fn naive_answer(transcript: &Transcript, entries: &[LogEntry], head: Position) -> Vec<EventId> {
    let mut alive: HashMap<EventId, Arc<Event>> = HashMap::new();
    for change in entries.iter().filter(|entry| entry.position <= head).flat_map(|entry| entry.changes.iter()) {
        match change {
            Change::Inserted(insertion) => drop(alive.insert(insertion.event.id(), insertion.event.clone())),
            Change::Removed(removal) => drop(alive.remove(&removal.id())),
        }
    }
    alive.retain(|_, event| transcript.access.may_read(event));

    let mut keys = HashSet::new();
    for filter in transcript.filters.iter() {
        let mut rows: Vec<Row> =
            alive.values().filter(|event| filter.matches(event)).map(|event| Row::from(&**event)).collect();
        rows.sort_by_key(|row| row.key.order());
        let limit = filter.limit.map_or(transcript.limits.default_limit, |limit| limit as usize);
        keys.extend(
            rows.into_iter().take(limit.min(transcript.limits.max_limit)).map(|row| (row.key.order(), row.key.id)),
        );
    }

    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort();
    keys.into_iter().map(|(_, id)| id).collect()
}
