//! The writer: looks a batch up with a few statements, decides it in memory, and writes the decision with a few more.

use super::bind::add;
use super::error::translate;
use super::lookup::{self, BatchContext};
use super::ord::{SATURATED, id_prefix, ord};
use super::statements::{Script, Statements};
use crate::store::hash::Hasher;
use crate::store::rules::{Address, key};
use crate::store::rules::{Decision, DecisionStep, EventPlace, Vanish, Versions, decide};
use crate::store::{Appended, StoreError};
use crate::types::{Change, Event, EventId, Filter, Head, Insertion, Removal, RemovalCause, Timestamp, Verified};
use rustc_hash::FxHashMap;
use sqlx::sqlite::SqliteConnection;
use std::sync::Arc;

/// The connection that writes, and the state that it need not read back, since nothing else writes.
pub(super) struct Writer {
    pub(super) connection: SqliteConnection,
    pub(super) hasher: Hasher,
    pub(super) head: Head,
    /// The next row numbers: ascending from 1, and descending from -1 for special events, which an index cannot judge
    /// alone.
    pub(super) next_row: i64,
    pub(super) next_special_row: i64,
    pub(super) statements: Statements,
}

impl Writer {
    /// See [`crate::store::Store::append`].
    pub(super) async fn append(&mut self, batch: &[Verified], now: Timestamp) -> Result<Appended, StoreError> {
        let done = self.append_begun(batch, now).await;
        self.end(done).await
    }

    async fn append_begun(&mut self, batch: &[Verified], now: Timestamp) -> Result<Appended, StoreError> {
        let BatchContext { known, removable } = lookup::begin(&mut self.connection, batch).await?;
        self.apply(decide(batch, now, known), |row| removable.event(row)).await
    }

    /// See [`crate::store::Store::sweep_expired`].
    pub(super) async fn sweep_expired(&mut self, now: Timestamp, max: usize) -> Result<Appended, StoreError> {
        self.begin().await?;
        let done = match lookup::expired(&mut self.connection, now, max).await {
            Ok(rows) => self.remove_begun(&rows, RemovalCause::Expired, true, None).await,
            Err(error) => Err(error),
        };
        self.end(done).await
    }

    /// Removes those of the events with these ids that `filter` selects, in this order; they may be published again.
    pub(super) async fn remove(
        &mut self,
        ids: Vec<EventId>,
        filter: &Filter,
        cause: RemovalCause,
    ) -> Result<Appended, StoreError> {
        self.begin().await?;
        let done = match self.rows_to_remove(&ids, filter).await {
            Ok(rows) => self.remove_begun(&rows, cause, false, None).await,
            Err(error) => Err(error),
        };
        self.end(done).await
    }

    /// Removes those of the events with these ids that `filter` selects, for
    /// [`Store::vanish`](crate::store::Store::vanish), and raises the floor where it is lower. Overwrites what it
    /// removes in the file.
    pub(super) async fn vanish(
        &mut self,
        ids: Vec<EventId>,
        filter: &Filter,
        vanish: &Vanish,
    ) -> Result<Appended, StoreError> {
        self.run("PRAGMA secure_delete = ON").await?;
        self.begin().await?;
        let done = self.vanish_begun(&ids, filter, vanish).await;
        let done = self.end(done).await;
        // Left on by an error, it costs writes and nothing else.
        let _ = self.run("PRAGMA secure_delete = OFF").await;
        done
    }

    async fn vanish_begun(
        &mut self,
        ids: &[EventId],
        filter: &Filter,
        vanish: &Vanish,
    ) -> Result<Appended, StoreError> {
        let rows = self.rows_to_remove(ids, filter).await?;
        let floor = vanish.floor();
        let mut versions = lookup::addresses(&mut self.connection, std::iter::once(floor.clone())).await?;
        let mut versions = versions.remove(&floor).unwrap_or_default();
        let raised = (versions.deleted_up_to < Some(vanish.up_to)).then(|| {
            versions.deleted_up_to = Some(vanish.up_to);
            (floor, versions)
        });
        self.remove_begun(&rows, RemovalCause::Vanished, false, raised).await
    }

