//! Holds what every client saw against the log.

use crate::oracle::{self, Transcript};
use crate::world::{Session, World};
use relay::query::QueryLimits;
use relay::types::{Change, EventId, LogEntry, Position};
use std::collections::HashMap;
use std::time::Duration;

/// How many positions a session's H may lie from what the recorder knew when it was opened: a few seconds' worth.
const SLACK: u64 = 300;

/// Everything that is wrong, each with its session or event; nothing, if all is well.
pub fn judge(world: &World, entries: &[LogEntry]) -> Vec<String> {
    let positions = positions(entries);
    let mut wrong = Vec::new();
    let removed = entries.iter().flat_map(|entry| entry.changes.iter()).filter_map(|change| match change {
        Change::Removed(removal) => Some(removal.id()),
        Change::Inserted(_) => None,
    });
    for id in removed.filter(|id| !positions.contains_key(id)) {
        wrong.push(format!("the recorder missed {}: its verdict means nothing", id.to_hex()));
    }
    for id in world.acknowledged.lock().iter().filter(|id| !positions.contains_key(id)) {
        wrong.push(format!("{} was acknowledged and is not in the log", id.to_hex()));
    }
    for session in world.sessions.lock().iter() {
        if let Err(reason) = check(session, entries, &positions) {
            wrong.push(format!("relay-{}, {}: {reason}", session.relay + 1, session.filters[0].to_json()));
        }
    }
    wrong
}

/// Where each event was stored.
fn positions(entries: &[LogEntry]) -> HashMap<EventId, u64> {
    let mut positions = HashMap::new();
    for entry in entries {
        for change in entry.changes.iter() {
            if let Change::Inserted(insertion) = change {
                positions.insert(insertion.event.id(), entry.position.0);
            }
        }
    }
    positions
}

/// Holds one session against the log.
pub fn check(session: &Session, entries: &[LogEntry], positions: &HashMap<EventId, u64>) -> Result<(), String> {
    let end = entries.last().map_or(0, |entry| entry.position.0);
    let at = |id: &EventId| positions.get(id).copied().ok_or_else(|| format!("{} is in no log", id.to_hex()));
    let last_live = session.live.last().map(at).transpose()?;
    let mut newest_stored = 0;
    for id in &session.stored {
        newest_stored = newest_stored.max(at(id)?);
    }
    let transcript = |from: u64, to: u64| Transcript {
        filters: session.filters.clone(),
        limits: QueryLimits {
            default_limit: 500,
            max_limit: 5_000,
            max_text_bytes: usize::MAX,
            head_timeout: Duration::ZERO,
        },
        asked_at: Position(from),
        eose_at: Position(to),
        stored: session.stored.clone(),
        live: session.live.clone(),
        // A session that was cut off saw at least everything before the last that it saw.
        drained_at: Position(if session.whole { end } else { last_live.unwrap_or(0) }),
    };
    let (from, to) = (session.asked_at.saturating_sub(SLACK), (session.eose_at + SLACK).min(end));
    // H is no less than the newest stored event and less than the first live one: rarely is there need to look further.
    let first_live = session.live.first().map(at).transpose()?.unwrap_or(end + 1);
    let near = transcript(from.max(newest_stored), to.min(first_live.saturating_sub(1)));
    oracle::check(&near, entries).or_else(|_| oracle::check(&transcript(from, to), entries))
}

/// Whether the verdict would have seen a session that misses, doubles or misorders something.
pub fn assert_sees(world: &World, entries: &[LogEntry]) {
    let positions = positions(entries);
    let mut sessions = world.sessions.lock();
    let session = sessions.iter_mut().filter(|session| session.whole).max_by_key(|session| session.live.len());
    let session = session.expect("a session that lasted to the end");
    check(session, entries, &positions).unwrap();
    // Removed events may be missing: take two that stayed.
    let removed: Vec<_> = entries
        .iter()
        .flat_map(|entry| entry.changes.iter())
        .filter_map(|change| match change {
            Change::Removed(removal) => Some(removal.id()),
            Change::Inserted(_) => None,
        })
        .collect();
    let stayed: Vec<_> = (0..session.live.len()).filter(|at| !removed.contains(&session.live[*at])).collect();
    let (first, second) = (stayed[stayed.len() / 3], stayed[stayed.len() / 3 + 1]);
    let live = session.live.clone();
    session.live.remove(first);
    check(session, entries, &positions).expect_err("an event is missing");
    session.live = live.clone();
    session.live.insert(second, live[first]);
    check(session, entries, &positions).expect_err("an event came twice");
    session.live = live.clone();
    session.live.swap(first, second);
    check(session, entries, &positions).expect_err("two events changed places");
    session.live = live;
}
