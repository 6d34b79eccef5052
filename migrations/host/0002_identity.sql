-- The identity of a database, which starts the ids of all records that it publishes; sagas that end twice on
-- one day; and idempotency keys of two hosts at midnight.


-- Identity --------------------------------------------------------------------------------------------------

-- One row: the identity of this database, and where it was given. A database that is found elsewhere is a
-- copy, or was restored, or its server was promoted and may have lost commits: it takes a new identity.
CREATE TABLE saga.database_identity (
    only_row          boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Seconds since 1970, then a random number, 8 hex digits each: a later identity sorts higher.
    identity          text        NOT NULL CHECK (identity ~ '^[0-9a-f]{16}$'),
    -- Of the server; NULL where this account may not call pg_control_system.
    system_identifier bigint,
    -- Of the server's log, in hex: a promotion starts another one. NULL where it cannot be read.
    timeline          text,
    database_oid      oid         NOT NULL,
    database_name     name        NOT NULL,
    -- Of this table: tells a restored dump from its original where the system identifier is unknown.
    table_oid         oid         NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now()
);

-- The server's system identifier and timeline, as far as this account may read them.
CREATE FUNCTION saga.server_origin(OUT system_identifier bigint, OUT timeline text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    BEGIN
        system_identifier := (SELECT s.system_identifier FROM pg_control_system() s);
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        system_identifier := NULL;
    END;
    BEGIN
        timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported
                OR object_not_in_prerequisite_state THEN
        timeline := NULL;
    END;
END $$;

-- The identity of this database. Gives it a new one first where it has none, or has one from elsewhere; then
-- `replaced` is the earlier one. A new identity ends all leases, in the same transaction: no lane and no
-- leader goes on under the earlier one.
CREATE FUNCTION saga.confirm_identity(OUT identity text, OUT replaced text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_stored  saga.database_identity;
    v_origin  record;
    v_oid     oid := (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
    v_second  bigint := extract(epoch FROM clock_timestamp())::bigint;
BEGIN
    SELECT * INTO v_origin FROM saga.server_origin();
    FOR v_attempt IN 1..2 LOOP
        SELECT * INTO v_stored FROM saga.database_identity;
        -- What is unknown on one of the two sides is no difference.
        IF FOUND AND v_stored.database_oid = v_oid AND v_stored.database_name = current_database()
           AND v_stored.table_oid = 'saga.database_identity'::regclass
           AND coalesce(v_stored.system_identifier = v_origin.system_identifier, true)
           AND coalesce(v_stored.timeline = v_origin.timeline, true)
        THEN
            identity := v_stored.identity;
            RETURN;
        END IF;
        -- Then looks again: another host may have been first.
        IF v_attempt = 1 THEN
            LOCK TABLE saga.database_identity IN SHARE ROW EXCLUSIVE MODE;
        END IF;
    END LOOP;

    replaced := v_stored.identity;
    IF replaced IS NOT NULL THEN
        -- Later than the earlier one, also where the clock is behind.
        v_second := greatest(v_second, ('x' || left(replaced, 8))::bit(32)::bigint + 1);
    END IF;
    identity := lpad(to_hex(v_second), 8, '0') || left(gen_random_uuid()::text, 8);
    DELETE FROM saga.database_identity;
    INSERT INTO saga.database_identity
           (identity, system_identifier, timeline, database_oid, database_name, table_oid)
    VALUES (identity, v_origin.system_identifier, v_origin.timeline, v_oid, current_database(),
            'saga.database_identity'::regclass);
    UPDATE saga.lane
       SET epoch = greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint),
           lease_expires_at = '-infinity'
     WHERE replaced IS NOT NULL;
END $$;


-- Sagas that have ended -------------------------------------------------------------------------------------

-- A key may start and end more than once on one day.
ALTER TABLE saga.saga_done DROP CONSTRAINT saga_done_pkey;
ALTER TABLE saga.saga_done ADD PRIMARY KEY (type, key, day, started_at);


-- Idempotency keys ------------------------------------------------------------------------------------------

-- The stored answers of these idempotency keys. First waits for units of other lanes that have asked for one
-- of them, until those units end: then their answers are found here, whatever day they were stored under.
-- Sorted, so that no two units wait for each other.
CREATE OR REPLACE FUNCTION saga.stored_answers(p_slot int, p_idempotency_keys text[])
RETURNS TABLE (idempotency_key text, request_hash bytea, response bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_plugin text := (SELECT l.plugin FROM saga.lane l WHERE l.slot = p_slot AND l.role = session_user);
    v_lock   bigint;
BEGIN
    FOR v_lock IN
        SELECT DISTINCT hashtextextended(v_plugin || ' ' || k, 0) FROM unnest(p_idempotency_keys) k ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock(v_lock);
    END LOOP;
    RETURN QUERY
    SELECT a.idempotency_key, a.request_hash, a.response FROM saga.stored_answer a
     WHERE a.plugin = v_plugin AND a.idempotency_key = ANY (p_idempotency_keys);
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA saga FROM PUBLIC;
