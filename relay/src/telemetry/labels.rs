//! The labels of metrics and their values.

use super::series::Label;
use crate::memory::HeldFor;
use crate::types::{KindClass, Refusal, RemovalCause, Verdict};

macro_rules! labels {
    ($($(#[$doc:meta])* $label:ident = $name:literal { $($variant:ident = $value:expr,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $label {
            $(#[doc = concat!("`", $value, "`")] $variant,)+
        }

        impl $label {
            /// Every one, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its value in a metric.
            #[must_use]
            pub fn name(self) -> &'static str {
                <Self as Label>::VALUES[self as usize]
            }
        }

        impl Label for $label {
            const NAME: &'static str = $name;
            const VALUES: &'static [&'static str] = &[$($value),+];

            fn index(self) -> usize {
                self as usize
            }
        }
    )+};
}

labels! {
    /// A layer of the cache: the one in the process, the one that instances share.
    CacheLayer = "layer" { L1 = "l1", L2 = "l2", }

    /// What a layer of the cache had; `bypass`: the answer depends on the reader, so the query goes past the cache.
    CacheResult = "result" { Hit = "hit", Miss = "miss", Bypass = "bypass", }

    /// Where the answer to one filter came from: a layer of the cache, or the store.
    ReadSource = "source" { L1 = "l1", L2 = "l2", Store = "store", }

    /// The result of a look into the shared cache. `unusable`: an entry that is too old, too small or purged. `late`:
    /// no server answered in time. `away`: the server was late before, and is not asked for a while. `waited` and
    /// `waited_in_vain`: after a miss the query waited for another instance's read, which came or did not come.
    SharedLook = "outcome" {
        Hit = "hit", Miss = "miss", Unusable = "unusable", Damaged = "damaged", Late = "late", Away = "away",
        Failed = "failed", Waited = "waited", WaitedInVain = "waited_in_vain",
    }

    /// What became of an entry for the shared cache.
    SharedWrite = "outcome" {
        Written = "written", NotNewer = "not_newer", TooLarge = "too_large", Dropped = "dropped", NotTaken = "not_taken",
    }

    /// A direction, as this instance sees it.
    Direction = "direction" { Read = "read", Written = "written", }

    /// What bytes are held for.
    ClientBytes = "kind" { Rows = "rows", Filters = "filters", Outbox = "outbox", Messages = "messages", }

    /// What a client asked for.
    Operation = "operation" { Req = "req", Count = "count", Event = "event", Auth = "auth", }

    /// The type of a client's message; `invalid` is what could not be read.
    MessageType = "type" {
        Event = "event", Req = "req", Count = "count", Close = "close", Auth = "auth", Invalid = "invalid",
    }

    /// What became of a published event.
    EventOutcome = "outcome" {
        Accepted = "accepted", Duplicate = "duplicate", Refused = "refused",
    }

    /// The outcome of a connection's start, before its first message.
    ConnectionOutcome = "outcome" {
        Accepted = "accepted", Full = "full", AddressFull = "address_full", Draining = "draining",
        Proxy = "proxy_header", Handshake = "handshake", Tls = "tls_handshake", TlsOnPlainPort = "tls_on_plain_port",
    }

    /// The outcome of a TLS handshake. `full` and `resumed` (by a ticket) are done. `refused`: too many were under way.
    /// `late`: not done in time. `plain_http`: HTTP on the TLS port. `challenge`: an ACME authority looked at a
    /// challenge. `failed`: anything else.
    TlsHandshake = "result" {
        Full = "full", Resumed = "resumed", Refused = "refused", Late = "late", PlainHttp = "plain_http",
        Challenge = "challenge", Failed = "failed",
    }

    /// What became of an order for a certificate.
    AcmeOrder = "result" { Issued = "issued", Failed = "failed", }

    /// Why a connection ended.
    CloseReason = "reason" {
        Client = "client", Lost = "lost", PongTimeout = "pong_timeout", WriteStall = "write_stall",
        MessageTimeout = "message_timeout", TooLarge = "too_large", InvalidUtf8 = "invalid_utf8", Protocol = "protocol",
        Shutdown = "shutdown",
    }

    /// The role of a database server; `embedded` is the SQLite file of a single relay.
    ServerRole = "role" { Primary = "primary", Replica = "replica", Embedded = "embedded", }

    /// The class of an event's kind (NIP-01).
    Class = "class" {
        Regular = "regular", Replaceable = "replaceable", Ephemeral = "ephemeral", Addressable = "addressable",
    }

    /// Work that is turned away while there is too much of it.
    Shed = "work" { Connection = "connection", Event = "event", Req = "req", Count = "count", }

    /// A stage of the journey of an event (`event_`) or of a REQ (`req_`). Of an event: the wait for the first station;
    /// the look-up of known ids with the rules; the wait for a CPU and the signature check; the wait for the writer;
    /// the commit. Of a REQ: the reads with the wait for the log; the push of the rows to the outbox.
    Stage = "stage" {
        EventQueue = "event_queue", EventAdmit = "event_admit", EventVerify = "event_verify",
        EventWriteQueue = "event_write_queue", EventCommit = "event_commit", ReqRead = "req_read", ReqSend = "req_send",
    }

    /// The state of a database server: a primary or a replica that serves, a replica that is too far behind, or a
    /// server that is down.
    ServerState = "state" { Primary = "primary", Replica = "replica", Behind = "behind", Down = "down", }

    /// What removed an event.
    RemovedBy = "cause" {
        Replaced = "replaced", Deleted = "deleted", Expired = "expired", Operator = "operator", Vanished = "vanished",
    }

    /// The outcome of a message between instances; `own` is the echo of a message of this instance.
    BusTraffic = "outcome" {
        Sent = "sent", Received = "received", Own = "own", Dropped = "dropped", Damaged = "damaged",
    }

    /// The source from which an entry of the log came first.
    EntrySource = "source" { Own = "own", Bus = "bus", Log = "log", }

    /// A task or a thread of the process, in the order of the journey of an event, then the store, the layers that
    /// instances share, TLS, and what watches.
    Task = "task" {
        Listener = "listener", Refusal = "refusal", Connection = "connection", Query = "query", Admit = "admit",
        Verify = "verify", Write = "write", Follow = "follow", Resubmission = "resubmission",
        StoreWrite = "store_write", Checkpoint = "checkpoint", Probe = "probe", Pool = "pool",
        Maintenance = "maintenance", BusListen = "bus_listen", BusSpeak = "bus_speak", CacheServers = "cache_servers",
        CacheLink = "cache_link", CacheWrite = "cache_write", CachePurges = "cache_purges", CachePurge = "cache_purge",
        Handshake = "handshake", TlsFiles = "tls_files", TlsSelfSigned = "tls_self_signed", TlsExpiry = "tls_expiry",
        Acme = "acme", Redirect = "redirect", RedirectConnection = "redirect_connection", Gauges = "gauges", ServerGauges = "server_gauges",
        MachineGauges = "machine_gauges", Heartbeat = "heartbeat", Load = "load", Admin = "admin",
        AdminConnection = "admin_connection",
    }

    /// This program.
    Build = "version" { This = env!("CARGO_PKG_VERSION"), }

    /// Why something was refused: one value for each [`Refusal`].
    Reason = "reason" {
        Invalid = "invalid", Unsupported = "unsupported", WrongId = "wrong_id", WrongSignature = "wrong_signature",
        MessageTooLarge = "message_too_large", TooManyTags = "too_many_tags", ContentTooLong = "content_too_long",
        TooOld = "too_old", TooNew = "too_new", Expired = "expired", ProofOfWork = "proof_of_work",
        Superseded = "superseded", Deleted = "deleted", Vanished = "vanished", VanishElsewhere = "vanish_elsewhere",
        AuthorBlocked = "author_blocked", KindBlocked = "kind_blocked",
        ProtectedNeedsAuthentication = "protected_needs_authentication",
        ProtectedNotAuthor = "protected_not_author", ProtectedEmbedded = "protected_embedded",
        WriteNeedsAuthentication = "write_needs_authentication",
        ReadNeedsAuthentication = "read_needs_authentication",
        PrivateNeedsAuthentication = "private_needs_authentication",
        AuthenticationAsEvent = "authentication_as_event", WrongAuthentication = "wrong_authentication",
        RateLimited = "rate_limited", TooCostly = "too_costly",
        TooManySubscriptions = "too_many_subscriptions", SubscriptionsTooLarge = "subscriptions_too_large", MemoryShare = "memory_share",
        SlowReader = "slow_reader", TooSlow = "too_slow",
        LogCut = "log_cut", Unheard = "unheard", Overloaded = "overloaded", Timeout = "timeout", StoreFailed = "store_failed", DiskFull = "disk_full",
        DatabaseLocked = "database_locked", ShuttingDown = "shutting_down",
    }
}

