//! Writing: looks a batch up (`seen`), decides it in memory, and applies the decision by one call of the database
//! function `change`, autocommitted (`change`). The decision is optimistic: under the lock on the head the call checks
//! that what the decision rested on still holds, and fails as stale where it does not. A writer that others have
//! overtaken too often holds them back.
//!
//! Where the head has not moved, nothing has changed, so a lone writer's decisions are never checked twice.
//!
//! # Cancel safety
//! None of these calls may be dropped: the outcome would be unknown, and the connection useless. A lost connection
//! leaves the outcome unknown, too: then call [`append`] again on a new one. What the lost call has committed, or will
//! yet, comes back as a duplicate, and what it has not is stored: an event cannot be stored twice.

mod call;
mod change;
mod seen;
#[cfg(test)]
mod tests;

pub(super) use call::PostgresWrite;

use super::error::translate;
use crate::store::hash::Hasher;
use crate::store::rules::{Address, Decision, DecisionStep, Vanish, barring_keys, decide, key, targets, vanish_floor};
use crate::store::{Appended, StoreError};
use crate::types::{
    Epoch, Event, EventId, Filter, Head, Key, Kind, Position, PublicKey, RemovalCause, Timestamp, Verified,
};
use rustc_hash::FxHashSet;
use seen::Seen;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use std::sync::Arc;

/// How often a decision may be stale before the writer holds all others back.
const OPTIMISTIC_ROUNDS: usize = 3;

/// See [`crate::store::Store::append`]. `epoch` is the one that the caller knows: a promoted standby may not have it,
/// and the new epoch must differ from it all the same.
pub(super) async fn append(
    conn: &mut PgConnection,
    hasher: &Hasher,
    epoch: Epoch,
    batch: &[Verified],
    now: Timestamp,
) -> Result<Appended, StoreError> {
    WriteTask::Append { batch, now }.run_on(conn, hasher, epoch).await
}

/// See [`crate::store::Store::sweep_expired`]. Runs under the lock that orders all writers, so `max` is a few thousand
/// at most.
pub(super) async fn sweep_expired(
    conn: &mut PgConnection,
    hasher: &Hasher,
    epoch: Epoch,
    now: Timestamp,
    max: usize,
) -> Result<Appended, StoreError> {
    WriteTask::Sweep { now, max }.run_on(conn, hasher, epoch).await
}

/// Removes those of the events with these ids that are stored and that `filter` selects, in this order; they may be
/// published again. Checks the filter again, since the page may be older than the stored state. At most a few thousand,
/// as for [`sweep_expired`].
pub(super) async fn remove(
    conn: &mut PgConnection,
    hasher: &Hasher,
    epoch: Epoch,
    ids: &[EventId],
    filter: &Filter,
    cause: RemovalCause,
) -> Result<Appended, StoreError> {
    WriteTask::Remove { ids, filter, cause }.run_on(conn, hasher, epoch).await
}

/// Removes those of the events with these ids that are stored and that `filter` selects, for
/// [`Store::vanish`](crate::store::Store::vanish), and raises the floor where it does not stand yet.
pub(super) async fn vanish(
    conn: &mut PgConnection,
    hasher: &Hasher,
    epoch: Epoch,
    ids: &[EventId],
    filter: &Filter,
    vanish: &Vanish,
) -> Result<Appended, StoreError> {
    WriteTask::Vanish { ids, filter, vanish }.run_on(conn, hasher, epoch).await
}

/// True where the server is a standby, or does not answer. A primary refuses writes as well, where its operator has
/// made it read-only.
pub(super) async fn is_standby(conn: &mut PgConnection) -> bool {
    sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(conn).await.unwrap_or(true)
}

/// The head of a new primary, under an epoch of its own where the server is a promoted standby. Until this, or the
/// first change, a promoted standby still has the old primary's epoch.
pub(super) async fn settle(conn: &mut PgConnection, epoch: Epoch) -> Result<Head, StoreError> {
    let query = sqlx::query("SELECT epoch, position FROM settle($1)").bind(epoch.0.cast_signed());
    let row = query.fetch_one(conn).await.map_err(translate)?;
    let number = |at: usize| row.try_get::<i64, _>(at).map(i64::cast_unsigned).map_err(translate);
    Ok(Head { epoch: Epoch(number(0)?), position: Position(number(1)?) })
}

