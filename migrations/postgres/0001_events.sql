-- The store for several instances: one primary that all of them write to, and replicas that they read from (see
-- relay/src/store/postgres).
--
-- created_at is a non-negative int8. The order of NIP-01 is created_at DESC, id ASC everywhere.
-- h is SipHash-2-4, under this database's own secret, of a tag's letter and first value; a reader rechecks against the text.
-- No index ever holds a text, whatever its length: an index entry of more than 2,704 bytes would fail the insertion.
-- Statements that change what a reader can see run under the lock on the row of `head` and write one row of `log`.

-- The head of the log: one row, updated by every writer; nearly empty pages keep those updates within one page.
--   tli       the timeline of the server that wrote last: another one means that a standby was promoted
--   epoch     one life of the log, 32 bits that rise and 32 random ones; compared for equality only
--   base      the last position that this epoch has in common with the epoch `previous`
CREATE TABLE head (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch    int8 NOT NULL,
    position int8 NOT NULL,
    tli      int4 NOT NULL,
    base     int8 NOT NULL DEFAULT 0,
    previous int8 NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- The secret of the hashes (16 bytes), and how many of their bits count (64, fewer in tests only): one row.
CREATE TABLE hashing (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret bytea NOT NULL,
    bits   int4  NOT NULL
);

-- The keys of all events: narrow, and never partitioned, for a probe without a time bound would pay for each partition.
-- The indexes carry what a merge under a limit needs, so that it reads them alone: hence the eager vacuum, which keeps
-- the visibility map close behind the insertions.
CREATE TABLE event (
    id         bytea NOT NULL,
    pubkey     bytea NOT NULL,
    kind       int4  NOT NULL,
    created_at int8  NOT NULL,
    expires_at int8,
    -- {"ids": [...]}, duplicates on arrival, targets of deletions.
    CONSTRAINT event_id PRIMARY KEY (id)
) WITH (
    autovacuum_vacuum_insert_scale_factor = 0.01,
    autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 1
);
-- {"authors": [...], "kinds": [...]}: profiles, feeds; and, kind by kind, {"authors": [...]}.
CREATE INDEX event_author ON event (pubkey, kind, created_at DESC, id) INCLUDE (expires_at);
-- {"kinds": [...]}.
CREATE INDEX event_kind ON event (kind, created_at DESC, id) INCLUDE (pubkey, expires_at);
-- {"since": ..., "until": ...}, {}, and whatever is dense among the newest events.
CREATE INDEX event_time ON event (created_at DESC, id) INCLUDE (pubkey, kind, expires_at);
-- The sweep of what has expired (NIP-40).
CREATE INDEX event_expires ON event (expires_at) WHERE expires_at IS NOT NULL;

-- What is sent: the canonical JSON object, by month of created_at, so that a month can be dropped whole. tags: the
-- hashes under which `tag` has the event, for taking them out again.
CREATE TABLE event_text (
    id         bytea  NOT NULL,
    created_at int8   NOT NULL,
    text       text   NOT NULL,
    tags       int8[] NOT NULL,
    -- The rows of a page, fetched by their keys from one partition each.
    CONSTRAINT event_text_key PRIMARY KEY (created_at, id)
) PARTITION BY RANGE (created_at);

-- Single-letter tags, hashed. Not partitioned, for the same reason as `event`.
CREATE TABLE tag (
    h          int8  NOT NULL,
    created_at int8  NOT NULL,
    id         bytea NOT NULL,
    kind       int4  NOT NULL,
    expires_at int8
) WITH (
    autovacuum_vacuum_insert_scale_factor = 0.01,
    autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 1
);
-- {"#e": [...]} and every other single-letter tag; kind and expires_at so that {"#p": [...], "kinds": [...]} and its COUNT
-- read this index alone.
CREATE UNIQUE INDEX tag_h ON tag (h, created_at DESC, id) INCLUDE (kind, expires_at);

-- One row for each address (kind, pubkey, d) of a replaceable or addressable event: its current version, or, with id
-- NULL, the version that was deleted or expired and below which nothing comes back; and up to which second its author
-- has deleted versions. Room on each page, since versions come and go: an update touches no index.
CREATE TABLE address (
    -- The first 16 bytes of a SHA-256 of (kind, pubkey, d).
    key               bytea PRIMARY KEY,
    id                bytea,
    newest_created_at int8,
    newest_id         bytea,
    deleted_up_to     int8
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

-- Who has asked for the deletion of which id (NIP-09). Outlives the request.
CREATE TABLE tombstone (
    id        bytea NOT NULL,
    requester bytea NOT NULL,
    PRIMARY KEY (id, requester)
);

-- The log: one row for each position, with everything that its transaction changed, in order. By day, so that old days
-- can be dropped.
--   ops    0 inserted; removed because: 1 replaced, 2 deleted, 3 expired, 4 by the operator
--   texts  of a removal, what was removed; of an insertion NULL, since it stands in event_text
CREATE TABLE log (
    position    int8        NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    ops         int2[]      NOT NULL,
    ids         bytea[]     NOT NULL,
    created_ats int8[]      NOT NULL,
    texts       text[]      NOT NULL,
    -- Following: everything after a position.
    CONSTRAINT log_position PRIMARY KEY (position, at)
) PARTITION BY RANGE (at);

-- The first partitions; the relay makes the coming ones. What lies outside them has a place in the default partitions.
CREATE TABLE event_text_default PARTITION OF event_text DEFAULT;
CREATE TABLE log_default PARTITION OF log DEFAULT WITH (autovacuum_vacuum_insert_threshold = -1);

DO $$
DECLARE
    utc timestamp := now() AT TIME ZONE 'UTC';
    first timestamp;
BEGIN
    FOR first IN SELECT generate_series(date_trunc('month', utc) - interval '36 months', utc + interval '3 months', '1 month') LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF event_text FOR VALUES FROM (%s) TO (%s)',
            to_char(first, '"event_text_"YYYY_MM'),
            extract(epoch FROM first)::int8, extract(epoch FROM first + interval '1 month')::int8);
    END LOOP;
    FOR first IN SELECT generate_series(date_trunc('day', utc), utc + interval '3 days', '1 day') LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF log FOR VALUES FROM (%L) TO (%L) WITH (autovacuum_vacuum_insert_threshold = -1)',
            to_char(first, '"log_"YYYY_MM_DD'), first AT TIME ZONE 'UTC', (first + interval '1 day') AT TIME ZONE 'UTC');
    END LOOP;
END
$$;

-- A random UUID has 122 random bits; two of them, hashed, make 16 random bytes.
INSERT INTO hashing (secret, bits)
SELECT substring(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) FOR 16), 64;

-- The timeline of a server that is writing: the first eight digits of the name of its WAL file.
CREATE FUNCTION timeline() RETURNS int4 LANGUAGE sql VOLATILE
RETURN ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int4;

-- The epoch after `epoch`.
CREATE FUNCTION next_epoch(epoch int8) RETURNS int8 LANGUAGE sql VOLATILE
RETURN (((epoch >> 32) + 1) << 32) | ('x' || left(replace(gen_random_uuid()::text, '-', ''), 8))::bit(32)::int8;

INSERT INTO head (epoch, position, tli) SELECT next_epoch(0), 0, timeline();