impl From<HeldFor> for ClientBytes {
    fn from(what: HeldFor) -> Self {
        match what {
            HeldFor::Rows => Self::Rows,
            HeldFor::Filters => Self::Filters,
            HeldFor::Outbox => Self::Outbox,
            HeldFor::Messages => Self::Messages,
        }
    }
}

impl From<&Verdict> for EventOutcome {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Accepted => Self::Accepted,
            Verdict::Duplicate => Self::Duplicate,
            Verdict::Refused(_) => Self::Refused,
        }
    }
}

impl From<KindClass> for Class {
    fn from(class: KindClass) -> Self {
        match class {
            KindClass::Regular => Self::Regular,
            KindClass::Replaceable => Self::Replaceable,
            KindClass::Ephemeral => Self::Ephemeral,
            KindClass::Addressable => Self::Addressable,
        }
    }
}

impl From<RemovalCause> for RemovedBy {
    fn from(cause: RemovalCause) -> Self {
        match cause {
            RemovalCause::Replaced => Self::Replaced,
            RemovalCause::Deleted => Self::Deleted,
            RemovalCause::Expired => Self::Expired,
            RemovalCause::Administered => Self::Operator,
            RemovalCause::Vanished => Self::Vanished,
        }
    }
}

macro_rules! same_name {
    ($refusal:ident: $($variant:ident)+) => {
        // No catch-all: a new refusal must find its reason.
        match $refusal { $(Refusal::$variant { .. } => Self::$variant,)+ }
    };
}

