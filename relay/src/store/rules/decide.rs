//! Decides what a batch does from what the database says about it: pure, in the batch's order, for any mixture of
//! duplicates, versions and deletions. `R` is a store's reference to a stored event.

use super::{Address, Vanish, barring_keys, key, may_delete, requesters, supersedes, targets, vanish_floor};
use crate::store::Outcome;
use crate::types::{Event, EventId, Key, Kind, PublicKey, RemovalCause, Timestamp, Verified};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// What the database has about the batch; while the batch is being decided, what it will have.
#[derive(Debug)]
pub(crate) struct Known<R> {
    /// The stored ones of the batch's ids.
    pub(crate) ids: FxHashSet<EventId>,
    /// The stored events that the batch's deletions name by id, with the store's references.
    pub(crate) targets: FxHashMap<EventId, (R, Arc<Event>)>,
    /// Every address that the batch, its deletions or their targets concern, and the floors of vanished keys among
    /// them.
    pub(crate) addresses: FxHashMap<Address, Versions<R>>,
    /// The tombstones of the batch's ids.
    pub(crate) tombstones: FxHashSet<(EventId, PublicKey)>,
}

/// The state of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Versions<R> {
    /// The current version, if there is one.
    pub(crate) current: Option<EventPlace<R>>,
    /// The key of the current version, or of the one that was deleted or has expired: no older version comes in.
    pub(crate) newest: Option<Key>,
    /// The author has deleted the versions up to this second.
    pub(crate) deleted_up_to: Option<Timestamp>,
}

impl<R> Default for Versions<R> {
    fn default() -> Self {
        Self { current: None, newest: None, deleted_up_to: None }
    }
}

/// Where an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventPlace<R> {
    /// In the store.
    Stored(R),
    /// Earlier in this batch.
    Batch(EventId),
}

/// One change, in order.
#[derive(Debug, Clone)]
pub(crate) enum DecisionStep<R> {
    /// The event is stored.
    Insert(Arc<Event>),
    /// The event came earlier in this batch, and is removed again.
    Withdraw(Arc<Event>, RemovalCause),
    /// The stored event is removed.
    Remove(R, RemovalCause),
}

/// What to write.
#[derive(Debug)]
pub(crate) struct Decision<R> {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) steps: Vec<DecisionStep<R>>,
    /// Tombstones to write; some may be stored already.
    pub(crate) tombstones: Vec<(EventId, PublicKey)>,
    /// The final state of each address that changed.
    pub(crate) addresses: Vec<(Address, Versions<R>)>,
    /// The events of this batch that stay.
    pub(crate) inserts: Vec<Arc<Event>>,
}

impl<R> Default for Known<R> {
    fn default() -> Self {
        Self {
            ids: FxHashSet::default(),
            targets: FxHashMap::default(),
            addresses: FxHashMap::default(),
            tombstones: FxHashSet::default(),
        }
    }
}

impl<R> Default for Decision<R> {
    fn default() -> Self {
        Self {
            outcomes: Vec::new(),
            steps: Vec::new(),
            tombstones: Vec::new(),
            addresses: Vec::new(),
            inserts: Vec::new(),
        }
    }
}

/// Decides the batch, in order.
pub(crate) fn decide<R: Copy>(batch: &[Verified], now: Timestamp, known: Known<R>) -> Decision<R> {
    let mut state =
        BatchState { known, pending: FxHashMap::default(), changed: FxHashSet::default(), done: Decision::default() };
    for verified in batch {
        let outcome = state.take(verified.event(), now);
        state.done.outcomes.push(outcome);
    }

    let BatchState { mut known, pending, changed, mut done } = state;
    for step in &done.steps {
        // An event is withdrawn at most once: what was deleted or replaced does not come in again.
        if let DecisionStep::Insert(event) = step
            && pending.contains_key(&event.id())
        {
            done.inserts.push(event.clone());
        }
    }
    done.addresses.extend(changed.into_iter().filter_map(|address| known.addresses.remove_entry(&address)));
    done
}

struct BatchState<R> {
    known: Known<R>,
    /// What this batch has stored and not removed again.
    pending: FxHashMap<EventId, Arc<Event>>,
    changed: FxHashSet<Address>,
    done: Decision<R>,
}

