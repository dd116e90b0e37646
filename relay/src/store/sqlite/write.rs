//! The one writer: a batch is looked up with a few statements, decided in memory, and written with a few more.

use super::error::translate;
use super::lookup;
use super::ord::{SATURATED, id_prefix, ord};
use super::statements::Statements;
use crate::store::hash::Hasher;
use crate::store::rules::{Address, key};
use crate::store::rules::{Decision, Known, Place, Step, Versions, decide};
use crate::store::{Appended, StoreError};
use crate::types::{
    Change, Event, EventId, Filter, Head, Insertion, Position, Removal, RemovalCause, Timestamp, Verified,
};
use rustc_hash::FxHashMap;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe, Encode, Sqlite, Type};
use std::sync::Arc;

/// The connection that writes, and what it need not ask the database for, since nobody else writes.
pub(super) struct Writer {
    pub(super) connection: SqliteConnection,
    pub(super) hasher: Hasher,
    pub(super) head: Head,
    /// The next rows to give out: ascending from 1, and descending from -1 for events that indexes cannot judge.
    pub(super) next_row: i64,
    pub(super) next_special_row: i64,
    pub(super) statements: Statements,
}

/// What a transaction is going to change.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) decision: Decision<i64>,
    /// The events of the rows that it removes.
    pub(super) removed: FxHashMap<i64, Arc<Event>>,
}

impl Writer {
    /// See [`crate::store::Store::append`].
    pub(super) async fn append(&mut self, batch: &[Verified], now: Timestamp) -> Result<Appended, StoreError> {
        self.begin().await?;
        let done = self.append_begun(batch, now).await;
        self.end(done).await
    }

    async fn append_begun(&mut self, batch: &[Verified], now: Timestamp) -> Result<Appended, StoreError> {
        let known: Known<i64> = lookup::known(&mut self.connection, batch).await?;
        let decision = decide(batch, now, known);
        let rows = decision.steps.iter().filter_map(|step| match step {
            Step::Remove(row, _) => Some(*row),
            _ => None,
        });
        let rows: Vec<i64> = rows.collect();
        let removed = lookup::events(&mut self.connection, &rows).await?;
        self.apply(Plan { decision, removed }).await
    }

    /// See [`crate::store::Store::sweep_expired`].
    pub(super) async fn sweep_expired(&mut self, now: Timestamp, max: usize) -> Result<Appended, StoreError> {
        self.begin().await?;
        let done = match lookup::expired(&mut self.connection, now, max).await {
            Ok(rows) => self.remove_begun(&rows, RemovalCause::Expired, true).await,
            Err(error) => Err(error),
        };
        self.end(done).await
    }

    /// Removes those of the events with these ids that `filter` selects, in this order; nothing keeps them from coming
    /// in again. The filter once more, since a page may rest on hashes: a collision must not cost an event.
    pub(super) async fn remove(
        &mut self,
        ids: Vec<EventId>,
        filter: &Filter,
        cause: RemovalCause,
    ) -> Result<Appended, StoreError> {
        self.begin().await?;
        let done = match lookup::targets_by_id(&mut self.connection, &ids.iter().copied().collect()).await {
            Ok(mut found) => {
                let rows: Vec<_> =
                    ids.iter().filter_map(|id| found.remove(id)).filter(|(_, event)| filter.matches(event)).collect();
                self.remove_begun(&rows, cause, false).await
            }
            Err(error) => Err(error),
        };
        self.end(done).await
    }

    /// Removes these rows. `floor` leaves the mark below which no older version comes back.
    async fn remove_begun(
        &mut self,
        rows: &[(i64, Arc<Event>)],
        cause: RemovalCause,
        floor: bool,
    ) -> Result<Appended, StoreError> {
        let addresses: Vec<_> = rows.iter().filter_map(|(_, event)| Address::of(event)).collect();
        let mut known = lookup::addresses(&mut self.connection, addresses).await?;
        for versions in known.values_mut() {
            versions.current = None;
            versions.newest = versions.newest.filter(|_| floor);
        }
        let decision = Decision {
            steps: rows.iter().map(|(row, _)| Step::Remove(*row, cause)).collect(),
            addresses: known.into_iter().collect(),
            ..Decision::default()
        };
        self.apply(Plan { decision, removed: rows.iter().cloned().collect() }).await
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        self.run("BEGIN IMMEDIATE").await
    }

