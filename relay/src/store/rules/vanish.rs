//! Requests to vanish (NIP-62): what they remove, and the floor below which nothing of a key is stored again.

use super::Address;
use crate::types::{Event, EventId, Filter, Kind, PublicKey, TagFilter, Timestamp};

/// How many recipients of a gift wrap are looked at. NIP-59 names one; without a bound, one hostile event costs
/// thousands of look-ups.
const MAX_RECIPIENTS: usize = 16;

/// What one key wants to be gone: its events up to a second, and the gift wraps addressed to it up to then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vanish {
    /// The key.
    pub pubkey: PublicKey,
    /// The last second whose events go.
    pub up_to: Timestamp,
    /// The request itself, which stays: it carries the floor through exports and imports. `None`: the operator's order.
    pub request: Option<EventId>,
}

impl Vanish {
    /// What `event` asks for; `None` where it is no request to vanish. A store only ever gets requests that are meant
    /// for this relay: `policy` refuses the others.
    pub fn of(event: &Event) -> Option<Self> {
        (event.kind() == Kind::VANISH).then(|| Self {
            pubkey: event.pubkey(),
            up_to: event.created_at(),
            request: Some(event.id()),
        })
    }

    /// The filters that together select what goes; the request itself is among it.
    pub fn filters(&self) -> [Filter; 2] {
        let until = Some(self.up_to);
        let wraps = TagFilter { letter: b'p', values: [self.pubkey.to_hex().into_boxed_str()].into() };
        [
            Filter { authors: Some([self.pubkey].into()), until, ..Filter::default() },
            Filter { kinds: Some([Kind::GIFT_WRAP].into()), tags: [wraps].into(), until, ..Filter::default() },
        ]
    }

    /// The address whose deletion mark is the floor of this key. See [`vanish_floor`].
    pub(crate) fn floor(&self) -> Address {
        vanish_floor(self.pubkey)
    }
}

/// Where a store keeps the floor of a key: as the deletion mark of an address that no event can have, for kind 62 is
/// neither replaceable nor addressable. So the floor is looked up, checked against other writers and written by what
/// does this for every address, and needs no table of its own.
pub(crate) fn vanish_floor(pubkey: PublicKey) -> Address {
    Address { kind: Kind::VANISH, pubkey, identifier: "".into() }
}

/// The keys whose vanishing bars `event`: its author and, for a gift wrap, its recipients (the first 16).
pub(crate) fn barring_keys(event: &Event) -> impl Iterator<Item = PublicKey> + '_ {
    let is_wrap = event.kind() == Kind::GIFT_WRAP;
    let recipients = event.tag_values(b'p').take(if is_wrap { MAX_RECIPIENTS } else { 0 });
    std::iter::once(event.pubkey()).chain(recipients.filter_map(|value| PublicKey::from_hex(value.as_bytes()).ok()))
}
