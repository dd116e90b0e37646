-- {"#d": [""]} finds an addressable event (kinds 30000 to 39999) without a `d` tag: its identifier is the empty one,
-- and it is filed in `tag` as if it had ["d",""]. The hash is the program's own, so the program files the events that
-- are stored already: it first notes the hash, which is what the writing function waits for, and at the end that all
-- are filed.
ALTER TABLE hashing
    ADD COLUMN empty_identifier int8,
    ADD COLUMN empty_identifiers_filed boolean NOT NULL DEFAULT false;

-- The addressable events that are not filed under the empty identifier and should be. A text holds ["d"," at a tag only.
CREATE FUNCTION unfiled_identifiers() RETURNS TABLE (id bytea, created_at int8) LANGUAGE plpgsql STABLE
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT e.id, e.created_at
          FROM hashing s, event e JOIN event_text t ON t.created_at = e.created_at AND t.id = e.id
         WHERE s.one AND e.kind BETWEEN 30000 AND 39999
           AND strpos(t.text, '["d","') = 0 AND NOT s.empty_identifier = ANY(t.tags);
END
$$;

-- Files these events under the empty identifier; those that are gone meanwhile are passed over. Under the lock of the
-- writers: one that removes such an event at this moment would not see its new row in `tag`, which would stay.
CREATE FUNCTION file_identifiers(ids bytea[], created_ats int8[]) RETURNS void LANGUAGE plpgsql VOLATILE
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM head WHERE one FOR UPDATE;
    WITH filed AS (
        UPDATE event_text t SET tags = t.tags || s.empty_identifier
          FROM unnest(ids, created_ats) u(id, created_at), hashing s
         WHERE s.one AND t.created_at = u.created_at AND t.id = u.id AND NOT s.empty_identifier = ANY(t.tags)
        RETURNING t.id
    )
    INSERT INTO tag (h, created_at, id, kind, expires_at)
    SELECT s.empty_identifier, e.created_at, e.id, e.kind, e.expires_at
      FROM filed f JOIN event e ON e.id = f.id, hashing s WHERE s.one
        ON CONFLICT DO NOTHING;
END
$$;

-- As in 0003, and what an older program does not know of.
CREATE OR REPLACE FUNCTION change(
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

    -- Programs from before this migration do not file these events under the empty identifier.
    IF EXISTS (SELECT FROM unnest(kinds) k(kind) WHERE k.kind BETWEEN 30000 AND 39999) THEN
        SELECT array_agg(CASE WHEN n.kind BETWEEN 30000 AND 39999 AND strpos(n.text, '["d","') = 0
                                   AND NOT s.empty_identifier = ANY(n.hashes::int8[])
                              THEN (n.hashes::int8[] || s.empty_identifier)::text
                              ELSE n.hashes END ORDER BY n.nth)
          INTO STRICT tag_hashes
          FROM unnest(kinds, texts, tag_hashes) WITH ORDINALITY n(kind, text, hashes, nth), hashing s WHERE s.one;
    END IF;

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
