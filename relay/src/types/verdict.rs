//! What the relay decided about something a client sent. The words for it are in `message::words` alone.

use super::{EventId, Kind, Timestamp};

/// What became of an EVENT: the content of its OK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is durably stored, or, if ephemeral, was passed on. OK true, no words.
    Accepted,
    /// It was stored, or if ephemeral passed on, before. OK true, `duplicate:`.
    Duplicate,
    /// It was not taken. OK false.
    Refused(Refusal),
}

/// Why an EVENT, REQ, COUNT or AUTH was refused. One variant a reason, so that metrics can count them by
/// [`Refusal::reason`] and `message::words` can find the NIP-01 prefix and the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The JSON is not what the protocol asks for; says what and where, for a person.
    Invalid(String),
    /// Well-formed, but this relay does not do it (an unknown filter key, say).
    Unsupported(String),
    /// The id is not the hash of the content.
    WrongId,
    /// The signature does not hold.
    WrongSignature,
    /// More bytes than a message may have.
    MessageTooLarge {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// More tags than an event may have.
    TooManyTags {
        /// The limit.
        max: u32,
    },
    /// A content longer than allowed.
    ContentTooLong {
        /// The limit in Unicode characters.
        max_chars: u32,
    },
    /// `created_at` is too far in the past.
    TooOld {
        /// The greatest age that is taken.
        max_age_seconds: u64,
    },
    /// `created_at` is too far in the future.
    TooNew {
        /// The greatest lead over this relay's clock that is taken.
        max_ahead_seconds: u64,
    },
    /// It has expired (NIP-40).
    Expired {
        /// Since when.
        at: Timestamp,
    },
    /// Too little proof of work (NIP-13).
    ProofOfWork {
        /// The bits that are asked for.
        min_bits: u8,
        /// The bits that count: the lesser of what was done and what was committed to.
        found_bits: u8,
    },
    /// A newer version of the same replaceable or addressable event is stored, or was deleted (NIP-01).
    Superseded,
    /// Its author, or the recipient of a gift wrap, has deleted it (NIP-09).
    Deleted,
    /// Its author, or the recipient of a gift wrap, has asked this relay to forget everything up to then (NIP-62).
    Vanished,
    /// A request to vanish that is not meant for this relay (NIP-62).
    VanishElsewhere,
    /// The operator's lists do not let this author write.
    AuthorBlocked,
    /// The operator's lists refuse this kind.
    KindBlocked(Kind),
    /// A NIP-70 event from a client that has not authenticated: it may be the author's.
    ProtectedNeedsAuthentication,
    /// A NIP-70 event from a client that has authenticated as another author.
    ProtectedNotAuthor,
    /// A repost whose content embeds a NIP-70 event.
    ProtectedEmbedded,
    /// This relay wants to know its writers (NIP-42).
    WriteNeedsAuthentication,
    /// This relay wants to know its readers (NIP-42).
    ReadNeedsAuthentication,
    /// What was asked for is served only to its recipients (NIP-17, NIP-59) or its author (NIP-78).
    PrivateNeedsAuthentication,
    /// A kind 22242 handed in as EVENT: it belongs into AUTH and is never stored.
    AuthenticationAsEvent,
    /// The AUTH event does not answer this relay's challenge; says why.
    WrongAuthentication(String),
    /// More messages than this client may send in its time.
    RateLimited,
    /// The filters of one REQ or COUNT cost more than one may.
    TooCostly {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// More subscriptions than a connection may hold.
    TooManySubscriptions {
        /// The limit.
        max: usize,
    },
    /// The filters of a connection's subscriptions hold more memory than they may.
    SubscriptionsTooLarge {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// The connection holds as much of the relay's memory as one may: filters, rows that wait.
    MemoryShare,
    /// The client takes nothing of what waits for it while others need the memory.
    SlowReader,
    /// The client reads so slowly that the ring no longer reaches back to its place.
    TooSlow,
    /// A failover has cut off events that this subscription had, or entries of the log are unknown: some events may be
    /// missing.
    LogCut,
    /// An ephemeral event has no subscriber.
    Unheard,
    /// The relay is shedding load.
    Overloaded,
    /// The store took too long.
    Timeout,
    /// The store failed; the details are in the relay's log, not on the wire.
    StoreFailed,
    /// The disk is full.
    DiskFull,
    /// Another process holds the database's lock.
    DatabaseLocked,
    /// The relay is shutting down.
    ShuttingDown,
}

impl Refusal {
    /// A short name of the reason, one of a fixed few: a label for metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Unsupported(_) => "unsupported",
            Self::WrongId => "wrong_id",
            Self::WrongSignature => "wrong_signature",
            Self::MessageTooLarge { .. } => "message_too_large",
            Self::TooManyTags { .. } => "too_many_tags",
            Self::ContentTooLong { .. } => "content_too_long",
            Self::TooOld { .. } => "too_old",
            Self::TooNew { .. } => "too_new",
            Self::Expired { .. } => "expired",
            Self::ProofOfWork { .. } => "proof_of_work",
            Self::Superseded => "superseded",
            Self::Deleted => "deleted",
            Self::Vanished => "vanished",
            Self::VanishElsewhere => "vanish_elsewhere",
            Self::AuthorBlocked => "author_blocked",
            Self::KindBlocked(_) => "kind_blocked",
            Self::ProtectedNeedsAuthentication => "protected_needs_authentication",
            Self::ProtectedNotAuthor => "protected_not_author",
            Self::ProtectedEmbedded => "protected_embedded",
            Self::WriteNeedsAuthentication => "write_needs_authentication",
            Self::ReadNeedsAuthentication => "read_needs_authentication",
            Self::PrivateNeedsAuthentication => "private_needs_authentication",
            Self::AuthenticationAsEvent => "authentication_as_event",
            Self::WrongAuthentication(_) => "wrong_authentication",
            Self::RateLimited => "rate_limited",
            Self::TooCostly { .. } => "too_costly",
            Self::TooManySubscriptions { .. } => "too_many_subscriptions",
            Self::SubscriptionsTooLarge { .. } => "subscriptions_too_large",
            Self::MemoryShare => "memory_share",
            Self::SlowReader => "slow_reader",
            Self::TooSlow => "too_slow",
            Self::LogCut => "log_cut",
            Self::Unheard => "unheard",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::StoreFailed => "store_failed",
            Self::DiskFull => "disk_full",
            Self::DatabaseLocked => "database_locked",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

/// One message to a client that answers something, as opposed to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The answer to an EVENT or AUTH.
    Ok {
        /// The event's id as the client wrote it, or, where that is unreadable, an empty text.
        id: ReplyId,
        /// What became of it.
        verdict: Verdict,
    },
    /// All stored events of a subscription were sent that it gets for now; the hints say what of them there is more.
    Eose(SubscriptionId, EoseHints),
    /// A REQ or COUNT was refused, or a subscription was ended by the relay.
    Closed(SubscriptionId, Refusal),
    /// The answer to a COUNT.
    Count(SubscriptionId, u64),
    /// For a person: nothing else fits.
    Notice(Refusal),
    /// NIP-42's challenge.
    Auth(String),
}

/// What an EOSE says about the stored events beside those that were sent (NIP-67). None: nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EoseHints {
    /// Every stored event that matches was sent.
    pub finish: bool,
    /// There are stored events that match and were not sent.
    pub more: bool,
    /// There may be more for a client that authenticates.
    pub auth: bool,
}

impl EoseHints {
    /// The hints as NIP-67 writes them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [(self.auth, "auth"), (self.finish, "finish"), (self.more, "more")];
        all.into_iter().filter_map(|(given, name)| given.then_some(name))
    }
}

/// Which event an OK speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyId {
    /// An id that could be read.
    Id(EventId),
    /// The event had no readable id.
    Unreadable,
}

/// A subscription id, unescaped: 1 to 64 characters, except inside a CLOSED that refuses another. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubscriptionId(pub std::sync::Arc<str>);
