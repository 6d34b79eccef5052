-- The host's own bookkeeping, in each service's database. Only the host's account writes here;
-- a plugin's role reaches it through the SECURITY DEFINER functions of 0002.

-- One row per lane: the chain of units that one lane of one host commits. Slot 0 belongs to no
-- lane: who holds it leads the relay and the timers of this database.
CREATE TABLE saga.lane (
    slot        int         PRIMARY KEY,
    plugin      text        NOT NULL,
    role        name        NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('leader', 'kafka', 'http')),
    owner       text        NOT NULL,
    epoch       bigint      NOT NULL,
    unit        bigint      NOT NULL,
    token       bytea       NOT NULL,
    lease_until timestamptz NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

INSERT INTO saga.lane VALUES (0, '', '', 'leader', '', 0, 0, '', '-infinity');

-- One row per partition that a plugin reads: where it stands, and the high-water mark of every
-- stream (a lane of some saga-host database) seen in it, which de-duplicates records of ours.
CREATE TABLE saga.partition_claim (
    id          int    GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plugin      text   NOT NULL,
    role        name   NOT NULL,
    topic       text   NOT NULL,
    partition   int    NOT NULL,
    epoch       bigint NOT NULL,
    next_offset bigint NOT NULL,
    dedup_marks        text   NOT NULL DEFAULT '',
    UNIQUE (plugin, topic, partition)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Committed, not yet acknowledged by Kafka: one row per unit, its records encoded.
CREATE SEQUENCE saga.outbox_seq CACHE 1;
CREATE TABLE saga.outbox (
    seq   bigint PRIMARY KEY,
    slot  int    NOT NULL,
    epoch bigint NOT NULL,
    unit  bigint NOT NULL,
    body  bytea  NOT NULL,
    -- Places in `body` of records that are in `held` instead of being sent.
    parked int[]  NOT NULL DEFAULT '{}'
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE saga.outbox ALTER COLUMN body SET STORAGE EXTERNAL;

-- Sagas in flight, each with the version that handles it. `next_at` is NOT NULL: a saga that nothing looks at again
-- cannot be stored. A unit finds them by key alone, whatever types its versions know.
CREATE TABLE saga.saga_live (
    type     text        NOT NULL,
    key      text        NOT NULL,
    plugin   text        NOT NULL,
    version  text        NOT NULL,
    revision bigint      NOT NULL,
    state    text        NOT NULL,
    data     text        NOT NULL,
    began    timestamptz NOT NULL,
    next_at  timestamptz NOT NULL,
    overdue  boolean     NOT NULL DEFAULT false,
    log      text        NOT NULL,
    PRIMARY KEY (key, type)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE INDEX saga_live_next_at ON saga.saga_live (next_at);

CREATE TABLE saga.saga_done (
    day      date        NOT NULL,
    type     text        NOT NULL,
    key      text        NOT NULL,
    plugin   text        NOT NULL,
    version  text        NOT NULL,
    revision bigint      NOT NULL,
    state    text        NOT NULL,
    data     text        NOT NULL,
    began    timestamptz NOT NULL,
    ended    timestamptz NOT NULL,
    ending   text        NOT NULL CHECK (ending IN ('completed', 'compensated', 'failed')),
    answer   text,
    log      text        NOT NULL,
    PRIMARY KEY (type, key, day)
) PARTITION BY RANGE (day);

CREATE TABLE saga.timer (
    plugin      text        NOT NULL,
    name        text        NOT NULL,
    due_at      timestamptz NOT NULL,
    correlation text,
    payload     bytea       NOT NULL,
    PRIMARY KEY (plugin, name)
);
CREATE INDEX timer_due_at ON saga.timer (due_at);

-- Deliveries that wait for a retry (`retry_at`) or for a person (none). `body` is the encoded
-- delivery (direction in) or record (direction out).
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
    parked_at   timestamptz NOT NULL DEFAULT now(),
    retry_at  timestamptz
);
CREATE INDEX parked_source ON saga.parked (plugin, topic, partition, key, id);
CREATE INDEX parked_retry_at ON saga.parked (retry_at) WHERE retry_at IS NOT NULL;

-- What a person decided about a held delivery, and deliveries that changed nothing.
CREATE TABLE saga.ignored (
    day       date        NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    plugin    text        NOT NULL,
    source    text        NOT NULL,
    key       text,
    reason    text        NOT NULL
) PARTITION BY RANGE (day);
CREATE INDEX ignored_key ON saga.ignored (key);

-- Answers kept for Idempotency-Key.
CREATE TABLE saga.request (
    day      date  NOT NULL,
    plugin   text  NOT NULL,
    key      text  NOT NULL,
    hash     bytea NOT NULL,
    response bytea NOT NULL,
    PRIMARY KEY (plugin, key, day)
) PARTITION BY RANGE (day);

-- Ids of foreign producers, only for subscriptions that ask for it.
CREATE TABLE saga.foreign_inbox (
    day    date NOT NULL,
    plugin text NOT NULL,
    id     text NOT NULL,
    PRIMARY KEY (plugin, id, day)
) PARTITION BY RANGE (day);

-- Versions of a plugin, by the SHA-256 of the component: what can be activated again.
CREATE TABLE saga.component (
    plugin text  NOT NULL,
    digest text  NOT NULL,
    body   bytea NOT NULL,
    PRIMARY KEY (plugin, digest)
);

-- Policies by the SHA-256 of their text: a version that sagas in flight stay with keeps the one that it had.
CREATE TABLE saga.policy (
    digest text PRIMARY KEY,
    body   text NOT NULL
);

-- Which version of a plugin is active: the row with the highest generation.
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

-- Makes the partitions of the next days and drops those older than they are kept for.
CREATE FUNCTION saga.roll_partitions(p_days_ahead int, p_keep_done int, p_keep_short int)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_table text;
    v_day   date;
    v_part  text;
    v_keep  int;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['saga_done', 'ignored', 'request', 'foreign_inbox'] LOOP
        FOR v_day IN SELECT d::date FROM generate_series(
            (now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date + p_days_ahead, '1 day') d
        LOOP
            v_part := v_table || '_' || to_char(v_day, 'YYYYMMDD');
            IF to_regclass('saga.' || v_part) IS NULL THEN
                EXECUTE format('CREATE TABLE saga.%I PARTITION OF saga.%I FOR VALUES FROM (%L) TO (%L)',
                               v_part, v_table, v_day, v_day + 1);
            END IF;
        END LOOP;
        v_keep := CASE v_table WHEN 'saga_done' THEN p_keep_done WHEN 'ignored' THEN p_keep_done
                  ELSE p_keep_short END;
        FOR v_part IN
            SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = ('saga.' || v_table)::regclass
              -- A plan may look at all of pg_class first: only CASE keeps other names from being read as a day.
              AND CASE WHEN c.relname ~ '_[0-9]{8}$'
                       THEN to_date(right(c.relname, 8), 'YYYYMMDD') < (now() AT TIME ZONE 'UTC')::date - v_keep
                       ELSE false END
        LOOP
            EXECUTE format('DROP TABLE saga.%I', v_part);
        END LOOP;
    END LOOP;
END $$;
