//! Who may read what: direct messages and gift wraps go to their recipients only (NIP-17, NIP-59, NIP-42).

use super::{Event, Filter, Kind, PublicKey};
use smallvec::SmallVec;
use std::sync::Arc;

/// The kinds that only their recipients may read unless the operator says otherwise.
pub const PRIVATE_KINDS_DEFAULT: [Kind; 2] = [Kind::GIFT_WRAP, Kind::EPHEMERAL_GIFT_WRAP];

/// The kinds that are served to authenticated recipients only; sorted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrivateKinds(Arc<[Kind]>);

impl PrivateKinds {
    /// Takes the kinds in any order.
    pub fn new(mut kinds: Vec<Kind>) -> Self {
        kinds.sort_unstable();
        kinds.dedup();
        Self(kinds.into())
    }

    /// The kinds, sorted.
    pub fn as_slice(&self) -> &[Kind] {
        &self.0
    }

    /// True when `kind` is one of them.
    pub fn contains(&self, kind: Kind) -> bool {
        self.0.binary_search(&kind).is_ok()
    }
}

impl Default for PrivateKinds {
    fn default() -> Self {
        Self::new(PRIVATE_KINDS_DEFAULT.to_vec())
    }
}

/// What one connection may read: the keys it has proved (NIP-42) and the kinds that ask for such a proof.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Every pubkey that authenticated on this connection.
    pub authenticated: SmallVec<[PublicKey; 1]>,
    /// The kinds that are private on this relay.
    pub private_kinds: PrivateKinds,
    /// It has published: what it then reads is to be as new as what the primary has.
    pub has_published: bool,
}

impl Access {
    /// True when this reader may be sent `event`.
    pub fn may_read(&self, event: &Event) -> bool {
        if !self.private_kinds.contains(event.kind()) {
            return true;
        }
        self.authenticated.iter().any(|reader| {
            (authors_may_read(event.kind()) && *reader == event.pubkey())
                || event.tag_values(b'p').any(|value| PublicKey::from_hex(value.as_bytes()) == Ok(*reader))
        })
    }

    /// True when no event that `filter` selects could be private, so a read needs no access clause.
    pub fn unrestricted(&self, filter: &Filter) -> bool {
        match &filter.kinds {
            Some(kinds) => !kinds.iter().any(|kind| self.private_kinds.contains(*kind)),
            None => self.private_kinds.as_slice().is_empty(),
        }
    }

    /// True when every kind that `filter` asks for is private and nobody has authenticated: the answer is
    /// `auth-required:` rather than an empty result.
    pub fn needs_authentication(&self, filter: &Filter) -> bool {
        self.authenticated.is_empty()
            && filter.kinds.as_ref().is_some_and(|kinds| kinds.iter().all(|kind| self.private_kinds.contains(*kind)))
    }
}

/// A gift wrap's author is a throw-away key that must not lead back to anyone; every other private kind may be
/// read by the one who wrote it.
pub const fn authors_may_read(kind: Kind) -> bool {
    !matches!(kind, Kind::GIFT_WRAP | Kind::EPHEMERAL_GIFT_WRAP)
}
