-- The writer's two calls (see relay/src/store/postgres/write): what is known about a batch, and everything that it
-- changes. A later version of either gets a name of its own, so that old and new programs work side by side.
--
-- The settings of each function keep its plans from depending on what the tables held when they were made: every table
-- is probed through its index, key by key. Where event_text is joined, `earliest` and `latest` are there for the
-- partitions outside them to be left out when the statement starts (see 0002).

-- Everything that deciding a batch rests upon. STABLE: all of it in the snapshot of the one statement that calls. what:
--   0  the head: x epoch, y position
--   1  one of `wanted` that is stored: a id
--   2  a tombstone of one of `wanted`: a id, b requester
--   3  one of `addresses`: a key, b current version, c newest id, x newest created_at, y deleted up to; and the text of
--      its current version
--   4  one of `targets` that is stored: its text
CREATE FUNCTION known(wanted bytea[], addresses bytea[], targets bytea[])
    RETURNS TABLE (what int2, a bytea, b bytea, c bytea, x int8, y int8, text text)
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    earliest int8;
    latest int8;
BEGIN
    RETURN QUERY
        SELECT 0::int2, NULL::bytea, NULL::bytea, NULL::bytea, h.epoch, h.position, NULL::text FROM head h WHERE h.one
        UNION ALL
        SELECT 1::int2, e.id, NULL, NULL, NULL, NULL, NULL FROM unnest(wanted) w(id) JOIN event e ON e.id = w.id
        UNION ALL
        SELECT 2::int2, t.id, t.requester, NULL, NULL, NULL, NULL FROM unnest(wanted) w(id) JOIN tombstone t ON t.id = w.id;
    IF cardinality(addresses) > 0 THEN
        SELECT min(a.newest_created_at), max(a.newest_created_at) INTO earliest, latest
          FROM unnest(addresses) w(key) JOIN address a ON a.key = w.key WHERE a.id IS NOT NULL;
        RETURN QUERY
            SELECT 3::int2, a.key, a.id, a.newest_id, a.newest_created_at, a.deleted_up_to, t.text
              FROM unnest(addresses) w(key) JOIN address a ON a.key = w.key
              LEFT JOIN event_text t
                ON t.created_at = a.newest_created_at AND t.id = a.id AND t.created_at BETWEEN earliest AND latest;
    END IF;
    IF cardinality(targets) > 0 THEN
        SELECT min(e.created_at), max(e.created_at) INTO earliest, latest
          FROM unnest(targets) w(id) JOIN event e ON e.id = w.id;
        RETURN QUERY
            SELECT 4::int2, NULL::bytea, NULL::bytea, NULL::bytea, NULL::int8, NULL::int8, t.text
              FROM unnest(targets) w(id) JOIN event e ON e.id = w.id
              JOIN event_text t
                ON t.created_at = e.created_at AND t.id = e.id AND t.created_at BETWEEN earliest AND latest;
    END IF;
END
$$;

-- Holds back whoever would write, for the rest of this transaction: the way on for a writer that others have overtaken too
-- often. Every call of change() passes this gate, and it comes before the lock on `head`, so nobody waits in a circle.
CREATE FUNCTION hold_the_gate() RETURNS void LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT pg_advisory_xact_lock(hashtextextended('gate of the log', 0));
END;

-- Starts a new epoch where the server's timeline is not the one of the last write: a standby was promoted, and entries
-- after the present position may have been lost with the old primary. The caller holds the lock on `head`.
-- callers_epoch: the epoch that the caller knows, which may be one of which this server has never heard.
CREATE FUNCTION follow_the_timeline(INOUT h head, callers_epoch int8) LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    tli int4 := timeline();
BEGIN
    IF h.tli <> tli THEN
        h.previous := h.epoch;
        h.base := h.position;
        h.epoch := next_epoch(greatest(h.epoch, callers_epoch));
        h.tli := tli;
        UPDATE head SET epoch = h.epoch, tli = h.tli, base = h.base, previous = h.previous WHERE one;
    END IF;
