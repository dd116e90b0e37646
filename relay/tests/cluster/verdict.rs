//! Compares what every client saw with the log.

use crate::clients::AUTHOR_ONLY;
use crate::oracle::{self, Transcript};
use crate::world::{Record, Session, World};
use relay::query::QueryLimits;
use relay::types::{Access, Change, Event, EventId, Filter, Kind, LogEntry, Position, PrivateKinds};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most positions between a session's H and the recorder's head when it was opened: a few seconds' worth.
const SLACK: u64 = 300;

/// All faults, each with its session or event; empty where there is none.
pub fn judge(world: &World, entries: &[LogEntry]) -> Vec<String> {
    let positions = positions(entries);
    let mut wrong = Vec::new();
    for id in removed(entries).filter(|id| !positions.contains_key(id)) {
        wrong.push(format!("the recorder missed {}: its verdict means nothing", id.to_hex()));
    }
    for id in world.acknowledged.lock().iter().filter(|id| !positions.contains_key(id)) {
        wrong.push(format!("{} was acknowledged and is not in the log", id.to_hex()));
    }
    for session in world.sessions.lock().iter() {
        if let Err(reason) = check(session, entries, &positions) {
            wrong.push(named(session, &reason));
        }
    }
    wrong.extend(in_the_end(world, entries));
    wrong
}

/// The same after a promotion at that moment, which has cut off a part of the log. An event that was stored again has
/// another position now, and a client that had it before does not get it again.
pub fn judge_after_loss(world: &World, record: &Record, promoted: Instant) -> Vec<String> {
    let now = positions(&record.entries);
    let gone: HashSet<EventId> = removed(&record.entries).collect();
    let once: HashSet<EventId> = positions(&record.cut_off).into_keys().chain(removed(&record.cut_off)).collect();
    let alive = alive(&record.entries);

    // A version that is submitted again after a newer one is refused.
    let newer = |old: &Event| {
        let same = |event: &Event| event.pubkey() == old.pubkey() && event.kind() == old.kind();
        alive.values().any(|event| same(event) && event.id() != old.id() && event.created_at() >= old.created_at())
    };

    let replaceable = world.replaceable.lock();
    let superseded: HashSet<EventId> = replaceable.iter().filter(|old| newer(old)).map(Event::id).collect();
    let accounted = |id: &EventId| now.contains_key(id) || gone.contains(id) || superseded.contains(id);
    let mut wrong = Vec::new();
    for id in world.acknowledged.lock().iter().filter(|id| !accounted(id)) {
        wrong.push(format!("{} was acknowledged and is not in the log", id.to_hex()));
    }

    let sent = world.sent.lock();
    for session in world.sessions.lock().iter() {
        let mut seen = HashSet::new();
        for id in session.stored.iter().chain(&session.live) {
            if !seen.insert(*id) {
                wrong.push(named(session, &format!("{} came twice", id.to_hex())));
            }
            // An event of the last moments that was refused when it was submitted again is in no log that the recorder
            // read.
            if !(accounted(id) || once.contains(id)) {
                wrong.push(named(session, &format!("{} is in no log", id.to_hex())));
            }
        }
        let before = |id: &EventId| now.get(id).copied().filter(|position| *position <= record.base.0);
        let after = |id: &EventId| now.get(id).copied().filter(|_| sent.get(id).is_some_and(|sent| *sent > promoted));
        let in_order =
            session.live.iter().filter_map(before).is_sorted() && session.live.iter().filter_map(after).is_sorted();
        if !in_order {
            wrong.push(named(session, "live events are out of order"));
        }
        let missing = |event: &&Arc<Event>| wants(session, event) && !seen.contains(&event.id());
        for event in alive.values().filter(|_| session.whole).filter(missing) {
            wrong.push(named(session, &format!("{} is missing", event.id().to_hex())));
        }
    }

    wrong.extend(in_the_end(world, &record.entries));
    wrong
}

/// Checks the end: no deleted event is stored, and every subscriber has every event that is.
fn in_the_end(world: &World, entries: &[LogEntry]) -> Vec<String> {
    let alive = alive(entries);
    let back = world.deleted.lock().iter().filter(|id| alive.contains_key(id)).copied().collect::<Vec<_>>();
    let mut wrong: Vec<_> = back.iter().map(|id| format!("{} was deleted and is there", id.to_hex())).collect();
    let sessions = world.sessions.lock();
    let mut seen: HashMap<usize, HashSet<EventId>> = HashMap::new();
    for session in sessions.iter() {
        let Some(subscriber) = session.subscriber else { continue };
        seen.entry(subscriber).or_default().extend(session.stored.iter().chain(&session.live));
    }

    // A subscriber's first session asks for everything.
    for session in sessions.iter() {
        let Some(seen) = session.subscriber.and_then(|subscriber| seen.remove(&subscriber)) else { continue };
        let missing = alive.values().filter(|event| wants(session, event) && !seen.contains(&event.id())).count();
        if missing > 0 {
            wrong.push(named(session, &format!("{missing} events are in none of the subscriber's sessions")));
        }
    }
    wrong
}