impl<R: Copy> BatchState<R> {
    fn take(&mut self, event: &Arc<Event>, now: Timestamp) -> Outcome {
        let id = event.id();

        if event.is_expired(now) {
            return Outcome::Expired;
        }
        if self.known.ids.contains(&id) || self.pending.contains_key(&id) {
            return Outcome::Duplicate;
        }
        if self.is_below_a_floor(event) {
            return Outcome::Vanished;
        }
        if !self.known.tombstones.is_empty()
            && requesters(event).any(|requester| self.known.tombstones.contains(&(id, requester)))
        {
            return Outcome::Deleted;
        }

        if let Some(address) = Address::of(event) {
            let versions = self.known.addresses.entry(address.clone()).or_default();
            if versions.deleted_up_to.is_some_and(|up_to| event.created_at() <= up_to) {
                return Outcome::Deleted;
            }
            if versions.newest.is_some_and(|newest| !supersedes(key(event), newest)) {
                return Outcome::Superseded;
            }
            let replaced = versions.current.replace(EventPlace::Batch(id)).zip(versions.newest.replace(key(event)));
            self.changed.insert(address);
            if let Some((place, key)) = replaced {
                self.remove(place, key.id, RemovalCause::Replaced);
            }
        }

        self.pending.insert(id, event.clone());
        self.done.steps.push(DecisionStep::Insert(event.clone()));
        if event.kind() == Kind::DELETION {
            self.delete(event);
        }
        if let Some(vanish) = Vanish::of(event) {
            self.raise_floor(&vanish);
        }
        Outcome::Stored
    }

    /// True where the author, or a gift wrap's recipient, has vanished and the event is not newer than that (NIP-62).
    fn is_below_a_floor(&self, event: &Event) -> bool {
        let floor = |pubkey| self.known.addresses.get(&vanish_floor(pubkey))?.deleted_up_to;
        barring_keys(event).filter_map(floor).any(|floor| event.created_at() <= floor)
    }

    /// The floor stands in the request's own transaction; what lies below it is removed in batches afterwards.
    fn raise_floor(&mut self, vanish: &Vanish) {
        let floor = vanish.floor();
        let versions = self.known.addresses.entry(floor.clone()).or_default();
        versions.deleted_up_to = versions.deleted_up_to.max(Some(vanish.up_to));
        self.changed.insert(floor);
    }

    fn delete(&mut self, request: &Event) {
        let requester = request.pubkey();
        let named = targets(request);
        for id in named.ids {
            self.known.tombstones.insert((id, requester));
            self.done.tombstones.push((id, requester));
            let (place, event) = match (self.pending.get(&id), self.known.targets.get(&id)) {
                (Some(event), _) => (EventPlace::Batch(id), event.clone()),
                (None, Some((row, event))) => (EventPlace::Stored(*row), event.clone()),
                (None, None) => continue,
            };

            if !may_delete(requester, &event) {
                continue;
            }
            if let Some(address) = Address::of(&event) {
                // The target is the current version; its key stays as the floor, below which nothing comes in.
                self.known.addresses.entry(address.clone()).or_default().current = None;
                self.changed.insert(address);
            }
            self.remove(place, id, RemovalCause::Deleted);
        }
        for address in named.addresses {
            let versions = self.known.addresses.entry(address.clone()).or_default();
            versions.deleted_up_to = versions.deleted_up_to.max(Some(request.created_at()));
            let hit = versions.newest.filter(|newest| newest.created_at <= request.created_at());
            let removed = hit.and_then(|newest| versions.current.take().map(|place| (place, newest.id)));
            self.changed.insert(address);
            if let Some((place, id)) = removed {
                self.remove(place, id, RemovalCause::Deleted);
            }
        }
    }

    fn remove(&mut self, place: EventPlace<R>, id: EventId, cause: RemovalCause) {
        match place {
            EventPlace::Stored(row) => {
                self.known.ids.remove(&id);
                self.known.targets.remove(&id);
                self.done.steps.push(DecisionStep::Remove(row, cause));
            }
            EventPlace::Batch(id) => {
                if let Some(event) = self.pending.remove(&id) {
                    self.done.steps.push(DecisionStep::Withdraw(event, cause));
                }
            }
        }
    }
}
