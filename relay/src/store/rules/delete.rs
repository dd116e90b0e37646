//! Deletion requests: what they name, and which events they may delete (NIP-09; NIP-59 for gift wraps).

use super::Address;
use crate::types::{Event, EventId, Kind, PublicKey};

/// The targets of a kind 5. Malformed values are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Its `e` values, in order, each once.
    pub ids: Vec<EventId>,
    /// Its `a` values that are addresses of the requester, in order, each once. They delete every version up to the
    /// request's `created_at`.
    pub addresses: Vec<Address>,
}

/// The targets of `request`, a kind 5.
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

/// The keys whose requests delete `event` by its id: its author and, for a gift wrap, its recipients. Empty where the
/// event is itself a request to delete or to vanish: deleting those does nothing (NIP-09, NIP-62).
pub fn requesters(event: &Event) -> impl Iterator<Item = PublicKey> + '_ {
    let deletable = !matches!(event.kind(), Kind::DELETION | Kind::VANISH);
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