END
$$;

-- One transaction of the log. Everything that the caller decided, and what the decision rested upon; where that does not
-- hold any more the call fails with SK001 (or 23505: one of the events has come in meanwhile), having changed nothing,
-- and the caller reads again.
CREATE FUNCTION change(
    callers_epoch int8,
    -- The head that the decision saw: while it has not moved, nothing can have changed.
    seen_epoch int8, seen_position int8,
    -- Ids that were (or were not) stored, without those of `ids`; how many tombstones these and those of `ids` had;
    -- the addresses as they were.
    seen_ids bytea[], seen_stored bool[], seen_tombstones int8,
    seen_keys bytea[], seen_current bytea[], seen_newest_at int8[], seen_newest_id bytea[], seen_deleted_up_to int8[],
    -- The events that come in, by ascending id; tag_hashes: an array's text for each.
    ids bytea[], pubkeys bytea[], kinds int4[], created_ats int8[], expires_ats int8[], texts text[], tag_hashes text[],
    -- The events that go.
    gone_ids bytea[], gone_created_ats int8[],
    -- The tombstones that come.
    buried_ids bytea[], buriers bytea[],
    -- The addresses that change.
    keys bytea[], current_ids bytea[], newest_ats int8[], newest_ids bytea[], deleted_up_tos int8[],
    -- The row of the log.
    ops int2[], op_ids bytea[], op_created_ats int8[], op_texts text[],
    OUT epoch int8, OUT "position" int8)
    LANGUAGE plpgsql VOLATILE
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    h head;
    found_rows int8;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('gate of the log', 0));

    -- Before the lock, since it takes long and nobody can see it yet. By ascending id: two writers that bring the same
    -- events wait for each other in one direction.
    IF cardinality(ids) > 0 THEN
        INSERT INTO event (id, pubkey, kind, created_at, expires_at)
        SELECT * FROM unnest(ids, pubkeys, kinds, created_ats, expires_ats);
        INSERT INTO event_text (id, created_at, text, tags)
        SELECT n.id, n.created_at, n.text, n.hashes::int8[] FROM unnest(ids, created_ats, texts, tag_hashes) n(id, created_at, text, hashes);
        INSERT INTO tag (h, created_at, id, kind, expires_at)
        SELECT t.h, n.created_at, n.id, n.kind, n.expires_at
          FROM unnest(ids, created_ats, kinds, expires_ats, tag_hashes) n(id, created_at, kind, expires_at, hashes),
               unnest(n.hashes::int8[]) t(h);
    END IF;

    -- The lock that orders all writers, held to the commit. What follows are statements of their own, so each sees
    -- whatever was committed before; and from here on nothing waits for anyone but the disk.
    SELECT * INTO STRICT h FROM head WHERE one FOR UPDATE;
    h := follow_the_timeline(h, callers_epoch);

    IF h.epoch <> seen_epoch OR h.position <> seen_position THEN
        IF EXISTS (SELECT FROM unnest(seen_ids, seen_stored) s(id, stored) LEFT JOIN event e ON e.id = s.id
                    WHERE (e.id IS NOT NULL) <> s.stored)
           OR (SELECT count(*) FROM unnest(ids || seen_ids) s(id) JOIN tombstone t ON t.id = s.id) <> seen_tombstones
           OR EXISTS (SELECT FROM unnest(seen_keys, seen_current, seen_newest_at, seen_newest_id, seen_deleted_up_to)
                               s(key, id, at, newest_id, up_to)
                        LEFT JOIN address a ON a.key = s.key
                       WHERE (a.id, a.newest_created_at, a.newest_id, a.deleted_up_to)
                             IS DISTINCT FROM (s.id, s.at, s.newest_id, s.up_to))
        THEN
            RAISE EXCEPTION 'the decision is stale' USING ERRCODE = 'SK001';
        END IF;
    END IF;

    IF cardinality(gone_ids) > 0 THEN
        DELETE FROM event e USING unnest(gone_ids) g(id) WHERE e.id = g.id;
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        IF found_rows <> cardinality(gone_ids) THEN
            RAISE EXCEPTION '% of % events are missing', cardinality(gone_ids) - found_rows, cardinality(gone_ids)
                USING ERRCODE = 'data_corrupted';
        END IF;
        WITH gone AS (
            DELETE FROM event_text t USING unnest(gone_ids, gone_created_ats) g(id, created_at)
             WHERE t.created_at = g.created_at AND t.id = g.id
            RETURNING t.id, t.created_at, t.tags
        ), hashed AS (SELECT n.h, g.created_at, g.id FROM gone g, unnest(g.tags) n(h))
        DELETE FROM tag t USING hashed n WHERE t.h = n.h AND t.created_at = n.created_at AND t.id = n.id;
    END IF;
    IF cardinality(buried_ids) > 0 THEN
        INSERT INTO tombstone (id, requester) SELECT * FROM unnest(buried_ids, buriers) ON CONFLICT DO NOTHING;
    END IF;
    IF cardinality(keys) > 0 THEN
        INSERT INTO address (key, id, newest_created_at, newest_id, deleted_up_to)
        SELECT * FROM unnest(keys, current_ids, newest_ats, newest_ids, deleted_up_tos)
            ON CONFLICT (key) DO UPDATE SET id = excluded.id, newest_created_at = excluded.newest_created_at,
               newest_id = excluded.newest_id, deleted_up_to = excluded.deleted_up_to;
    END IF;
    INSERT INTO log (position, ops, ids, created_ats, texts) VALUES (h.position + 1, ops, op_ids, op_created_ats, op_texts);
    UPDATE head SET position = h.position + 1 WHERE one;
    epoch := h.epoch;
    "position" := h.position + 1;
