//! A naive store in memory: the oracle that the tests compare every other store with. It walks all its events for every
//! call, so that it is simple enough to be right. Dropping it loses everything.

use super::rules::{self, Address, Vanish, key, supersedes};
use super::{Appended, Counted, Outcome, Page, Read, Store, StoreError};
use crate::types::{
    Access, Change, Epoch, Event, EventId, Filter, Head, Insertion, Key, Kind, Position, PublicKey, Removal,
    RemovalCause, Row, Timestamp, Verified, now,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The oracle; see the module.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    closed: bool,
    position: Position,
    /// In the order of arrival.
    events: Vec<Arc<Event>>,
    tombstones: HashSet<(EventId, PublicKey)>,
    /// Versions of the address up to this second are deleted.
    address_tombstones: HashMap<Address, Timestamp>,
    /// The second up to which each key has vanished.
    vanished: HashMap<PublicKey, Timestamp>,
    /// The version of the address that was deleted or has expired: no older one comes back.
    floors: HashMap<Address, Key>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Contents) -> T) -> Result<T, StoreError> {
        let mut state = self.state.lock();
        if state.closed { Err(StoreError::Closed) } else { Ok(act(&mut state)) }
    }
}

impl Contents {
    fn head(&self) -> Head {
        Head { epoch: Epoch(1), position: self.position }
    }

    fn append_one(&mut self, event: &Arc<Event>, now: Timestamp, changes: &mut Vec<Change>) -> Outcome {
        if event.is_expired(now) {
            return Outcome::Expired;
        }
        if self.events.iter().any(|stored| stored.id() == event.id()) {
            return Outcome::Duplicate;
        }
        if rules::barring_keys(event)
            .any(|key| self.vanished.get(&key).is_some_and(|up_to| event.created_at() <= *up_to))
        {
            return Outcome::Vanished;
        }
        if rules::requesters(event).any(|requester| self.tombstones.contains(&(event.id(), requester))) {
            return Outcome::Deleted;
        }

        if let Some(address) = Address::of(event) {
            if self.address_tombstones.get(&address).is_some_and(|up_to| event.created_at() <= *up_to) {
                return Outcome::Deleted;
            }
            if self.floors.get(&address).is_some_and(|floor| !supersedes(key(event), *floor)) {
                return Outcome::Superseded;
            }
            let current = self.events.iter().find(|stored| Address::of(stored).as_ref() == Some(&address)).cloned();
            if let Some(current) = current {
                if !supersedes(key(event), key(&current)) {
                    return Outcome::Superseded;
                }
                self.remove_one(&current, RemovalCause::Replaced, changes);
            }
        }

        self.events.push(event.clone());
        changes.push(Change::Inserted(Insertion::new(event.clone())));
        if event.kind() == Kind::DELETION {
            self.delete(event, changes);
        }
        if let Some(vanish) = Vanish::of(event) {
            self.raise_floor(&vanish);
        }
        Outcome::Stored
    }

    fn raise_floor(&mut self, vanish: &Vanish) {
        let floor = self.vanished.entry(vanish.pubkey).or_insert(vanish.up_to);
        *floor = vanish.up_to.max(*floor);
    }

    fn delete(&mut self, request: &Event, changes: &mut Vec<Change>) {
        let targets = rules::targets(request);
        for id in targets.ids {
            self.tombstones.insert((id, request.pubkey()));
            let stored = self.events.iter().find(|stored| stored.id() == id).cloned();
            if let Some(stored) = stored.filter(|stored| rules::may_delete(request.pubkey(), stored)) {
                self.remove_one(&stored, RemovalCause::Deleted, changes);
            }
        }
        for address in targets.addresses {
            let stored = self.events.iter().find(|stored| Address::of(stored).as_ref() == Some(&address)).cloned();
            let up_to = self.address_tombstones.entry(address).or_insert(Timestamp::MIN);
            *up_to = request.created_at().max(*up_to);
            if let Some(stored) = stored.filter(|stored| stored.created_at() <= request.created_at()) {
                self.remove_one(&stored, RemovalCause::Deleted, changes);
            }
        }
    }

    fn remove_one(&mut self, event: &Arc<Event>, cause: RemovalCause, changes: &mut Vec<Change>) {
        self.events.retain(|stored| stored.id() != event.id());
        if let Some(address) = Address::of(event) {
            match cause {
                RemovalCause::Deleted | RemovalCause::Expired => {
                    let floor = self.floors.entry(address).or_insert(key(event));
                    if supersedes(key(event), *floor) {
                        *floor = key(event);
                    }
                }
                // The operator's removal leaves no trace: the event may be published again.
                RemovalCause::Administered => drop(self.floors.remove(&address)),
                RemovalCause::Replaced | RemovalCause::Vanished => {}
            }
        }
        changes.push(Change::Removed(Removal { event: event.clone(), cause }));
    }

