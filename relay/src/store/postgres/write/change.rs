//! The one call that writes: all parameters are arrays, and the result is two numbers, so that the server never waits
//! for its client while it holds the lock.

use super::seen::Seen;
use crate::store::hash::Hasher;
use crate::store::postgres::error::translate;
use crate::store::postgres::log::{INSERTED, op_of};
use crate::store::rules::{Decision, DecisionStep, EventPlace, Versions};
use crate::store::{Appended, StoreError};
use crate::types::{Change, Epoch, Event, EventId, Head, Insertion, Key, Position, Removal};
use rustc_hash::FxHashSet;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use std::fmt::Write;
use std::sync::Arc;

/// Raised by `change` where the decision is stale.
const STALE: &str = "SK001";
/// unique_violation: another writer has stored one of the events.
const CAME_IN_MEANWHILE: &str = "23505";

const SQL: &str = "SELECT epoch, position FROM change($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
                   $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)";

/// The columns of some rows of the table `address`.
#[derive(Default)]
struct Addresses {
    keys: Vec<[u8; 16]>,
    current: Vec<Option<[u8; 32]>>,
    newest_at: Vec<Option<i64>>,
    newest_id: Vec<Option<[u8; 32]>>,
    deleted_up_to: Vec<Option<i64>>,
}

impl Addresses {
    fn push(&mut self, key: [u8; 16], current: Option<EventId>, versions: &Versions<Key>) {
        self.keys.push(key);
        self.current.push(current.map(|id| *id.as_bytes()));
        self.newest_at.push(versions.newest.map(|newest| newest.created_at));
        self.newest_id.push(versions.newest.map(|newest| *newest.id.as_bytes()));
        self.deleted_up_to.push(versions.deleted_up_to);
    }
}

/// The row of the log, and its changes.
#[derive(Default)]
struct Entry {
    changes: Vec<Change>,
    gone: Vec<Key>,
    ops: Vec<i16>,
    ids: Vec<[u8; 32]>,
    created_ats: Vec<i64>,
    texts: Vec<Option<Arc<str>>>,
}

impl Entry {
    fn new(steps: &[DecisionStep<Key>], seen: &Seen) -> Result<Self, StoreError> {
        let mut entry = Self::default();
        for step in steps {
            let (event, cause) = match step {
                DecisionStep::Insert(event) => (event.clone(), None),
                DecisionStep::Withdraw(event, cause) => (event.clone(), Some(*cause)),
                DecisionStep::Remove(key, cause) => {
                    entry.gone.push(*key);
                    (seen.event(key.id)?, Some(*cause))
                }
            };

            entry.ids.push(*event.id().as_bytes());
            entry.created_ats.push(event.created_at());
            entry.ops.push(cause.map_or(INSERTED, op_of));
            entry.texts.push(cause.map(|_| event.text().clone()));
            entry.changes.push(match cause {
                None => Change::Inserted(Insertion::new(event)),
                Some(cause) => Change::Removed(Removal { event, cause }),
            });
        }
        Ok(entry)
    }
}

/// Writes a decision; `None` where it is stale.
pub(super) async fn change(
    conn: &mut PgConnection,
    hasher: &Hasher,
    epoch: Epoch,
    seen: &Seen,
    decision: Decision<Key>,
) -> Result<Option<Appended>, StoreError> {
    let entry = Entry::new(&decision.steps, seen)?;
    let mut inserts = decision.inserts;
    inserts.sort_unstable_by_key(|event| event.id());
    let inserted: FxHashSet<EventId> = inserts.iter().map(|event| event.id()).collect();
    let seen_ids: Vec<&EventId> = seen.ids.iter().filter(|id| !inserted.contains(id)).collect();

    let (mut before, mut after) = (Addresses::default(), Addresses::default());
    for (address, versions) in &seen.addresses {
        let current = versions.current.and_then(|place| place_id(place, &inserted));
        before.push(address.digest(), current, versions);
    }
    for (address, versions) in &decision.addresses {
        let current = versions.current.and_then(|place| place_id(place, &inserted));
        after.push(address.digest(), current, versions);
    }

    let query = sqlx::query(SQL)
        .bind(epoch.0.cast_signed())
        .bind(seen.head.epoch.0.cast_signed())
        .bind(seen.head.position.0.cast_signed())
        .bind(seen_ids.iter().map(|id| *id.as_bytes()).collect::<Vec<_>>())
        .bind(seen_ids.iter().map(|id| seen.stored.contains(id)).collect::<Vec<_>>())
        .bind(i64::try_from(seen.tombstones.len()).unwrap_or(i64::MAX))
        .bind(before.keys)
        .bind(before.current)
        .bind(before.newest_at)
        .bind(before.newest_id)
        .bind(before.deleted_up_to)
        .bind(column(&inserts, |event| *event.id().as_bytes()))
        .bind(column(&inserts, |event| *event.pubkey().as_bytes()))
        .bind(column(&inserts, |event| i32::from(event.kind().0)))
        .bind(column(&inserts, |event| event.created_at()))
        .bind(column(&inserts, |event| event.expires_at()))
        .bind(inserts.iter().map(|event| &**event.text()).collect::<Vec<_>>())
        .bind(column(&inserts, |event| tag_hashes(event, hasher)))
        .bind(entry.gone.iter().map(|key| *key.id.as_bytes()).collect::<Vec<_>>())
        .bind(entry.gone.iter().map(|key| key.created_at).collect::<Vec<_>>())
        .bind(decision.tombstones.iter().map(|(id, _)| *id.as_bytes()).collect::<Vec<_>>())
        .bind(decision.tombstones.iter().map(|(_, requester)| *requester.as_bytes()).collect::<Vec<_>>())
        .bind(after.keys)
        .bind(after.current)
        .bind(after.newest_at)
        .bind(after.newest_id)
        .bind(after.deleted_up_to)
        .bind(entry.ops)
        .bind(entry.ids)
        .bind(entry.created_ats)
        .bind(entry.texts.iter().map(Option::as_deref).collect::<Vec<_>>());

    let row = match query.fetch_one(conn).await {
        Ok(row) => row,
        Err(error) if is_stale(&error) => return Ok(None),
        Err(error) => return Err(translate(error)),
    };

    let number = |at: usize| row.try_get::<i64, _>(at).map(i64::cast_unsigned).map_err(translate);
    let head = Head { epoch: Epoch(number(0)?), position: Position(number(1)?) };
    Ok(Some(Appended { head, outcomes: decision.outcomes, changes: entry.changes }))
}

fn is_stale(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == STALE || code == CAME_IN_MEANWHILE)
}

fn column<T>(events: &[Arc<Event>], value: impl Fn(&Event) -> T) -> Vec<T> {
    events.iter().map(|event| value(event)).collect()
}

/// The event at `place`, if it stays.
fn place_id(place: EventPlace<Key>, inserted: &FxHashSet<EventId>) -> Option<EventId> {
    match place {
        EventPlace::Stored(key) => Some(key.id),
        EventPlace::Batch(id) => Some(id).filter(|id| inserted.contains(id)),
    }
}

/// The distinct hashes of an event's tags as the text of an array: in an array of arrays all would have to have the
/// same length.
fn tag_hashes(event: &Event, hasher: &Hasher) -> String {
    let mut hashes: Vec<i64> = event.tags().iter().map(|tag| hasher.tag(tag.letter, &tag.value)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    let mut text = String::with_capacity(hashes.len() * 21 + 2);
    text.push('{');
    for hash in hashes {
        if text.len() > 1 {
            text.push(',');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{hash}");
    }
    text.push('}');
    text
}
