//! The log's vocabulary: positions, epochs, changes.

use super::{Event, EventId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A place in the log. The first entry has position 1; 0 is the empty log. Positions have no holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The position right after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One life of the log. It changes when a failover may have cut entries off; two epochs are only ever compared for
/// equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Epoch(pub u64);

/// Proof that the matcher has filed a target, to be handed back to the same matcher to take the target out again.
/// It lives here because a subscription, which is a leaf, carries it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "without it the filters can never be removed"]
pub struct Registration(pub(crate) u64);

/// How far a reader of the log has come: a snapshot that carries it holds exactly the log up to `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The life of the log that `position` counts in.
    pub epoch: Epoch,
    /// The last entry that is included.
    pub position: Position,
}

/// One entry of the log: everything that one transaction changed, in order.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// The position of the entry.
    pub position: Position,
    /// What it changed. Empty only when a shared log is read late: everything that it stored is gone since, and the
    /// removals follow.
    pub changes: Arc<[Change]>,
    /// False where such a late read has left insertions out. Then a follower cannot tell of a later removal whether its
    /// event was inserted before.
    pub whole: bool,
    /// Ephemeral events that came among the stored ones. They are in no log and no transaction; the entry carries them
    /// so that they are delivered in the order of arrival. The ring does not keep them.
    pub ephemeral: Vec<EphemeralEvent>,
}

/// An ephemeral event's place among the changes of an entry.
#[derive(Debug, Clone)]
pub struct EphemeralEvent {
    /// It is delivered right before the change of this index; the number of changes: after all of them.
    pub before: usize,
    /// The event.
    pub event: Arc<Event>,
}

impl LogEntry {
    /// An entry with everything that its transaction changed.
    pub fn new(position: Position, changes: impl Into<Arc<[Change]>>) -> Self {
        Self { position, changes: changes.into(), whole: true, ephemeral: Vec::new() }
    }
}

/// What can happen to the set of stored events. Nothing else can: so no reader ever has to guess.
#[derive(Debug, Clone)]
pub enum Change {
    /// An event was stored.
    Inserted(Arc<Insertion>),
    /// A stored event is gone.
    Removed(Removal),
}

/// An event as the log brought it, with the mark that a later removal leaves on it.
#[derive(Debug)]
pub struct Insertion {
    /// The event.
    pub event: Arc<Event>,
    /// When this process learnt of it; told of one event in 16, the same ones for everybody, to measure the fan-out.
    pub learnt_at: Option<Instant>,
    dead: AtomicBool,
}

impl Insertion {
    /// A live insertion.
    pub fn new(event: Arc<Event>) -> Arc<Self> {
        let is_measured = event.id().as_bytes().last().is_some_and(|byte| byte % 16 == 0);
        Arc::new(Self { event, learnt_at: is_measured.then(Instant::now), dead: AtomicBool::new(false) })
    }

    /// Marks the event as removed: a holder must not send it any more.
    pub fn mark_dead(&self) {
        self.dead.store(true, Ordering::Release);
    }

    /// True once a removal of this event was applied.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }
}

/// The removal of one event. It carries the event, since an id alone finds neither cached filters nor cached counts.
#[derive(Debug, Clone)]
pub struct Removal {
    /// What was removed.
    pub event: Arc<Event>,
    /// Why.
    pub cause: RemovalCause,
}

impl Removal {
    /// The id of what was removed.
    pub fn id(&self) -> EventId {
        self.event.id()
    }
}

/// Why an event was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemovalCause {
    /// A newer version of a replaceable or addressable event came (NIP-01).
    Replaced,
    /// Its author, or a gift wrap's recipient, asked for it (NIP-09).
    Deleted,
    /// Its time was up (NIP-40).
    Expired,
    /// The operator removed it.
    Administered,
    /// Its author, or a gift wrap's recipient, has asked this relay to forget everything (NIP-62).
    Vanished,
}
