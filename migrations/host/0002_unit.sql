-- What a lane calls, logged in as its plugin's restricted role. Every function checks that the
-- rows it touches belong to the role of the session, and names everything in full: a guest can
-- create nothing that would stand in front of it.

-- Opens a unit: moves the lane's chain on by one and every source to its next position. Gives the
-- ids of the sources that were still ours; a source that is missing was claimed by another host.
-- Once per transaction, and the host is always first (`xmin`): a guest cannot skip deliveries with it.
-- SQLSTATE SG100: the lane itself was claimed by another host.
CREATE FUNCTION saga.open(
    p_slot int, p_epoch bigint, p_unit bigint, p_lease_ms int,
    p_sources int[], p_epochs bigint[], p_expected bigint[], p_next bigint[], p_seen text[]
) RETURNS SETOF int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
BEGIN
    UPDATE saga.lane SET unit = unit + 1, lease_until = now() + p_lease_ms * interval '1 ms'
     WHERE slot = p_slot AND epoch = p_epoch AND unit = p_unit AND role = session_user
       AND xmin <> pg_current_xact_id()::xid;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lane % is not at epoch % unit %', p_slot, p_epoch, p_unit USING ERRCODE = 'SG100';
    END IF;
    IF cardinality(p_sources) > 0 THEN
        -- One row's place in the arrays is looked up: a join would have to be set up for a handful of rows.
        RETURN QUERY
        UPDATE saga.partition_claim s
           SET next_offset = p_next[array_position(p_sources, s.id)], dedup_marks = p_seen[array_position(p_sources, s.id)]
         WHERE s.id = ANY (p_sources) AND s.epoch = p_epochs[array_position(p_sources, s.id)]
           AND s.next_offset = p_expected[array_position(p_sources, s.id)] AND s.role = session_user
        RETURNING s.id;
    END IF;
END $$;