    fn commit(&mut self, outcomes: Vec<Outcome>, changes: Vec<Change>) -> Appended {
        if !changes.is_empty() {
            self.position = self.position.next();
        }
        Appended { head: self.head(), outcomes, changes }
    }

    /// Everything that `filter` selects, newest first, ties by lowest id.
    fn select(&self, filter: &Filter, access: Option<&Access>, now: Timestamp) -> Vec<&Arc<Event>> {
        let mut found: Vec<_> = self
            .events
            .iter()
            .filter(|event| filter.matches(event) && !event.is_expired(now))
            .filter(|event| access.is_none_or(|access| access.may_read(event)))
            .collect();
        found.sort_by_key(|event| key(event).order());
        found
    }

    fn read(&self, read: &Read<'_>) -> Page {
        let mut found = self.select(read.filter, read.access, read.now);
        found.retain(|event| read.after.is_none_or(|after| key(event).order() > after.order()));
        let complete = found.len() <= read.limit;
        found.truncate(read.limit);
        let (mut rows, mut rest, mut bytes) = (Vec::new(), Vec::new(), 0);
        for event in found {
            if bytes > read.max_text_bytes {
                rest.push(key(event));
            } else {
                bytes += event.text().len();
                rows.push(Row::from(&**event));
            }
        }
        Page { rows, rest, head: self.head(), complete }
    }
}

impl Store for MemoryStore {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        ready(self.with(|state| state.head())).boxed()
    }

    fn known<'a>(
        &'a self,
        ids: &'a [EventId],
        _at_least: Position,
    ) -> BoxFuture<'a, Result<(Vec<bool>, Head), StoreError>> {
        let known = |id: &EventId, state: &Contents| state.events.iter().any(|event| event.id() == *id);
        ready(self.with(|state| (ids.iter().map(|id| known(id, state)).collect(), state.head()))).boxed()
    }

    fn append(&self, batch: Vec<Verified>, now: Timestamp) -> BoxFuture<'_, Result<Appended, StoreError>> {
        ready(self.with(|state| {
            let mut changes = Vec::new();
            let outcomes = batch.iter().map(|verified| state.append_one(verified.event(), now, &mut changes)).collect();
            state.commit(outcomes, changes)
        }))
        .boxed()
    }

    fn read<'a>(&'a self, read: &'a Read<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        ready(self.with(|state| state.read(read))).boxed()
    }

    fn fetch<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        ready(self.with(|state| {
            state.events.iter().filter(|event| ids.contains(&event.id())).map(|event| Row::from(&**event)).collect()
        }))
        .boxed()
    }

    fn count<'a>(
        &'a self,
        filters: &'a [Filter],
        access: &'a Access,
        _at_least: Position,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Counted, StoreError>> {
        ready(self.with(|state| {
            let selected = filters.iter().flat_map(|filter| state.select(filter, Some(access), now));
            let distinct: HashMap<EventId, &Arc<Event>> = selected.map(|event| (event.id(), event)).collect();
            Counted {
                number: distinct.len() as u64,
                head: state.head(),
                expires_at: distinct.values().filter_map(|event| event.expires_at()).min(),
            }
        }))
        .boxed()
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StoreError>> {
        ready(Ok(now())).boxed()
    }

    fn sweep_expired(&self, now: Timestamp, max: usize) -> BoxFuture<'_, Result<Appended, StoreError>> {
        ready(self.with(|state| {
            let mut expired: Vec<_> = state.events.iter().filter(|event| event.is_expired(now)).cloned().collect();
            expired.sort_by_key(|event| event.expires_at());
            expired.truncate(max);
            let mut changes = Vec::new();
            for event in expired {
                state.remove_one(&event, RemovalCause::Expired, &mut changes);
            }
            state.commit(Vec::new(), changes)
        }))
        .boxed()
    }

    fn remove<'a>(&'a self, filter: &'a Filter, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        ready(self.with(|state| {
            let found = state.select(filter, None, Timestamp::MIN).into_iter().take(max).cloned().collect::<Vec<_>>();
            let mut changes = Vec::new();
            for event in found {
                state.remove_one(&event, RemovalCause::Administered, &mut changes);
            }
            state.commit(Vec::new(), changes)
        }))
        .boxed()
    }

    fn vanish<'a>(&'a self, vanish: &'a Vanish, max: usize) -> BoxFuture<'a, Result<Appended, StoreError>> {
        ready(self.with(|state| {
            state.raise_floor(vanish);
            let goes = |event: &&Arc<Event>| {
                Some(event.id()) != vanish.request && vanish.filters().iter().any(|filter| filter.matches(event))
            };
            let found: Vec<_> = state.events.iter().filter(goes).take(max).cloned().collect();
            let mut changes = Vec::new();
            for event in found {
                state.remove_one(&event, RemovalCause::Vanished, &mut changes);
            }
            state.commit(Vec::new(), changes)
        }))
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.state.lock().closed = true;
        ready(()).boxed()
    }
}