    /// Those of the events with these ids that `filter` selects, in this order. The filter once more, since a page may
    /// rest on hashes: a collision must not cost an event.
    async fn rows_to_remove(&mut self, ids: &[EventId], filter: &Filter) -> Result<Vec<(i64, Arc<Event>)>, StoreError> {
        let mut found = lookup::targets_by_id(&mut self.connection, &ids.iter().copied().collect()).await?;
        Ok(ids.iter().filter_map(|id| found.remove(id)).filter(|(_, event)| filter.matches(event)).collect())
    }

    /// Removes these rows, and writes the state of one more address that has `changed`. With `floor`, older versions of
    /// the rows' addresses stay out.
    async fn remove_begun(
        &mut self,
        rows: &[(i64, Arc<Event>)],
        cause: RemovalCause,
        floor: bool,
        changed: Option<(Address, Versions<i64>)>,
    ) -> Result<Appended, StoreError> {
        let addresses = rows.iter().filter_map(|(_, event)| Address::of(event));
        let mut known = lookup::addresses(&mut self.connection, addresses).await?;
        for versions in known.values_mut() {
            versions.current = None;
            versions.newest = versions.newest.filter(|_| floor);
        }
        let decision = Decision {
            steps: rows.iter().map(|(row, _)| DecisionStep::Remove(*row, cause)).collect(),
            addresses: known.into_iter().chain(changed).collect(),
            ..Decision::default()
        };
        let events: FxHashMap<_, _> = rows.iter().cloned().collect();
        let event = |row| events.get(&row).cloned().ok_or_else(|| StoreError::Damaged(format!("row {row} is missing")));
        self.apply(decision, event).await
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        self.run("BEGIN IMMEDIATE").await
    }

    /// Takes over what was committed, and rolls back what was not.
    async fn end(&mut self, done: Result<Appended, StoreError>) -> Result<Appended, StoreError> {
        match done {
            Ok(done) if done.head == self.head => {
                self.run("ROLLBACK").await?;
                Ok(done)
            }
            Ok(done) => {
                self.head = done.head;
                for change in &done.changes {
                    if let Change::Inserted(insertion) = change {
                        // At least as far as `assign_rows` has given: the changes include events that were withdrawn
                        // again. A gap in the numbers does no harm.
                        *self.counter(&insertion.event) += if is_special(&insertion.event) { -1 } else { 1 };
                    }
                }
                Ok(done)
            }
            Err(error) => {
                // SQLite may have rolled back by itself; then this fails, and loses nothing.
                let _ = self.run("ROLLBACK").await;
                Err(error)
            }
        }
    }

    fn counter(&mut self, event: &Event) -> &mut i64 {
        if is_special(event) { &mut self.next_special_row } else { &mut self.next_row }
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), StoreError> {
        sqlx::query(sql).execute(&mut self.connection).await.map(drop).map_err(translate)
    }

    /// Writes a decision and commits, in one trip to the connection's thread. Without a change the transaction stays
    /// open. `removed` gives the event of a row that is removed.
    async fn apply(
        &mut self,
        decision: Decision<i64>,
        removed: impl Fn(i64) -> Result<Arc<Event>, StoreError>,
    ) -> Result<Appended, StoreError> {
        let rows = self.assign_rows(&decision.inserts);
        let mut changes = Vec::with_capacity(decision.steps.len());
        let mut gone = Vec::new();

        for step in &decision.steps {
            changes.push(match step {
                DecisionStep::Insert(event) => Change::Inserted(Insertion::new(event.clone())),
                DecisionStep::Withdraw(event, cause) => {
                    Change::Removed(Removal { event: event.clone(), cause: *cause })
                }
                DecisionStep::Remove(row, cause) => {
                    let event = removed(*row)?;
                    gone.push((*row, event.clone()));
                    Change::Removed(Removal { event, cause: *cause })
                }
            });
        }

        // Floors alone are written too, at a position of their own.
        if changes.is_empty() && decision.addresses.is_empty() {
            return Ok(Appended { head: self.head, outcomes: decision.outcomes, changes });
        }
        let head = Head { position: self.head.position.next(), ..self.head };
        let mut script = Script::default();
        self.delete_rows(&gone, &mut script);
        self.insert_events(&decision.inserts, &rows, &mut script);
        self.write_addresses(&decision.addresses, &decision.inserts, &rows, &mut script);
        script.rows(&self.statements.insert_tombstone, &decision.tombstones, |arguments, (id, requester)| {
            add(arguments, &id.as_bytes()[..]);
            add(arguments, &requester.as_bytes()[..]);
        });
        script.one("UPDATE head SET position = ?", |arguments| add(arguments, head.position.0.cast_signed()));
        script.one("COMMIT", |_| ());
        script.run(&mut self.connection).await?;
        Ok(Appended { head, outcomes: decision.outcomes, changes })
    }

