//! What travels: identifiers, events, filters, log positions. A leaf: it imports no station.

mod access;
pub(crate) mod bytes;
mod event;
mod filter;
mod hex;
mod id;
pub(crate) mod json;
mod kind;
mod position;
mod row;
pub(crate) mod safeguard;
mod verdict;

pub use access::{Access, PRIVATE_KINDS_DEFAULT, PrivateKinds};
pub use bytes::Damaged;
pub(crate) use event::EventSeed;
pub(crate) use event::LEAST_PACKED_BYTES;
pub use event::{Event, EventError, Tag, Verified};
pub(crate) use filter::FilterSeed;
pub use filter::{Filter, FilterError, TagFilter};
pub use hex::HexError;
pub use id::{EventId, PublicKey};
pub use kind::{Kind, KindClass};
pub use position::{
    Change, EphemeralEvent, Epoch, Head, Insertion, LogEntry, Position, Registration, Removal, RemovalCause,
};
pub(crate) use row::LEAST_PACKED_ROW_BYTES;
pub use row::{Key, Row};
pub use verdict::{EoseHints, Refusal, Reply, ReplyId, SubscriptionId, Verdict};

/// Seconds since 1970 as NIP-01's `created_at` counts them. Never negative on the wire; signed, so that
/// arithmetic around zero and SQL columns need no cast.
pub type Timestamp = i64;

/// The present second on this machine's clock.
pub fn now() -> Timestamp {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX))
}
