//! What a decision rests on, as it was read.

use crate::store::StoreError;
use crate::store::postgres::error::translate;
use crate::store::rules::{Address, EventPlace, Known, Versions};
use crate::types::{Epoch, Event, EventId, Head, Key, Position, PublicKey};
use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use std::sync::Arc;

/// The state that was read. [`change`](super::change::change) has it checked under the lock.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The head as of which the state holds.
    pub(super) head: Head,
    /// The ids that were looked up, ascending, each once.
    pub(super) ids: Vec<EventId>,
    /// The stored ones of those ids.
    pub(super) stored: FxHashSet<EventId>,
    /// The tombstones of `ids`.
    pub(super) tombstones: FxHashSet<(EventId, PublicKey)>,
    /// Every address that was looked up, whether the database has it or not.
    pub(super) addresses: FxHashMap<Address, Versions<Key>>,
    /// The stored events that were looked up by id.
    pub(super) targets: FxHashMap<EventId, Arc<Event>>,
    /// The texts of the addresses' current versions.
    pub(super) texts: FxHashMap<EventId, String>,
}

impl Seen {
    /// Looks up `ids`, `addresses` and the texts of `targets`, in one snapshot.
    pub(super) async fn look(
        conn: &mut PgConnection,
        mut ids: Vec<EventId>,
        addresses: &[Address],
        targets: &[EventId],
    ) -> Result<Self, StoreError> {
        ids.sort_unstable();
        ids.dedup();
        let mut seen = Self { ids, ..Self::default() };
        let head = seen.fill(conn, true, addresses, targets).await?;
        seen.head = head;
        Ok(seen)
    }

    /// Looks up those of `addresses` that are not there yet. This may be a later snapshot; `head` stays the first
    /// one's, so any change in between makes the writer check everything.
    pub(super) async fn look_further(
        &mut self,
        conn: &mut PgConnection,
        mut addresses: Vec<Address>,
    ) -> Result<(), StoreError> {
        addresses.retain(|address| !self.addresses.contains_key(address));
        if !addresses.is_empty() {
            self.fill(conn, false, &addresses, &[]).await?;
        }
        Ok(())
    }

    async fn fill(
        &mut self,
        conn: &mut PgConnection,
        with_ids: bool,
        addresses: &[Address],
        targets: &[EventId],
    ) -> Result<Head, StoreError> {
        let ids: Vec<&[u8]> = self.ids.iter().filter(|_| with_ids).map(|id| &id.as_bytes()[..]).collect();
        let keys: FxHashMap<[u8; 16], &Address> = addresses.iter().map(|address| (address.digest(), address)).collect();
        let asked: Vec<&[u8]> = keys.keys().map(|key| &key[..]).collect();
        let targets: Vec<&[u8]> = targets.iter().map(|id| &id.as_bytes()[..]).collect();
        let query = sqlx::query("SELECT what, a, b, c, x, y, text FROM known($1, $2, $3)");
        let rows = query.bind(&ids).bind(&asked).bind(&targets).fetch_all(conn).await.map_err(translate)?;

        for address in addresses {
            self.addresses.insert(address.clone(), Versions::default());
        }

        let mut head = Head::default();
        for row in &rows {
            match row.try_get::<i16, _>(0).map_err(translate)? {
                0 => {
                    let number = |at| row.try_get::<i64, _>(at).map(i64::cast_unsigned).map_err(translate);
                    head = Head { epoch: Epoch(number(4)?), position: Position(number(5)?) };
                }
                1 => drop(self.stored.insert(EventId::from_bytes(row.try_get(1).map_err(translate)?))),
                2 => {
                    let requester = PublicKey::from_bytes(row.try_get(2).map_err(translate)?);
                    self.tombstones.insert((EventId::from_bytes(row.try_get(1).map_err(translate)?), requester));
                }
                3 => {
                    let (key, versions) = versions(row).map_err(translate)?;
                    if let Some(address) = keys.get(&key) {
                        let text: Option<String> = row.try_get(6).map_err(translate)?;
                        self.texts.extend(versions.newest.map(|newest| newest.id).zip(text));
                        self.addresses.insert((*address).clone(), versions);
                    }
                }
                _ => {
                    let event = event(row.try_get(6).map_err(translate)?)?;
                    self.targets.insert(event.id(), event);
                }
            }
        }
        Ok(head)
    }

    /// The state in the form that `decide` takes.
    pub(super) fn known(&self) -> Known<Key> {
        let target = |(id, event): (&EventId, &Arc<Event>)| (*id, (crate::store::rules::key(event), event.clone()));
        Known {
            ids: self.stored.clone(),
            targets: self.targets.iter().map(target).collect(),
            addresses: self.addresses.clone(),
            tombstones: self.tombstones.clone(),
        }
    }

    /// The state of an address that was looked up.
    pub(super) fn versions(&self, address: &Address) -> Versions<Key> {
        self.addresses.get(address).cloned().unwrap_or_default()
    }

    /// A stored event that the decision removes.
    pub(super) fn event(&self, id: EventId) -> Result<Arc<Event>, StoreError> {
        match (self.targets.get(&id), self.texts.get(&id)) {
            (Some(event), _) => Ok(event.clone()),
            (None, Some(text)) => event(text),
            (None, None) => Err(StoreError::Damaged(format!("event {id} is missing"))),
        }
    }
}

/// Parses a stored text.
pub(super) fn event(text: &str) -> Result<Arc<Event>, StoreError> {
    Event::from_stored(text).map(Arc::new).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// Reads a row of the table `address`.
fn versions(row: &PgRow) -> Result<([u8; 16], Versions<Key>), sqlx::Error> {
    let id: Option<[u8; 32]> = row.try_get(3)?;
    let created_at: Option<i64> = row.try_get(4)?;
    let newest = created_at.zip(id).map(|(created_at, id)| Key { created_at, id: EventId::from_bytes(id) });
    let current: Option<[u8; 32]> = row.try_get(2)?;
    // The stored event is the newest version: all others were replaced.
    let current = newest.filter(|newest| current.is_some_and(|id| id == *newest.id.as_bytes())).map(EventPlace::Stored);
    Ok((row.try_get(1)?, Versions { current, newest, deleted_up_to: row.try_get(5)? }))
}