-- The live sagas of these keys, which come sorted, locked one by one; of all types where `p_type` is NULL. Times are
-- microseconds since 1970.
--
-- `saga_live` swings between empty and large, so no statistics fit it: a join planned while it was
-- empty would read all of it for ever. LATERAL with a lock fixes the plan: one probe of the key each
-- (lanes run with enable_seqscan off).
CREATE FUNCTION saga.lock_sagas(p_type text, p_keys text[])
RETURNS TABLE (type text, key text, version text, revision bigint, state text, data text, began bigint, next_at bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_plugins text[] := ARRAY(SELECT DISTINCT r.plugin FROM saga.lane r WHERE r.role = session_user);
BEGIN
    RETURN QUERY
    SELECT l.type, l.key, l.version, l.revision, l.state, l.data,
           (extract(epoch FROM l.began) * 1000000)::bigint, (extract(epoch FROM l.next_at) * 1000000)::bigint
      FROM unnest(p_keys) k (key)
     CROSS JOIN LATERAL (
        SELECT * FROM saga.saga_live s
         WHERE s.key = k.key AND (p_type IS NULL OR s.type = p_type) AND s.plugin = ANY (v_plugins)
           FOR UPDATE) l;
END $$;

-- The held deliveries and due timers that are still there, locked: another host may have been faster.
-- A timer's time, in microseconds since 1970, tells whether it was set anew meanwhile.
CREATE FUNCTION saga.lock_due(p_slot int, p_held bigint[], p_timers text[])
RETURNS TABLE (held bigint, timer text, due bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
DECLARE
    v_plugin text := (SELECT l.plugin FROM saga.lane l WHERE l.slot = p_slot AND l.role = session_user);
BEGIN
    RETURN QUERY
    SELECT h.id, NULL::text, NULL::bigint FROM saga.parked h
     WHERE h.id = ANY (p_held) AND h.plugin = v_plugin AND h.direction = 'in' ORDER BY h.id FOR UPDATE;
    RETURN QUERY
    SELECT NULL::bigint, t.name, (extract(epoch FROM t.due_at) * 1000000)::bigint FROM saga.timer t
     WHERE t.name = ANY (p_timers) AND t.plugin = v_plugin AND t.due_at <= now() ORDER BY t.name FOR UPDATE;
END $$;

-- The kept answers of these idempotency keys.
CREATE FUNCTION saga.answered(p_slot int, p_keys text[])
RETURNS TABLE (key text, hash bytea, response bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT r.key, r.hash, r.response FROM saga.request r
     WHERE r.plugin = (SELECT l.plugin FROM saga.lane l WHERE l.slot = p_slot AND l.role = session_user)
       AND r.key = ANY (p_keys);
END $$;

-- Notes foreign message ids; gives those seen for the first time.
CREATE FUNCTION saga.first_seen(p_slot int, p_ids text[])
RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
BEGIN
    RETURN QUERY
    INSERT INTO saga.foreign_inbox (day, plugin, id)
    SELECT (now() AT TIME ZONE 'UTC')::date, l.plugin, i.id
      FROM saga.lane l, unnest(p_ids) i (id)
     WHERE l.slot = p_slot AND l.role = session_user
       AND NOT EXISTS (SELECT FROM saga.foreign_inbox f WHERE f.plugin = l.plugin AND f.id = i.id)
     ORDER BY i.id
    ON CONFLICT DO NOTHING
    RETURNING id;
END $$;

-- Closes a unit: everything that the host writes for it, the outbox row last. Gives that row's
-- `seq`, or NULL when nothing is to be sent.
-- SQLSTATE SG101: a saga to begin exists (DETAIL: its keys). SG102: a saga is not at the expected
-- revision. SG103: wrong token.
CREATE FUNCTION saga.close(
    p_slot int, p_token bytea,
    -- the unit's time, microseconds since 1970: as its log lines have it
    p_at bigint,
    -- sagas to begin
    b_type text[], b_key text[], b_version text[], b_state text[], b_data text[], b_next bigint[], b_log text[],
    -- sagas that go on: revision before, revision after; version or data NULL leaves it
    u_type text[], u_key text[], u_before bigint[], u_after bigint[], u_state text[], u_data text[],
    u_next bigint[], u_overdue boolean[], u_log text[], u_version text[],
    -- sagas that end
    d_type text[], d_key text[], d_before bigint[], d_after bigint[], d_state text[], d_data text[],
    d_ending text[], d_answer text[], d_log text[],
    -- timers
    t_name text[], t_due bigint[], t_correlation text[], t_payload bytea[], t_gone text[],
    -- held deliveries: new ones, tried again, and done with
    h_topic text[], h_partition int[], h_position bigint[], h_key text[], h_body bytea[], h_reason text[],
    h_attempts int[], h_retry_ms bigint[],
    r_id bigint[], r_reason text[], r_attempts int[], r_retry_ms bigint[], g_id bigint[],
    -- deliveries that changed nothing
    i_source text[], i_key text[], i_reason text[],
    -- answers kept for Idempotency-Key
    q_key text[], q_hash bytea[], q_response bytea[],
    p_body bytea
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
DECLARE
    v_lane   saga.lane;
    v_at     timestamptz := 'epoch'::timestamptz + p_at * interval '1 us';
    v_today  date := (now() AT TIME ZONE 'UTC')::date;
    v_done   bigint;
    v_detail text;
    v_seq    bigint;
BEGIN
    SELECT * INTO v_lane FROM saga.lane WHERE slot = p_slot AND role = session_user;
    IF NOT FOUND OR v_lane.token <> p_token THEN
        RAISE EXCEPTION 'not the holder of lane %', p_slot USING ERRCODE = 'SG103';
    END IF;

    IF cardinality(b_key) > 0 THEN
        WITH inserted AS (
            INSERT INTO saga.saga_live (type, key, plugin, version, revision, state, data, began, next_at, log)
            SELECT v.type, v.key, v_lane.plugin, v.version, 1, v.state, v.data, v_at,
                   'epoch'::timestamptz + v.next * interval '1 us', v.log
              FROM unnest(b_type, b_key, b_version, b_state, b_data, b_next, b_log)
                   v (type, key, version, state, data, next, log)
             ORDER BY v.type, v.key
            ON CONFLICT DO NOTHING RETURNING type, key)
        SELECT string_agg(v.type || '/' || v.key, E'\n') INTO v_detail
          FROM unnest(b_type, b_key) v (type, key)
         WHERE NOT EXISTS (SELECT FROM inserted i WHERE i.type = v.type AND i.key = v.key);
        IF v_detail IS NOT NULL THEN
            RAISE EXCEPTION 'a saga of this key exists' USING ERRCODE = 'SG101', DETAIL = v_detail;
        END IF;
    END IF;

    -- By row address, found one probe of the key each: see lock_sagas.
    IF cardinality(u_key) > 0 THEN
        WITH target AS MATERIALIZED (
            SELECT s.place, v.*
              FROM unnest(u_type, u_key, u_before, u_after, u_state, u_data, u_next, u_overdue, u_log, u_version)
                   v (type, key, before, after, state, data, next, overdue, log, version)
             CROSS JOIN LATERAL (
                SELECT l.ctid AS place FROM saga.saga_live l
                 WHERE l.type = v.type AND l.key = v.key AND l.revision = v.before AND l.plugin = v_lane.plugin
                   FOR UPDATE) s)
        UPDATE saga.saga_live l
           SET revision = t.after, state = t.state, data = coalesce(t.data, l.data),
               next_at = 'epoch'::timestamptz + t.next * interval '1 us', overdue = t.overdue, log = l.log || t.log,
               version = coalesce(t.version, l.version)
          FROM target t
         WHERE l.ctid = t.place;
        GET DIAGNOSTICS v_done = ROW_COUNT;
        IF v_done <> cardinality(u_key) THEN
            RAISE EXCEPTION 'a saga is not at the expected revision' USING ERRCODE = 'SG102';
        END IF;
    END IF;

    IF cardinality(d_key) > 0 THEN
        WITH target AS MATERIALIZED (
            SELECT s.place, v.*
              FROM unnest(d_type, d_key, d_before, d_after, d_state, d_data, d_ending, d_answer, d_log)
                   v (type, key, before, after, state, data, ending, answer, log)
             CROSS JOIN LATERAL (
                SELECT l.ctid AS place FROM saga.saga_live l
                 WHERE l.type = v.type AND l.key = v.key AND l.revision = v.before AND l.plugin = v_lane.plugin
                   FOR UPDATE) s),
        gone AS (
            DELETE FROM saga.saga_live l USING target t WHERE l.ctid = t.place
            RETURNING l.type, l.key, l.plugin, l.version, t.after, t.state, coalesce(t.data, l.data) AS data,
                      l.began, t.ending, t.answer, l.log || t.log AS log)
        INSERT INTO saga.saga_done (day, type, key, plugin, version, revision, state, data, began, ended, ending, answer, log)
        SELECT v_today, type, key, plugin, version, after, state, data, began, v_at, ending, answer, log FROM gone;
        GET DIAGNOSTICS v_done = ROW_COUNT;
        IF v_done <> cardinality(d_key) THEN
            RAISE EXCEPTION 'a saga is not at the expected revision' USING ERRCODE = 'SG102';
        END IF;
    END IF;

    IF cardinality(t_gone) > 0 THEN
        DELETE FROM saga.timer WHERE plugin = v_lane.plugin AND name = ANY (t_gone);
    END IF;
    IF cardinality(t_name) > 0 THEN
        INSERT INTO saga.timer (plugin, name, due_at, correlation, payload)
        SELECT v_lane.plugin, v.name, 'epoch'::timestamptz + v.due * interval '1 us', v.correlation, v.payload
          FROM unnest(t_name, t_due, t_correlation, t_payload) v (name, due, correlation, payload)
         ORDER BY v.name
        ON CONFLICT (plugin, name) DO UPDATE
           SET due_at = excluded.due_at, correlation = excluded.correlation, payload = excluded.payload;
    END IF;

    IF cardinality(g_id) > 0 THEN
        DELETE FROM saga.parked WHERE id = ANY (g_id) AND plugin = v_lane.plugin AND direction = 'in';
    END IF;
    IF cardinality(r_id) > 0 THEN
        UPDATE saga.parked h SET reason = v.reason, attempts = v.attempts, retry_at = now() + v.retry_ms * interval '1 ms'
          FROM unnest(r_id, r_reason, r_attempts, r_retry_ms) v (id, reason, attempts, retry_ms)
         WHERE h.id = v.id AND h.plugin = v_lane.plugin;
    END IF;
    IF cardinality(h_body) > 0 THEN
        INSERT INTO saga.parked (direction, plugin, topic, partition, position, key, body, reason, attempts, retry_at)
        SELECT 'in', v_lane.plugin, v.topic, v.part, v.position, v.key, v.body, v.reason, v.attempts,
               now() + v.retry_ms * interval '1 ms'
          FROM unnest(h_topic, h_partition, h_position, h_key, h_body, h_reason, h_attempts, h_retry_ms)
               WITH ORDINALITY v (topic, part, position, key, body, reason, attempts, retry_ms, n)
         ORDER BY v.n;
    END IF;

    IF cardinality(i_source) > 0 THEN
        INSERT INTO saga.ignored (day, plugin, source, key, reason)
        SELECT v_today, v_lane.plugin, v.source, v.key, v.reason
          FROM unnest(i_source, i_key, i_reason) v (source, key, reason);
    END IF;
    IF cardinality(q_key) > 0 THEN
        INSERT INTO saga.request (day, plugin, key, hash, response)
        SELECT v_today, v_lane.plugin, v.key, v.hash, v.response
          FROM unnest(q_key, q_hash, q_response) v (key, hash, response) ORDER BY v.key;
    END IF;

    IF p_body IS NOT NULL THEN
        v_seq := nextval('saga.outbox_seq');
        INSERT INTO saga.outbox (seq, slot, epoch, unit, body) VALUES (v_seq, p_slot, v_lane.epoch, v_lane.unit, p_body);
    END IF;
    RETURN v_seq;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA saga FROM PUBLIC;
