//! Who may read what: direct messages and gift wraps go to their recipients only (NIP-17, NIP-59, NIP-42), an
//! application's own data to its author only (NIP-78).

use super::{Event, Filter, Kind, PublicKey};
use smallvec::SmallVec;
use std::sync::Arc;

/// The kinds that only their recipients may read unless the operator says otherwise.
pub const PRIVATE_KINDS_DEFAULT: [Kind; 2] = [Kind::GIFT_WRAP, Kind::EPHEMERAL_GIFT_WRAP];

/// The private kinds, and who may read each: its recipients, or its author alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrivateKinds {
    /// All of them, sorted.
    kinds: Arc<[Kind]>,
    /// Those of them that only their author may read, sorted.
    author_only: Arc<[Kind]>,
}

impl PrivateKinds {
    /// Kinds that only their recipients may read, in any order.
    pub fn new(kinds: Vec<Kind>) -> Self {
        Self { kinds: sorted(kinds), author_only: Arc::default() }
    }

    /// The same with kinds that only their author may read: the stricter rule counts for a kind of both.
    pub fn with_author_only(&self, kinds: Vec<Kind>) -> Self {
        let all = self.kinds.iter().chain(&kinds).copied().collect();
        Self { kinds: sorted(all), author_only: sorted(kinds) }
    }

    /// All private kinds, sorted.
    pub fn as_slice(&self) -> &[Kind] {
        &self.kinds
    }

    /// True when `kind` is one of them.
    pub fn contains(&self, kind: Kind) -> bool {
        self.kinds.binary_search(&kind).is_ok()
    }

    /// True when the keys that an event of this private kind names in `p` tags may read it.
    pub fn serves_recipients(&self, kind: Kind) -> bool {
        self.author_only.binary_search(&kind).is_err()
    }

    /// True when the author of an event of this private kind may read it. The author of a gift wrap is a throw-away key
    /// that must not lead back to anyone.
    pub fn serves_authors(&self, kind: Kind) -> bool {
        !self.serves_recipients(kind) || !matches!(kind, Kind::GIFT_WRAP | Kind::EPHEMERAL_GIFT_WRAP)
    }

    /// The private kinds that their recipients may read.
    pub fn for_recipients(&self) -> impl Iterator<Item = Kind> + '_ {
        self.kinds.iter().copied().filter(|kind| self.serves_recipients(*kind))
    }

    /// The private kinds that their authors may read.
    pub fn for_authors(&self) -> impl Iterator<Item = Kind> + '_ {
        self.kinds.iter().copied().filter(|kind| self.serves_authors(*kind))
    }
}

fn sorted(mut kinds: Vec<Kind>) -> Arc<[Kind]> {
    kinds.sort_unstable();
    kinds.dedup();
    kinds.into()
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
    /// True where the connection has published: then its reads must be as new as the primary.
    pub has_published: bool,
}

impl Access {
    /// True when this reader may be sent `event`.
    pub fn may_read(&self, event: &Event) -> bool {
        let (private, kind) = (&self.private_kinds, event.kind());
        if !private.contains(kind) {
            return true;
        }
        let names = |reader: &PublicKey| {
            event.tag_values(b'p').any(|value| PublicKey::from_hex(value.as_bytes()) == Ok(*reader))
        };
        self.authenticated.iter().any(|reader| {
            (private.serves_authors(kind) && *reader == event.pubkey())
                || (private.serves_recipients(kind) && names(reader))
        })
    }

    /// True when no event that `filter` selects could be private, so a read needs no access clause.
    pub fn unrestricted(&self, filter: &Filter) -> bool {
        match &filter.kinds {
            Some(kinds) => !kinds.iter().any(|kind| self.private_kinds.contains(*kind)),
            None => self.private_kinds.as_slice().is_empty(),
        }
    }

    /// True when this reader may read all events that `filter` selects: none can be private, or all private ones are
    /// the reader's own. Decides by the filter alone, whatever is stored.
    pub fn holds_nothing_back(&self, filter: &Filter) -> bool {
        if self.unrestricted(filter) {
            return true;
        }
        let Some(kinds) = &filter.kinds else { return false };
        let by_reader =
            filter.authors.as_ref().is_some_and(|authors| authors.iter().all(|key| self.authenticated.contains(key)));
        let is_reader =
            |value: &str| PublicKey::from_hex(value.as_bytes()).is_ok_and(|key| self.authenticated.contains(&key));
        let names_reader =
            filter.tags.iter().any(|tag| tag.letter == b'p' && tag.values.iter().all(|value| is_reader(value)));
        let private = &self.private_kinds;
        kinds.iter().filter(|kind| private.contains(**kind)).all(|kind| {
            (by_reader && private.serves_authors(*kind)) || (names_reader && private.serves_recipients(*kind))
        })
    }

    /// True when `filter` asks for a private kind and no key has authenticated: then there may be more events for a
    /// reader who has (NIP-67). A filter without `kinds` does not ask for private events in particular.
    pub fn could_show_more(&self, filter: &Filter) -> bool {
        self.authenticated.is_empty() && filter.kinds.is_some() && !self.unrestricted(filter)
    }

    /// True when every kind that `filter` asks for is private and no key has authenticated: the answer is
    /// `auth-required:` rather than an empty result.
    pub fn needs_authentication(&self, filter: &Filter) -> bool {
        self.authenticated.is_empty()
            && filter.kinds.as_ref().is_some_and(|kinds| kinds.iter().all(|kind| self.private_kinds.contains(*kind)))
    }
}
