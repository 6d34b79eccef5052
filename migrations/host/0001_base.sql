-- The `saga` schema: the host's own tables and functions in each service's database.
--
-- Host migrations are append-only. A database records the SHA-256 of every file that it has applied and
-- refuses one that has changed since. Never edit a file that was released: add the next one, `0002_….sql`. A
-- test pins the hashes (host/tests/released.toml).
--
-- Only the host's account writes to the tables. A plugin's role reaches them through the SECURITY DEFINER
-- functions below, which check that every row belongs to the role of the session, and which name everything
-- in full: a guest can create nothing that would hide another object.
--
-- Naming: timestamptz columns end in `_at`; integers that hold a time or a duration end in their unit (`_us`
-- is microseconds since 1970, `_ms` is milliseconds).
--
-- SQLSTATEs that the functions raise (host/src/model/sqlstate.rs has the same list):
--   SG100  saga.open   the lane is not at the expected epoch and unit: another host has acquired its lease
--   SG101  saga.flush  a saga to start exists; DETAIL: one line for each, `type/key`
--   SG102  saga.flush  a saga is not at the expected revision; DETAIL: one line for each,
--                      `type/key: expected revision E, actual revision A`, where A is `none` when no such
--                      saga is live
--   SG103  saga.flush  the token is not that of the lane lease


-- Tables ----------------------------------------------------------------------------------------------------