/// A write.
#[derive(Clone, Copy)]
enum WriteTask<'a> {
    Append { batch: &'a [Verified], now: Timestamp },
    Sweep { now: Timestamp, max: usize },
    Remove { ids: &'a [EventId], filter: &'a Filter, cause: RemovalCause },
    Vanish { ids: &'a [EventId], filter: &'a Filter, vanish: &'a Vanish },
}

impl WriteTask<'_> {
    async fn run_on(self, conn: &mut PgConnection, hasher: &Hasher, epoch: Epoch) -> Result<Appended, StoreError> {
        for _ in 0..OPTIMISTIC_ROUNDS {
            if let Some(done) = self.attempt(conn, hasher, epoch).await? {
                return Ok(done);
            }
        }
        let mut transaction = conn.begin().await.map_err(translate)?;
        sqlx::query("SELECT hold_the_gate()").execute(&mut *transaction).await.map_err(translate)?;
        match self.attempt(&mut transaction, hasher, epoch).await {
            Ok(Some(done)) => transaction.commit().await.map_err(translate).map(|()| done),
            Ok(None) => Err(StoreError::Damaged("stale although nobody else writes".into())),
            Err(error) => Err(error),
        }
    }

    /// Looks up, decides and writes; `None` where the decision was stale.
    async fn attempt(
        self,
        conn: &mut PgConnection,
        hasher: &Hasher,
        epoch: Epoch,
    ) -> Result<Option<Appended>, StoreError> {
        let (seen, decision) = match self {
            Self::Append { batch, now } => {
                let seen = look_up_append(conn, batch).await?;
                let decision = decide(batch, now, seen.known());
                (seen, decision)
            }
            Self::Sweep { now, max } => {
                let events = expired(conn, now, max).await?;
                look_up_removal(conn, events, RemovalCause::Expired, true, None).await?
            }
            Self::Remove { ids, filter, cause } => {
                let events = stored(conn, ids, filter).await?;
                look_up_removal(conn, events, cause, false, None).await?
            }
            Self::Vanish { ids, filter, vanish } => {
                let events = stored(conn, ids, filter).await?;
                look_up_removal(conn, events, RemovalCause::Vanished, false, Some(vanish)).await?
            }
        };

        // A floor alone is written too, at a position of its own: other writers must notice it.
        if decision.steps.is_empty() && decision.addresses.is_empty() {
            return Ok(Some(Appended { head: seen.head, outcomes: decision.outcomes, changes: Vec::new() }));
        }
        change::change(conn, hasher, epoch, &seen, decision).await
    }
}

/// The lookup before a write, for an event that does not exist.
pub(super) async fn look_up_nothing(conn: &mut PgConnection) -> Result<(), StoreError> {
    let id = EventId::from_bytes([0; 32]);
    let address = Address { kind: Kind(0), pubkey: PublicKey::from_bytes([0; 32]), identifier: "".into() };
    Seen::look(conn, vec![id], &[address], &[id]).await.map(drop)
}

/// Looks up what deciding `batch` takes.
async fn look_up_append(conn: &mut PgConnection, batch: &[Verified]) -> Result<Seen, StoreError> {
    let events = || batch.iter().map(|verified| &**verified.event());
    let named: Vec<_> = events().filter(|event| event.kind() == Kind::DELETION).map(targets).collect();
    let wanted: Vec<_> = named.iter().flat_map(|targets| targets.ids.iter().copied()).collect();
    let arriving = events().filter_map(Address::of);
    let asked = named.into_iter().flat_map(|targets| targets.addresses);
    let barring: FxHashSet<_> = events().flat_map(barring_keys).collect();
    let floors = barring.into_iter().map(vanish_floor);
    let addresses: Vec<_> = arriving.chain(asked).chain(floors).collect();
    let ids = events().map(Event::id).chain(wanted.iter().copied()).collect();
    let mut seen = Seen::look(conn, ids, &addresses, &wanted).await?;
    let hit: Vec<_> = seen.targets.values().filter_map(|event| Address::of(event)).collect();
    seen.look_further(conn, hit).await?;
    Ok(seen)
}

/// Those of the events with these ids that are stored and that `filter` selects, in this order.
async fn stored(conn: &mut PgConnection, ids: &[EventId], filter: &Filter) -> Result<Vec<Arc<Event>>, StoreError> {
    let found = Seen::look(conn, Vec::new(), &[], ids).await?;
    let events = ids.iter().filter_map(|id| found.targets.get(id)).filter(|event| filter.matches(event));
    Ok(events.cloned().collect())
}

/// The removal of those of `events` that are still stored. With `floor`, older versions of their addresses stay out.
/// With `vanish`, the floor of that key is raised too.
async fn look_up_removal(
    conn: &mut PgConnection,
    events: Vec<Arc<Event>>,
    cause: RemovalCause,
    floor: bool,
    vanish: Option<&Vanish>,
) -> Result<(Seen, Decision<Key>), StoreError> {
    let ids = events.iter().map(|event| event.id()).collect();
    let addresses: Vec<_> =
        events.iter().filter_map(|event| Address::of(event)).chain(vanish.map(Vanish::floor)).collect();
    let mut seen = Seen::look(conn, ids, &addresses, &[]).await?;

    let mut decision = Decision::default();
    if let Some(vanish) = vanish {
        let mut versions = seen.versions(&vanish.floor());
        if versions.deleted_up_to < Some(vanish.up_to) {
            versions.deleted_up_to = Some(vanish.up_to);
            decision.addresses.push((vanish.floor(), versions));
        }
    }
    for event in events {
        if !seen.stored.contains(&event.id()) {
            continue;
        }
        decision.steps.push(DecisionStep::Remove(key(&event), cause));
        if let Some(address) = Address::of(&event) {
            let mut versions = seen.versions(&address);
            versions.current = None;
            versions.newest = versions.newest.filter(|_| floor);
            decision.addresses.push((address, versions));
        }
        seen.targets.insert(event.id(), event);
    }
    Ok((seen, decision))
}

/// Up to `max` events that have expired by `now`, oldest expiry first.
async fn expired(conn: &mut PgConnection, now: Timestamp, max: usize) -> Result<Vec<Arc<Event>>, StoreError> {
    let query = sqlx::query("SELECT text FROM expired($1, $2)").bind(now).bind(i64::try_from(max).unwrap_or(i64::MAX));
    let rows = query.fetch_all(conn).await.map_err(translate)?;
    rows.iter().map(|row| seen::event(row.try_get(0).map_err(translate)?)).collect()
}