END
$$;

-- The first write of a new primary, where there is nothing else to write: the head, its epoch being that of the server's
-- timeline.
CREATE FUNCTION settle(callers_epoch int8, OUT epoch int8, OUT "position" int8) LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    h head;
BEGIN
    SELECT * INTO STRICT h FROM head WHERE one FOR UPDATE;
    h := follow_the_timeline(h, callers_epoch);
    epoch := h.epoch;
    "position" := h.position;
END
$$;

-- Up to `max` events that have expired by `at`, oldest expiry first.
CREATE FUNCTION expired(at int8, max int8) RETURNS TABLE (text text) LANGUAGE plpgsql STABLE
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT t.text
          FROM (SELECT e.id, e.created_at, e.expires_at FROM event e WHERE e.expires_at <= at ORDER BY e.expires_at LIMIT max) e
          JOIN event_text t ON t.created_at = e.created_at AND t.id = e.id
         ORDER BY e.expires_at;
END
$$;

-- The head, beside each of the entries of the log after a position: about `max` changes' worth, at least one where there
-- is one, else one row without an entry. texts: of what was inserted and is still there, and of what was removed.
CREATE FUNCTION entries(after int8, max int8)
    RETURNS TABLE (epoch int8, head int8, base int8, previous int8, "position" int8, ops int2[], texts text[])
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT h.epoch, h.position, h.base, h.previous, l.position, l.ops, ARRAY(
                   SELECT coalesce(o.text, t.text)
                     FROM unnest(l.ops, l.ids, l.created_ats, l.texts) WITH ORDINALITY o(op, id, created_at, text, n)
                     LEFT JOIN event_text t ON o.op = 0 AND t.created_at = o.created_at AND t.id = o.id
                    ORDER BY o.n)
          FROM head h LEFT JOIN LATERAL (
                   SELECT * FROM (
                       SELECT c.*, sum(cardinality(c.ids)) OVER (ORDER BY c.position) - cardinality(c.ids) AS before
                         FROM (SELECT * FROM log g WHERE g.position > after ORDER BY g.position LIMIT max) c) s
                    WHERE s.before < max) l ON true
         WHERE h.one
         ORDER BY l.position;
END
$$;