-- One row for each lane slot: the lease of the lane that commits units under it, and its fencing token
-- (epoch, unit, token). Slot 0 belongs to no lane: its holder leads the relay and the timers of this
-- database.
CREATE TABLE saga.lane (
    slot             int         PRIMARY KEY,
    plugin           text        NOT NULL,
    role             name        NOT NULL,
    kind             text        NOT NULL CHECK (kind IN ('leader', 'kafka', 'http')),
    owner            text        NOT NULL,
    epoch            bigint      NOT NULL,
    unit             bigint      NOT NULL,
    token            bytea       NOT NULL,
    lease_expires_at timestamptz NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

INSERT INTO saga.lane (slot, plugin, role, kind, owner, epoch, unit, token, lease_expires_at)
VALUES (0, '', '', 'leader', '', 0, 0, '', '-infinity');

-- One row for each partition that a plugin reads: who has claimed it (epoch), the next record to handle, and
-- the high-water mark of every saga-host lane whose records were read from it, which de-duplicates those
-- records.
CREATE TABLE saga.partition_claim (
    id          int    GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plugin      text   NOT NULL,
    role        name   NOT NULL,
    topic       text   NOT NULL,
    partition   int    NOT NULL,
    epoch       bigint NOT NULL,
    next_offset bigint NOT NULL,
    dedup_marks text   NOT NULL DEFAULT '',
    UNIQUE (plugin, topic, partition)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Records that are committed and that Kafka has not acknowledged yet: one row for each unit, its records
-- encoded.
CREATE SEQUENCE saga.outbox_seq CACHE 1;
CREATE TABLE saga.outbox (
    seq            bigint PRIMARY KEY,
    slot           int    NOT NULL,
    epoch          bigint NOT NULL,
    unit           bigint NOT NULL,
    body           bytea  NOT NULL,
    -- Indexes of the records in `body` that are parked instead of being sent.
    parked_indexes int[]  NOT NULL DEFAULT '{}'
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE saga.outbox ALTER COLUMN body SET STORAGE EXTERNAL;

-- Sagas in flight, each with the digest of the version that handles it. `next_at` is NOT NULL: a saga that
-- the scheduler never polls cannot be stored. A unit finds sagas by key alone, whatever types its versions
-- know.
CREATE TABLE saga.saga_live (
    type       text        NOT NULL,
    key        text        NOT NULL,
    plugin     text        NOT NULL,
    digest     text        NOT NULL,
    revision   bigint      NOT NULL,
    state      text        NOT NULL,
    data       text        NOT NULL,
    started_at timestamptz NOT NULL,
    next_at    timestamptz NOT NULL,
    overdue    boolean     NOT NULL DEFAULT false,
    log        text        NOT NULL,
    PRIMARY KEY (key, type)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE INDEX saga_live_next_at ON saga.saga_live (next_at);

-- Sagas that have ended, by the day of their end.
CREATE TABLE saga.saga_done (
    day        date        NOT NULL,
    type       text        NOT NULL,
    key        text        NOT NULL,
    plugin     text        NOT NULL,
    digest     text        NOT NULL,
    revision   bigint      NOT NULL,
    state      text        NOT NULL,
    data       text        NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz NOT NULL,
    ending     text        NOT NULL CHECK (ending IN ('completed', 'compensated', 'failed')),
    answer     text,
    log        text        NOT NULL,
    PRIMARY KEY (type, key, day)
) PARTITION BY RANGE (day);

-- Timers that plugins have set.
CREATE TABLE saga.timer (
    plugin      text        NOT NULL,
    name        text        NOT NULL,
    due_at      timestamptz NOT NULL,
    correlation text,
    payload     bytea       NOT NULL,
    PRIMARY KEY (plugin, name)
);
CREATE INDEX timer_due_at ON saga.timer (due_at);

-- Parked deliveries (direction in) and parked records (direction out). `body` is the encoded delivery or
-- record. The state follows from the columns:
--   retrying     `retry_at` is set: the host tries it again by itself
--   queued       no `retry_at`, direction in, attempts 0: it waits for an earlier one of its key
--   dead_letter  everything else: it waits for a person
CREATE TABLE saga.parked (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    direction text        NOT NULL CHECK (direction IN ('in', 'out')),
    plugin    text        NOT NULL,
    topic     text        NOT NULL,
    partition int         NOT NULL,
    position  bigint      NOT NULL,
    key       text,
    body      bytea       NOT NULL,
    reason    text        NOT NULL,
    attempts  int         NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    retry_at  timestamptz
);
CREATE INDEX parked_key ON saga.parked (plugin, topic, partition, key, id);
CREATE INDEX parked_retry_at ON saga.parked (retry_at) WHERE retry_at IS NOT NULL;

-- Deliveries that changed nothing, and parked ones that a person has discarded.
CREATE TABLE saga.ignored (
    day        date        NOT NULL,
    ignored_at timestamptz NOT NULL DEFAULT now(),
    plugin     text        NOT NULL,
    source     text        NOT NULL,
    key        text,
    reason     text        NOT NULL
) PARTITION BY RANGE (day);
CREATE INDEX ignored_key ON saga.ignored (key);

-- Answers that are stored for their Idempotency-Key.
CREATE TABLE saga.stored_answer (
    day             date  NOT NULL,
    plugin          text  NOT NULL,
    idempotency_key text  NOT NULL,
    request_hash    bytea NOT NULL,
    response        bytea NOT NULL,
    PRIMARY KEY (plugin, idempotency_key, day)
) PARTITION BY RANGE (day);

-- Message ids of foreign producers, only for subscriptions that ask for it.
CREATE TABLE saga.foreign_inbox (
    day    date NOT NULL,
    plugin text NOT NULL,
    id     text NOT NULL,
    PRIMARY KEY (plugin, id, day)
) PARTITION BY RANGE (day);

-- Components by their SHA-256: the versions of a plugin that can be activated again.
CREATE TABLE saga.component (
    plugin text  NOT NULL,
    digest text  NOT NULL,
    body   bytea NOT NULL,
    PRIMARY KEY (plugin, digest)
);

-- Policies by the SHA-256 of their text: a version that sagas in flight are pinned to keeps its own policy.
CREATE TABLE saga.policy (
    digest text PRIMARY KEY,
    body   text NOT NULL
);

-- Activations of a plugin's versions. The row with the highest generation is the active one.
CREATE TABLE saga.activation (
    plugin        text        NOT NULL,
    generation    bigint      NOT NULL,
    digest        text        NOT NULL,
    policy_digest text        NOT NULL,
    version       text        NOT NULL,
    activated_at  timestamptz NOT NULL DEFAULT now(),
    activated_by  text        NOT NULL,
    PRIMARY KEY (plugin, generation)
);


-- Maintenance -----------------------------------------------------------------------------------------------

-- Creates the partitions of the next days and drops those that are older than their retention.
CREATE FUNCTION saga.roll_partitions(p_days_ahead int, p_keep_done_days int, p_keep_short_days int)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_table     text;
    v_day       date;
    v_partition text;
    v_keep_days int;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['saga_done', 'ignored', 'stored_answer', 'foreign_inbox'] LOOP
        FOR v_day IN SELECT d::date FROM generate_series(
            (now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date + p_days_ahead, '1 day') d
        LOOP
            v_partition := v_table || '_' || to_char(v_day, 'YYYYMMDD');
            IF to_regclass('saga.' || v_partition) IS NULL THEN
                EXECUTE format('CREATE TABLE saga.%I PARTITION OF saga.%I FOR VALUES FROM (%L) TO (%L)',
                               v_partition, v_table, v_day, v_day + 1);
            END IF;
        END LOOP;
        v_keep_days := CASE WHEN v_table IN ('saga_done', 'ignored') THEN p_keep_done_days
                            ELSE p_keep_short_days END;
        FOR v_partition IN
            SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = ('saga.' || v_table)::regclass
              -- A plan may scan all of pg_class first: only CASE keeps to_date from reading other names.
              AND CASE WHEN c.relname ~ '_[0-9]{8}$'
                       THEN to_date(right(c.relname, 8), 'YYYYMMDD')
                            < (now() AT TIME ZONE 'UTC')::date - v_keep_days
                       ELSE false END
        LOOP
            EXECUTE format('DROP TABLE saga.%I', v_partition);
        END LOOP;
    END LOOP;
END $$;


-- Opening a unit: called by a lane, logged in as its plugin's restricted role -------------------------------

-- Opens a unit: advances the lane by one unit and each partition to its next offset. Returns the ids of the
-- claims that are still valid; another host has claimed the missing ones. The five arrays are the columns of
-- one list.
--
-- A transaction can open one unit only, and the host always calls first (`xmin`): a guest cannot skip
-- deliveries with it.
CREATE FUNCTION saga.open(
    p_slot int, p_epoch bigint, p_unit bigint, p_lease_ms int,
    p_claim_ids int[], p_claim_epochs bigint[], p_expected_offsets bigint[], p_next_offsets bigint[],
    p_dedup_marks text[]
) RETURNS TABLE (claim_id int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
BEGIN
    UPDATE saga.lane SET unit = unit + 1, lease_expires_at = now() + p_lease_ms * interval '1 ms'
     WHERE slot = p_slot AND epoch = p_epoch AND unit = p_unit AND role = session_user
       AND xmin <> pg_current_xact_id()::xid;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lane % is not at epoch % unit %', p_slot, p_epoch, p_unit USING ERRCODE = 'SG100';
    END IF;
    IF cardinality(p_claim_ids) > 0 THEN
        -- array_position instead of a join: setting up a join costs more for a handful of rows.
        RETURN QUERY
        UPDATE saga.partition_claim c
           SET next_offset = p_next_offsets[array_position(p_claim_ids, c.id)],
               dedup_marks = p_dedup_marks[array_position(p_claim_ids, c.id)]
         WHERE c.id = ANY (p_claim_ids) AND c.epoch = p_claim_epochs[array_position(p_claim_ids, c.id)]
           AND c.next_offset = p_expected_offsets[array_position(p_claim_ids, c.id)] AND c.role = session_user
        RETURNING c.id;
    END IF;
END $$;

-- The live sagas of these keys, locked one by one in the order of the keys, which come sorted. All types when
-- `p_type` is NULL.
--
-- `saga_live` swings between empty and large, so no statistics fit it: a join planned while it was empty
-- would read the whole table for ever. LATERAL with a lock fixes the plan: one index probe for each key
-- (lanes run with enable_seqscan off).
CREATE FUNCTION saga.lock_sagas(p_type text, p_keys text[])
RETURNS TABLE (
    type text, key text, digest text, revision bigint, state text, data text,
    started_at_us bigint, next_at_us bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_plugins text[] := ARRAY(SELECT DISTINCT r.plugin FROM saga.lane r WHERE r.role = session_user);
BEGIN
    RETURN QUERY
    SELECT l.type, l.key, l.digest, l.revision, l.state, l.data,
           (extract(epoch FROM l.started_at) * 1000000)::bigint,
           (extract(epoch FROM l.next_at) * 1000000)::bigint
      FROM unnest(p_keys) k (key)
     CROSS JOIN LATERAL (
        SELECT * FROM saga.saga_live s
         WHERE s.key = k.key AND (p_type IS NULL OR s.type = p_type) AND s.plugin = ANY (v_plugins)
           FOR UPDATE) l;
END $$;

-- Locks the parked deliveries and due timers that still exist: another host may have handled some first. The
-- caller compares `due_at_us` to see whether a timer was set again meanwhile.
CREATE FUNCTION saga.lock_parked_and_timers(p_slot int, p_parked_ids bigint[], p_timer_names text[])
RETURNS TABLE (parked_id bigint, timer_name text, due_at_us bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
DECLARE
    v_plugin text := (SELECT l.plugin FROM saga.lane l WHERE l.slot = p_slot AND l.role = session_user);
BEGIN
    RETURN QUERY
    SELECT p.id, NULL::text, NULL::bigint FROM saga.parked p
     WHERE p.id = ANY (p_parked_ids) AND p.plugin = v_plugin AND p.direction = 'in' ORDER BY p.id FOR UPDATE;
    RETURN QUERY
    SELECT NULL::bigint, t.name, (extract(epoch FROM t.due_at) * 1000000)::bigint FROM saga.timer t
     WHERE t.name = ANY (p_timer_names) AND t.plugin = v_plugin AND t.due_at <= now()
     ORDER BY t.name FOR UPDATE;
END $$;

-- The stored answers of these idempotency keys.
CREATE FUNCTION saga.stored_answers(p_slot int, p_idempotency_keys text[])
RETURNS TABLE (idempotency_key text, request_hash bytea, response bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT a.idempotency_key, a.request_hash, a.response FROM saga.stored_answer a
     WHERE a.plugin = (SELECT l.plugin FROM saga.lane l WHERE l.slot = p_slot AND l.role = session_user)
       AND a.idempotency_key = ANY (p_idempotency_keys);
END $$;

-- Records foreign message ids; returns those that are new.
CREATE FUNCTION saga.record_foreign_ids(p_slot int, p_ids text[])
RETURNS TABLE (new_foreign_id text)
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
    RETURNING foreign_inbox.id;
END $$;


-- Flushing a unit -------------------------------------------------------------------------------------------

-- The rows that a unit hands to saga.flush, one type for each kind of write. host/src/unit/rows.rs has the
-- same columns in the same order.

-- A saga that starts.
CREATE TYPE saga.saga_start_row AS (
    type       text,
    key        text,
    digest     text,
    state      text,
    data       text,
    next_at_us bigint,
    log        text
);

-- A saga that goes on. NULL data or digest leaves the column as it is; the log is appended.
CREATE TYPE saga.saga_step_row AS (
    type              text,
    key               text,
    expected_revision bigint,
    new_revision      bigint,
    state             text,
    data              text,
    next_at_us        bigint,
    overdue           boolean,
    log               text,
    digest            text
);

-- A saga that ends. NULL data leaves the column as it is; the log is appended.
CREATE TYPE saga.saga_end_row AS (
    type              text,
    key               text,
    expected_revision bigint,
    new_revision      bigint,
    state             text,
    data              text,
    ending            text,
    answer            text,
    log               text
);

-- A timer to set, or to set again.
CREATE TYPE saga.timer_row AS (
    name        text,
    due_at_us   bigint,
    correlation text,
    payload     bytea
);

-- A delivery to park. NULL retry_after_ms: until a person redrives it, or until its turn in its key's queue.
CREATE TYPE saga.parked_row AS (
    topic          text,
    partition      int,
    position       bigint,
    key            text,
    body           bytea,
    reason         text,
    attempts       int,
    retry_after_ms bigint
);

-- A parked delivery that was tried again and stays parked.
CREATE TYPE saga.parked_retry_row AS (
    id             bigint,
    reason         text,
    attempts       int,
    retry_after_ms bigint
);

-- A delivery that changed nothing.
CREATE TYPE saga.ignored_row AS (
    source text,
    key    text,
    reason text
);

-- An answer to store for its idempotency key.
CREATE TYPE saga.stored_answer_row AS (
    idempotency_key text,
    request_hash    bytea,
    response        bytea
);

-- Writes everything that the host writes for a unit, the outbox row last. Returns that row's `seq`, or NULL
-- when nothing is to be sent. Pass NULL instead of an empty array: PL/pgSQL unpacks every array that it is
-- given.
--
-- `p_at_us` is the unit's time, the same as in its log lines. `p_token` is the lease's token, which only the
-- host knows.
CREATE FUNCTION saga.flush(
    p_slot           int,
    p_token          bytea,
    p_at_us          bigint,
    p_saga_starts    saga.saga_start_row[],
    p_saga_steps     saga.saga_step_row[],
    p_saga_ends      saga.saga_end_row[],
    p_timers         saga.timer_row[],
    p_timers_removed text[],
    p_parked         saga.parked_row[],
    p_parked_retries saga.parked_retry_row[],
    p_parked_removed bigint[],
    p_ignored        saga.ignored_row[],
    p_stored_answers saga.stored_answer_row[],
    p_outbox_body    bytea
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
DECLARE
    v_lane   saga.lane;
    v_at     timestamptz := 'epoch'::timestamptz + p_at_us * interval '1 us';
    v_today  date := (now() AT TIME ZONE 'UTC')::date;
    v_rows   bigint;
    v_detail text;
    v_seq    bigint;
BEGIN
    SELECT * INTO v_lane FROM saga.lane WHERE slot = p_slot AND role = session_user;
    IF NOT FOUND OR v_lane.token <> p_token THEN
        RAISE EXCEPTION 'not the holder of lane %', p_slot USING ERRCODE = 'SG103';
    END IF;

    IF cardinality(p_saga_starts) > 0 THEN
        WITH started AS (
            INSERT INTO saga.saga_live
                   (type, key, plugin, digest, revision, state, data, started_at, next_at, log)
            SELECT s.type, s.key, v_lane.plugin, s.digest, 1, s.state, s.data, v_at,
                   'epoch'::timestamptz + s.next_at_us * interval '1 us', s.log
              FROM unnest(p_saga_starts) s
             ORDER BY s.type, s.key
            ON CONFLICT DO NOTHING RETURNING type, key)
        SELECT string_agg(s.type || '/' || s.key, E'\n') INTO v_detail
          FROM unnest(p_saga_starts) s
         WHERE NOT EXISTS (SELECT FROM started i WHERE i.type = s.type AND i.key = s.key);
        IF v_detail IS NOT NULL THEN
            RAISE EXCEPTION 'a saga to start exists' USING ERRCODE = 'SG101', DETAIL = v_detail;
        END IF;
    END IF;

    -- By row address, which one index probe for each key finds: see lock_sagas.
    IF cardinality(p_saga_steps) > 0 THEN
        WITH target AS MATERIALIZED (
            SELECT found.row_address, s.*
              FROM unnest(p_saga_steps) s
             CROSS JOIN LATERAL (
                SELECT l.ctid AS row_address FROM saga.saga_live l
                 WHERE l.type = s.type AND l.key = s.key AND l.revision = s.expected_revision
                   AND l.plugin = v_lane.plugin
                   FOR UPDATE) found)
        UPDATE saga.saga_live l
           SET revision = t.new_revision, state = t.state, data = coalesce(t.data, l.data),
               next_at = 'epoch'::timestamptz + t.next_at_us * interval '1 us', overdue = t.overdue,
               log = l.log || t.log, digest = coalesce(t.digest, l.digest)
          FROM target t
         WHERE l.ctid = t.row_address;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        IF v_rows <> cardinality(p_saga_steps) THEN
            -- This transaction has written the rows that did match: those have its xmin and their new
            -- revision.
            SELECT string_agg(format('%s/%s: expected revision %s, actual revision %s',
                                     s.type, s.key, s.expected_revision, coalesce(l.revision::text, 'none')),
                              E'\n')
              INTO v_detail
              FROM unnest(p_saga_steps) s
              LEFT JOIN saga.saga_live l ON l.type = s.type AND l.key = s.key AND l.plugin = v_lane.plugin
             WHERE l.xmin IS DISTINCT FROM pg_current_xact_id()::xid OR l.revision <> s.new_revision;
            RAISE EXCEPTION 'a saga is not at the expected revision'
                  USING ERRCODE = 'SG102', DETAIL = coalesce(v_detail, '');
        END IF;
    END IF;

    IF cardinality(p_saga_ends) > 0 THEN
        WITH target AS MATERIALIZED (
            SELECT found.row_address, e.*
              FROM unnest(p_saga_ends) e
             CROSS JOIN LATERAL (
                SELECT l.ctid AS row_address FROM saga.saga_live l
                 WHERE l.type = e.type AND l.key = e.key AND l.revision = e.expected_revision
                   AND l.plugin = v_lane.plugin
                   FOR UPDATE) found),
        removed AS (
            DELETE FROM saga.saga_live l USING target t WHERE l.ctid = t.row_address
            RETURNING l.type, l.key, l.plugin, l.digest, t.new_revision, t.state,
                      coalesce(t.data, l.data) AS data, l.started_at, t.ending, t.answer,
                      l.log || t.log AS log)
        INSERT INTO saga.saga_done
               (day, type, key, plugin, digest, revision, state, data,
                started_at, ended_at, ending, answer, log)
        SELECT v_today, r.type, r.key, r.plugin, r.digest, r.new_revision, r.state, r.data,
               r.started_at, v_at, r.ending, r.answer, r.log
          FROM removed r;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        IF v_rows <> cardinality(p_saga_ends) THEN
            SELECT string_agg(format('%s/%s: expected revision %s, actual revision %s',
                                     e.type, e.key, e.expected_revision, coalesce(l.revision::text, 'none')),
                              E'\n')
              INTO v_detail
              FROM unnest(p_saga_ends) e
              LEFT JOIN saga.saga_live l ON l.type = e.type AND l.key = e.key AND l.plugin = v_lane.plugin
             WHERE NOT EXISTS (SELECT FROM saga.saga_done d
                                WHERE d.type = e.type AND d.key = e.key AND d.day = v_today
                                  AND d.xmin = pg_current_xact_id()::xid);
            RAISE EXCEPTION 'a saga is not at the expected revision'
                  USING ERRCODE = 'SG102', DETAIL = coalesce(v_detail, '');
        END IF;
    END IF;

    IF cardinality(p_timers_removed) > 0 THEN
        DELETE FROM saga.timer WHERE plugin = v_lane.plugin AND name = ANY (p_timers_removed);
    END IF;
    IF cardinality(p_timers) > 0 THEN
        INSERT INTO saga.timer (plugin, name, due_at, correlation, payload)
        SELECT v_lane.plugin, t.name, 'epoch'::timestamptz + t.due_at_us * interval '1 us',
               t.correlation, t.payload
          FROM unnest(p_timers) t
         ORDER BY t.name
        ON CONFLICT (plugin, name) DO UPDATE
           SET due_at = excluded.due_at, correlation = excluded.correlation, payload = excluded.payload;
    END IF;

    IF cardinality(p_parked_removed) > 0 THEN
        DELETE FROM saga.parked
         WHERE id = ANY (p_parked_removed) AND plugin = v_lane.plugin AND direction = 'in';
    END IF;
    IF cardinality(p_parked_retries) > 0 THEN
        UPDATE saga.parked p
           SET reason = r.reason, attempts = r.attempts, retry_at = now() + r.retry_after_ms * interval '1 ms'
          FROM unnest(p_parked_retries) r
         WHERE p.id = r.id AND p.plugin = v_lane.plugin;
    END IF;
    IF cardinality(p_parked) > 0 THEN
        INSERT INTO saga.parked
               (direction, plugin, topic, partition, position, key, body, reason, attempts, retry_at)
        SELECT 'in', v_lane.plugin, p.topic, p.partition, p.position, p.key, p.body, p.reason, p.attempts,
               now() + p.retry_after_ms * interval '1 ms'
          FROM unnest(p_parked) WITH ORDINALITY
               p (topic, partition, position, key, body, reason, attempts, retry_after_ms, place)
         ORDER BY p.place;
    END IF;

    IF cardinality(p_ignored) > 0 THEN
        INSERT INTO saga.ignored (day, plugin, source, key, reason)
        SELECT v_today, v_lane.plugin, i.source, i.key, i.reason FROM unnest(p_ignored) i;
    END IF;
    IF cardinality(p_stored_answers) > 0 THEN
        INSERT INTO saga.stored_answer (day, plugin, idempotency_key, request_hash, response)
        SELECT v_today, v_lane.plugin, a.idempotency_key, a.request_hash, a.response
          FROM unnest(p_stored_answers) a
         ORDER BY a.idempotency_key;
    END IF;

    IF p_outbox_body IS NOT NULL THEN
        v_seq := nextval('saga.outbox_seq');
        INSERT INTO saga.outbox (seq, slot, epoch, unit, body)
        VALUES (v_seq, p_slot, v_lane.epoch, v_lane.unit, p_outbox_body);
    END IF;
    RETURN v_seq;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA saga FROM PUBLIC;