    /// Commits what succeeded and takes back what did not.
    async fn end(&mut self, done: Result<Appended, StoreError>) -> Result<Appended, StoreError> {
        let done = match done {
            Ok(done) if done.changes.is_empty() => {
                self.run("ROLLBACK").await?;
                return Ok(done);
            }
            Ok(done) => self.run("COMMIT").await.map(|()| done),
            Err(error) => Err(error),
        };
        match done {
            Ok(done) => {
                self.head = done.head;
                for change in &done.changes {
                    if let Change::Inserted(insertion) = change {
                        // At least as far as `give_rows` went; a gap does no harm.
                        *self.counter(&insertion.event) += if is_special(&insertion.event) { -1 } else { 1 };
                    }
                }
                Ok(done)
            }
            Err(error) => {
                // SQLite may have rolled back by itself; then this fails, and nothing is lost by it.
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

    async fn apply(&mut self, plan: Plan) -> Result<Appended, StoreError> {
        let Plan { decision, removed } = plan;
        let rows = self.give_rows(&decision.inserts);
        let mut changes = Vec::with_capacity(decision.steps.len());
        let mut gone = Vec::new();
        for step in &decision.steps {
            changes.push(match step {
                Step::Insert(event) => Change::Inserted(Insertion::new(event.clone())),
                Step::Withdraw(event, cause) => Change::Removed(Removal { event: event.clone(), cause: *cause }),
                Step::Remove(row, cause) => {
                    let event = removed.get(row).ok_or_else(|| StoreError::Damaged(format!("row {row} is missing")))?;
                    gone.push((*row, event.clone()));
                    Change::Removed(Removal { event: event.clone(), cause: *cause })
                }
            });
        }
        if changes.is_empty() {
            return Ok(Appended { head: self.head, outcomes: decision.outcomes, changes });
        }
        self.delete_rows(&gone).await?;
        self.insert_events(&decision.inserts, &rows).await?;
        self.write_addresses(decision.addresses, &decision.inserts, &rows).await?;
        let tombstones = self.statements.insert_tombstone.clone();
        for (sql, piece) in tombstones.pieces(&decision.tombstones) {
            let mut arguments = SqliteArguments::default();
            for (id, requester) in piece {
                add(&mut arguments, &id.as_bytes()[..]);
                add(&mut arguments, &requester.as_bytes()[..]);
            }
            self.execute(sql, arguments).await?;
        }
        let head = Head { position: self.head.position.next(), ..self.head };
        self.write_head(head.position).await?;
        Ok(Appended { head, outcomes: decision.outcomes, changes })
    }

    async fn write_head(&mut self, position: Position) -> Result<(), StoreError> {
        let mut arguments = SqliteArguments::default();
        add(&mut arguments, position.0.cast_signed());
        self.execute(&Arc::from("UPDATE head SET position = ?"), arguments).await
    }

    /// The row of each event. The counters move only after the commit.
    fn give_rows(&self, events: &[Arc<Event>]) -> Vec<i64> {
        let (mut next, mut special) = (self.next_row, self.next_special_row);
        let give = |event: &Arc<Event>| {
            let (counter, step) = if is_special(event) { (&mut special, -1) } else { (&mut next, 1) };
            let row = *counter;
            *counter += step;
            row
        };
        events.iter().map(give).collect()
    }

    async fn insert_events(&mut self, events: &[Arc<Event>], rows: &[i64]) -> Result<(), StoreError> {
        let mut tags = Vec::with_capacity(events.len() * 2);
        let pairs: Vec<_> = events.iter().zip(rows).collect();
        let statement = self.statements.insert_event.clone();
        for (sql, piece) in statement.pieces(&pairs) {
            let mut arguments = SqliteArguments::default();
            arguments.reserve(piece.len() * 8, 0);
            for (event, row) in piece {
                let ord = ord(key(event));
                add(&mut arguments, **row);
                add(&mut arguments, ord);
                add(&mut arguments, i64::from(event.kind().0));
                add(&mut arguments, self.hasher.author(&event.pubkey()));
                add(&mut arguments, id_prefix(&event.id()));
                add(&mut arguments, event.created_at());
                add(&mut arguments, event.expires_at());
                add(&mut arguments, event.text().clone());
                self.push_tags(event, ord, **row, &mut tags);
            }
            self.execute(sql, arguments).await?;
        }
        // In the order of the table: neighbours meet on one page.
        tags.sort_unstable();
        let statement = self.statements.insert_tag.clone();
        for (sql, piece) in statement.pieces(&tags) {
            let mut arguments = SqliteArguments::default();
            arguments.reserve(piece.len() * 4, 0);
            for (hash, ord, row, kind) in piece {
                [*hash, *ord, *row, *kind].into_iter().for_each(|value| add(&mut arguments, value));
            }
            self.execute(sql, arguments).await?;
        }
        Ok(())
    }

    fn push_tags(&self, event: &Event, ord: i64, row: i64, tags: &mut Vec<(i64, i64, i64, i64)>) {
        let kind = i64::from(event.kind().0);
        tags.extend(event.tags().iter().map(|tag| (self.hasher.tag(tag.letter, &tag.value), ord, row, kind)));
    }

    async fn delete_rows(&mut self, gone: &[(i64, Arc<Event>)]) -> Result<(), StoreError> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut tags = Vec::new();
        for (row, event) in gone {
            self.push_tags(event, ord(key(event)), *row, &mut tags);
        }
        tags.sort_unstable();
        tags.dedup();
        let statement = self.statements.delete_tag.clone();
        for (sql, piece) in statement.pieces(&tags) {
            let mut arguments = SqliteArguments::default();
            for (hash, ord, row, _) in piece {
                [*hash, *ord, *row].into_iter().for_each(|value| add(&mut arguments, value));
            }
            self.execute(sql, arguments).await?;
        }
        let mut arguments = SqliteArguments::default();
        add(&mut arguments, super::bind::json(gone.iter().map(|(row, _)| *row)));
        let sql = "DELETE FROM event WHERE row IN (SELECT value FROM json_each(?1))";
        self.execute(&Arc::from(sql), arguments).await
    }

    async fn write_addresses(
        &mut self,
        addresses: Vec<(Address, Versions<i64>)>,
        inserts: &[Arc<Event>],
        rows: &[i64],
    ) -> Result<(), StoreError> {
        if addresses.is_empty() {
            return Ok(());
        }
        let rows: FxHashMap<EventId, i64> = inserts.iter().map(|event| event.id()).zip(rows.iter().copied()).collect();
        let statement = self.statements.upsert_address.clone();
        for (sql, piece) in statement.pieces(&addresses) {
            let mut arguments = SqliteArguments::default();
            for (address, versions) in piece {
                let row = versions.current.and_then(|place| match place {
                    Place::Stored(row) => Some(row),
                    Place::Batch(id) => rows.get(&id).copied(),
                });
                add(&mut arguments, &address.digest()[..]);
                add(&mut arguments, row);
                add(&mut arguments, versions.newest.map(|newest| newest.created_at));
                add(&mut arguments, versions.newest.map(|newest| newest.id.as_bytes().to_vec()));
                add(&mut arguments, versions.deleted_up_to);
            }
            self.execute(sql, arguments).await?;
        }
        Ok(())
    }

    async fn execute(&mut self, sql: &Arc<str>, arguments: SqliteArguments) -> Result<(), StoreError> {
        let query = sqlx::query_with(AssertSqlSafe(sql.clone()), arguments);
        query.execute(&mut self.connection).await.map(drop).map_err(translate)
    }
}

/// True for events that an index alone cannot judge: see the schema.
pub(super) fn is_special(event: &Event) -> bool {
    event.expires_at().is_some() || event.created_at() >= SATURATED
}

/// Adds a value. That fails only for values that cannot be encoded, which integers, texts and blobs always can.
pub(super) fn add<'a>(arguments: &mut SqliteArguments, value: impl Encode<'a, Sqlite> + Type<Sqlite>) {
    let _ = arguments.add(value);
}