    /// The row number of each event. The counters move only after the commit.
    fn assign_rows(&self, events: &[Arc<Event>]) -> Vec<i64> {
        let (mut next, mut special) = (self.next_row, self.next_special_row);
        let give = |event: &Arc<Event>| {
            let (counter, step) = if is_special(event) { (&mut special, -1) } else { (&mut next, 1) };
            let row = *counter;
            *counter += step;
            row
        };
        events.iter().map(give).collect()
    }

    fn insert_events(&self, events: &[Arc<Event>], rows: &[i64], script: &mut Script) {
        let mut tags = Vec::with_capacity(events.len() * 2);
        let pairs: Vec<_> = events.iter().zip(rows).collect();
        script.rows(&self.statements.insert_event, &pairs, |arguments, (event, row)| {
            let ord = ord(key(event));
            add(arguments, **row);
            add(arguments, ord);
            add(arguments, i64::from(event.kind().0));
            add(arguments, self.hasher.author(&event.pubkey()));
            add(arguments, id_prefix(&event.id()));
            add(arguments, event.created_at());
            add(arguments, event.expires_at());
            add(arguments, event.text().clone());
            self.push_tags(event, ord, **row, &mut tags);
        });
        // In the table's order, so that neighbours share a page.
        tags.sort_unstable();
        script.rows(&self.statements.insert_tag, &tags, |arguments, (hash, ord, row, kind)| {
            [*hash, *ord, *row, *kind].into_iter().for_each(|value| add(arguments, value));
        });
    }

    fn push_tags(&self, event: &Event, ord: i64, row: i64, tags: &mut Vec<(i64, i64, i64, i64)>) {
        let kind = i64::from(event.kind().0);
        tags.extend(event.tags().iter().map(|tag| (self.hasher.tag(tag.letter, &tag.value), ord, row, kind)));
    }

    fn delete_rows(&self, gone: &[(i64, Arc<Event>)], script: &mut Script) {
        if gone.is_empty() {
            return;
        }
        let mut tags = Vec::new();
        for (row, event) in gone {
            self.push_tags(event, ord(key(event)), *row, &mut tags);
        }
        tags.sort_unstable();
        tags.dedup();
        script.rows(&self.statements.delete_tag, &tags, |arguments, (hash, ord, row, _)| {
            [*hash, *ord, *row].into_iter().for_each(|value| add(arguments, value));
        });
        script.one("DELETE FROM event WHERE row IN (SELECT value FROM json_each(?))", |arguments| {
            add(arguments, super::bind::json(gone.iter().map(|(row, _)| *row)));
        });
    }

    fn write_addresses(
        &self,
        addresses: &[(Address, Versions<i64>)],
        inserts: &[Arc<Event>],
        rows: &[i64],
        script: &mut Script,
    ) {
        if addresses.is_empty() {
            return;
        }
        let rows: FxHashMap<EventId, i64> = inserts.iter().map(|event| event.id()).zip(rows.iter().copied()).collect();
        script.rows(&self.statements.upsert_address, addresses, |arguments, (address, versions)| {
            let row = versions.current.and_then(|place| match place {
                EventPlace::Stored(row) => Some(row),
                EventPlace::Batch(id) => rows.get(&id).copied(),
            });
            add(arguments, &address.digest()[..]);
            add(arguments, row);
            add(arguments, versions.newest.map(|newest| newest.created_at));
            add(arguments, versions.newest.map(|newest| newest.id.as_bytes().to_vec()));
            add(arguments, versions.deleted_up_to);
        });
    }
}

/// True for special events, which an index cannot judge alone: see the schema.
pub(super) fn is_special(event: &Event) -> bool {
    event.expires_at().is_some() || event.created_at() >= SATURATED
}