impl From<&Refusal> for Reason {
    fn from(refusal: &Refusal) -> Self {
        same_name!(refusal:
            Invalid Unsupported WrongId WrongSignature MessageTooLarge TooManyTags ContentTooLong TooOld TooNew Expired
            ProofOfWork Superseded Deleted Vanished VanishElsewhere AuthorBlocked KindBlocked ProtectedNeedsAuthentication ProtectedNotAuthor
            ProtectedEmbedded WriteNeedsAuthentication ReadNeedsAuthentication PrivateNeedsAuthentication
            AuthenticationAsEvent WrongAuthentication RateLimited TooCostly TooManySubscriptions SubscriptionsTooLarge MemoryShare SlowReader TooSlow LogCut Unheard
            Overloaded Timeout StoreFailed DiskFull DatabaseLocked ShuttingDown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Kind;

    #[test]
    fn a_reason_has_the_name_of_its_refusal() {
        for refusal in [
            Refusal::Invalid(String::new()),
            Refusal::Expired { at: 0 },
            Refusal::KindBlocked(Kind(4)),
            Refusal::WrongAuthentication(String::new()),
            Refusal::TooCostly { max_bytes: 1 },
            Refusal::TooManySubscriptions { max: 1 },
            Refusal::SubscriptionsTooLarge { max_bytes: 1 },
            Refusal::DiskFull,
            Refusal::ShuttingDown,
        ] {
            assert_eq!(Reason::VALUES[Reason::from(&refusal).index()], refusal.reason());
        }
        assert_eq!(Reason::VALUES.len(), Reason::from(&Refusal::ShuttingDown).index() + 1, "the last is the last");
    }
}
