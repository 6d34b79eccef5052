-- Creates partitions without waiting for readers.
--
-- `CREATE TABLE … PARTITION OF` locks the parent table against everything, so it waits for any reader, for
-- example a dump, and everybody else waits behind it. A table that is created apart and then attached needs a
-- lock that readers and writers do not conflict with. Dropping a partition has to wait for its readers, so it
-- is a function of its own.

-- Creates the partitions from yesterday to `p_days_ahead` days from now.
CREATE FUNCTION saga.create_partitions(p_days_ahead int)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_today     date := (now() AT TIME ZONE 'UTC')::date;
    v_table     text;
    v_day       date;
    v_partition text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['saga_done', 'ignored', 'stored_answer', 'foreign_inbox'] LOOP
        FOR v_day IN SELECT d::date FROM generate_series(v_today - 1, v_today + p_days_ahead, '1 day') d LOOP
            v_partition := v_table || '_' || to_char(v_day, 'YYYYMMDD');
            IF to_regclass('saga.' || v_partition) IS NULL THEN
                EXECUTE format('CREATE TABLE saga.%I (LIKE saga.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS '
                               'INCLUDING STORAGE INCLUDING COMPRESSION)', v_partition, v_table);
                EXECUTE format('ALTER TABLE saga.%I ATTACH PARTITION saga.%I FOR VALUES FROM (%L) TO (%L)',
                               v_table, v_partition, v_day, v_day + 1);
            END IF;
        END LOOP;
    END LOOP;
END $$;

-- Drops the partitions that are older than their retention.
CREATE FUNCTION saga.drop_partitions(p_keep_done_days int, p_keep_short_days int)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_today     date := (now() AT TIME ZONE 'UTC')::date;
    v_table     text;
    v_partition text;
    v_keep_days int;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['saga_done', 'ignored', 'stored_answer', 'foreign_inbox'] LOOP
        v_keep_days := CASE WHEN v_table IN ('saga_done', 'ignored') THEN p_keep_done_days
                            ELSE p_keep_short_days END;
        FOR v_partition IN
            SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = ('saga.' || v_table)::regclass
               -- A plan may scan all of pg_class first: only CASE keeps to_date from reading other names.
               AND CASE WHEN c.relname ~ '_[0-9]{8}$'
                        THEN to_date(right(c.relname, 8), 'YYYYMMDD') < v_today - v_keep_days
                        ELSE false END
        LOOP
            EXECUTE format('DROP TABLE saga.%I', v_partition);
        END LOOP;
    END LOOP;
END $$;

-- What an earlier build calls.
CREATE OR REPLACE FUNCTION saga.roll_partitions(p_days_ahead int, p_keep_done_days int, p_keep_short_days int)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM saga.create_partitions(p_days_ahead);
    PERFORM saga.drop_partitions(p_keep_done_days, p_keep_short_days);
END $$;

REVOKE ALL ON FUNCTION saga.create_partitions, saga.drop_partitions, saga.roll_partitions FROM PUBLIC;