fn named(session: &Session, reason: &str) -> String {
    format!("relay-{}, {}: {reason}", session.relay + 1, session.filters[0].to_json())
}

/// What every session may read: none has authenticated.
pub fn stranger() -> Access {
    let private_kinds = PrivateKinds::default().with_author_only(vec![Kind(AUTHOR_ONLY)]);
    Access { private_kinds, ..Access::default() }
}

fn wants(session: &Session, event: &Event) -> bool {
    stranger().may_read(event) && session.filters.iter().any(|filter| filter.matches(event))
}

fn removed(entries: &[LogEntry]) -> impl Iterator<Item = EventId> + '_ {
    entries.iter().flat_map(|entry| entry.changes.iter()).filter_map(|change| match change {
        Change::Removed(removal) => Some(removal.id()),
        Change::Inserted(_) => None,
    })
}

/// The events after the last entry.
fn alive(entries: &[LogEntry]) -> HashMap<EventId, Arc<Event>> {
    let mut alive = HashMap::new();
    for change in entries.iter().flat_map(|entry| entry.changes.iter()) {
        match change {
            Change::Inserted(insertion) => drop(alive.insert(insertion.event.id(), insertion.event.clone())),
            Change::Removed(removal) => drop(alive.remove(&removal.id())),
        }
    }
    alive
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

/// Compares one session with the log.
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
        access: stranger(),
        limits: QueryLimits {
            default_limit: 500,
            max_limit: 5_000,
            eose_hints: false,
            boundary_overrun: 0,
            max_text_bytes: usize::MAX,
            head_timeout: Duration::ZERO,
        },
        asked_at: Position(from),
        eose_at: Position(to),
        store_head: None,
        stored: session.stored.clone(),
        live: session.live.clone(),
        // A session that was cut off saw at least everything before the last event that it saw.
        drained_at: Position(if session.whole { end } else { last_live.unwrap_or(0) }),
    };

    let (from, to) = (session.asked_at.saturating_sub(SLACK), (session.eose_at + SLACK).min(end));
    // H is not before the newest stored event, and before the first live one: mostly one of few positions fits.
    let first_live = session.live.first().map(at).transpose()?.unwrap_or(end + 1);
    let near = transcript(from.max(newest_stored), to.min(first_live.saturating_sub(1)));
    oracle::check(&near, entries).or_else(|_| oracle::check(&transcript(from, to), entries))
}

/// Checks that the verdict finds a session that misses, doubles or misorders an event.
pub fn assert_sees(world: &World, entries: &[LogEntry]) {
    let positions = positions(entries);
    let mut sessions = world.sessions.lock();
    let session = sessions.iter_mut().filter(|session| session.whole).max_by_key(|session| session.live.len());
    let session = session.expect("a session that lasted to the end");
    check(session, entries, &positions).unwrap();

    // Removed events may be missing, so take two that stayed.
    let removed: Vec<_> = removed(entries).collect();
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

    // A stranger who asks for what is for its author alone gets nothing of it, stored or live.
    let author_only = Filter { kinds: Some([Kind(AUTHOR_ONLY)].into()), ..Filter::default() };
    let leaked = entries.iter().flat_map(|entry| entry.changes.iter()).find_map(|change| match change {
        Change::Inserted(insertion) if author_only.matches(&insertion.event) => Some(insertion.event.id()),
        _ => None,
    });
    let leaked = leaked.expect("an event that is for its author alone");
    let asks = |filter: &Filter, stored: &[EventId], live: &[EventId]| Session {
        subscriber: None,
        relay: session.relay,
        filters: [filter.clone()].into(),
        asked_at: session.asked_at,
        eose_at: session.eose_at,
        stored: stored.to_vec(),
        live: live.to_vec(),
        whole: true,
    };
    check(&asks(&author_only, &[], &[]), entries, &positions).unwrap();
    check(&asks(&author_only, &[leaked], &[]), entries, &positions).expect_err("it came stored");
    check(&asks(&author_only, &[], &[leaked]), entries, &positions).expect_err("it came live");

    // No event has both topics, and many have one.
    let topics = |key: &str| Filter::parse(&format!("{{\"{key}\":[\"t1\",\"none\"]}}")).unwrap();
    check(&asks(&topics("&t"), &[], &[]), entries, &positions).unwrap();
    check(&asks(&topics("#t"), &[], &[]), entries, &positions).expect_err("those with one topic are missing");
}
