-- The embedded store. One process writes, through one connection (see relay/src/store/sqlite).
--
-- Three kinds of number are computed by the program, not by SQLite:
--   ord     the order of NIP-01 in one integer: created_at << 29, plus the complement of the first 29 bits of the id. Descending
--           ord is "newest first, ties by lowest id" but for events of one second whose ids share 29 bits, which
--           the reader sorts out. created_at saturates at 2^34 - 1.
--   author  SipHash-2-4 of the pubkey under the database's own secret; a reader rechecks against the text.
--   hash    SipHash-2-4 of a tag's letter and first value, likewise. An index never holds a text, whatever its length.
-- row is given out by the program, too: positive for most events, negative for those that an index alone cannot judge:
-- events that expire, and events whose created_at saturates ord.

PRAGMA application_id = 0x736b6569; -- "skei"

-- The head of the log: one row.
CREATE TABLE head (
    epoch    INTEGER NOT NULL,
    position INTEGER NOT NULL
);

-- The secret of the hashes (16 bytes), and how many of their bits count (64, fewer in tests only): one row.
CREATE TABLE hashing (
    secret BLOB    NOT NULL,
    bits   INTEGER NOT NULL
);

-- The events. The text holds everything; the other columns exist to be indexed.
CREATE TABLE event (
    row        INTEGER PRIMARY KEY,
    ord        INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    author     INTEGER NOT NULL,
    id         INTEGER NOT NULL, -- the first eight bytes of the id
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    text       TEXT    NOT NULL
);

-- {"ids": [...]}, duplicates on arrival, targets of deletions.
CREATE INDEX event_id ON event (id);
-- {"authors": [...], "kinds": [...]}: profiles, feeds; and, kind by kind, {"authors": [...]}.
CREATE INDEX event_author ON event (author, kind, ord);
-- {"kinds": [...]}.
CREATE INDEX event_kind ON event (kind, ord);
-- {"since": ..., "until": ...} and whatever is dense among the newest events; author and kind make it covering.
CREATE INDEX event_time ON event (ord, author, kind);
-- The sweep of what has expired (NIP-40).
CREATE INDEX event_expires ON event (expires_at) WHERE expires_at IS NOT NULL;

-- {"#e": [...]} and every other single-letter tag. kind is carried along so that {"#p": [...], "kinds": [...]} and its
-- COUNT stay within this table.
CREATE TABLE tag (
    hash INTEGER NOT NULL,
    ord  INTEGER NOT NULL,
    row  INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    PRIMARY KEY (hash, ord, row)
) WITHOUT ROWID;

-- One row for each address (kind, pubkey, d) of a replaceable or addressable event: its current version, or, with row
-- NULL, the version that was deleted or expired and below which nothing comes back; and up to which second
-- its author has deleted versions. The key is the first 16 bytes of a SHA-256.
CREATE TABLE address (
    key           BLOB PRIMARY KEY,
    row           INTEGER,
    created_at    INTEGER,
    id            BLOB,
    deleted_up_to INTEGER
) WITHOUT ROWID;

-- Who has asked for the deletion of which id (NIP-09). Outlives the request.
CREATE TABLE tombstone (
    id        BLOB NOT NULL,
    requester BLOB NOT NULL,
    PRIMARY KEY (id, requester)
) WITHOUT ROWID;
