//! Requests to delete: what they name, and whom they may hit (NIP-09; NIP-59 for gift wraps).

use super::Address;
use crate::types::{Event, EventId, Kind, PublicKey};

/// What a kind 5 asks to have deleted. Values that name nothing are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Its `e` values, in order, each once.
    pub ids: Vec<EventId>,
    /// Its `a` values that are the requester's own, in order, each once: every version up to the request's
    /// `created_at`.
    pub addresses: Vec<Address>,
}

/// Reads the targets of `request`, a kind 5.
pub fn targets(request: &Event) -> Targets {
    let mut ids = Vec::new();
    let mut seen_ids = rustc_hash::FxHashSet::default();
    for value in request.tag_values(b'e') {
        if let Ok(id) = EventId::from_hex(value.as_bytes())
            && seen_ids.insert(id)
        {
            ids.push(id);
        }
    }
    let mut addresses = Vec::new();
    let mut seen_addresses = rustc_hash::FxHashSet::default();
    for address in request.tag_values(b'a').filter_map(Address::parse) {
        if address.pubkey == request.pubkey() && seen_addresses.insert(address.clone()) {
            addresses.push(address);
        }
    }
    Targets { ids, addresses }
}

/// Whose request deletes `event` by its id: its author's and, for a gift wrap, its recipients'. Nobody's where it is
/// itself a request to delete, for deleting a deletion does nothing.
pub fn requesters(event: &Event) -> impl Iterator<Item = PublicKey> + '_ {
    let deletable = event.kind() != Kind::DELETION;
    let author = deletable.then_some(event.pubkey());
    let wrap = event.kind() == Kind::GIFT_WRAP;
    let recipients =
        event.tag_values(b'p').filter(move |_| wrap).filter_map(|value| PublicKey::from_hex(value.as_bytes()).ok());
    author.into_iter().chain(recipients)
}

/// True when `requester` may delete `event` by its id.
pub fn may_delete(requester: PublicKey, event: &Event) -> bool {
    requesters(event).any(|allowed| allowed == requester)
}
