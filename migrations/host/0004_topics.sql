-- Topics: how many partitions the hosts of this database have agreed on, and which topic a claim is about. A
-- topic that was deleted and created again has another topic id.

-- One row for each topic that this database publishes to. `partitions` only grows while the topic id stays;
-- `version` counts the changes.
CREATE TABLE saga.topic (
    topic      text   PRIMARY KEY,
    topic_id   uuid,
    partitions int    NOT NULL CHECK (partitions > 0),
    version    bigint NOT NULL DEFAULT 1
);

-- Agrees on the partition counts of topics: records those that are new or have grown, and returns what holds
-- for all hosts. The three arrays are the columns of one list.
--
-- A unit routes its records by the counts that its host knows. So that no unit commits under an old count
-- after another has committed under the new one, a change ends all lane leases: the lock waits for the units
-- that run, `saga.open` refuses the next ones, and a lane reads the counts after it has acquired its lease
-- again. A change is rare, and a unit pays nothing. While it waits, units queue behind it, so it waits for less
-- time than they do; the host tries again. Call it outside of a transaction, which would keep the lock.
CREATE FUNCTION saga.agree_topics(p_topics text[], p_topic_ids uuid[], p_partitions int[])
RETURNS TABLE (agreed_topic text, agreed_partitions int, agreed_version bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, saga, pg_temp SET lock_timeout = '300ms' AS $$
BEGIN
    INSERT INTO saga.topic (topic, topic_id, partitions)
    SELECT p.topic, p.topic_id, p.partitions
      FROM unnest(p_topics, p_topic_ids, p_partitions) p (topic, topic_id, partitions)
     ORDER BY p.topic
    ON CONFLICT DO NOTHING;
    IF EXISTS (SELECT FROM unnest(p_topics, p_topic_ids, p_partitions) p (topic, topic_id, partitions)
                 JOIN saga.topic t ON t.topic = p.topic
                WHERE p.partitions > t.partitions OR p.topic_id <> t.topic_id)
    THEN
        LOCK TABLE saga.lane IN SHARE ROW EXCLUSIVE MODE;
        UPDATE saga.topic t
           SET topic_id = coalesce(p.topic_id, t.topic_id), version = t.version + 1, partitions =
               CASE WHEN p.topic_id <> t.topic_id THEN p.partitions
                    ELSE greatest(p.partitions, t.partitions) END
          FROM unnest(p_topics, p_topic_ids, p_partitions) p (topic, topic_id, partitions)
         WHERE t.topic = p.topic AND (p.partitions > t.partitions OR p.topic_id <> t.topic_id);
        -- Another host may have done the same while this one waited. The lease of a lane that is idle stays
        -- visible until its host acquires it again: hosts agree on formats by the leases that they see.
        IF FOUND THEN
            UPDATE saga.lane SET epoch = epoch + 1,
                   lease_expires_at = least(lease_expires_at, now() + interval '5 s') WHERE slot > 0;
        END IF;
    END IF;
    RETURN QUERY
    SELECT t.topic, t.partitions, t.version FROM saga.topic t WHERE t.topic = ANY (p_topics);
END $$;

-- The topic that `next_offset` is about; NULL when the claim was made before this was recorded.
ALTER TABLE saga.partition_claim ADD COLUMN topic_id uuid;

-- One row for each topic that a plugin reads: how many partitions it had when the plugin began to read it.
-- Partitions that were added later are read from their beginning, wherever the plugin began.
CREATE TABLE saga.topic_reader (
    plugin     text NOT NULL,
    topic      text NOT NULL,
    topic_id   uuid,
    partitions int  NOT NULL,
    PRIMARY KEY (plugin, topic)
);

-- What a plugin finds in a partition that it has claimed:
--   goes_on    it reads on at its position
--   begins     it has never read the partition, which was there when it began to read the topic
--   added      it has never read the partition, which was added later
--   made_anew  its position is about a topic that was deleted and created again
-- Fails when the claim has another epoch: another host has claimed the partition.
CREATE FUNCTION saga.compare_topic(p_claim_id int, p_claim_epoch bigint, p_topic_id uuid, p_partitions int)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, saga, pg_temp AS $$
DECLARE
    v_claim  saga.partition_claim;
    v_reader saga.topic_reader;
BEGIN
    SELECT * INTO STRICT v_claim FROM saga.partition_claim WHERE id = p_claim_id AND epoch = p_claim_epoch;
    -- Where claims are older than this table, their partitions were there.
    INSERT INTO saga.topic_reader (plugin, topic, topic_id, partitions)
    SELECT v_claim.plugin, v_claim.topic, p_topic_id, coalesce(max(c.partition) + 1, p_partitions)
      FROM saga.partition_claim c
     WHERE c.plugin = v_claim.plugin AND c.topic = v_claim.topic AND c.next_offset >= 0
    ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT v_reader FROM saga.topic_reader
     WHERE plugin = v_claim.plugin AND topic = v_claim.topic FOR UPDATE;
    IF v_reader.topic_id IS DISTINCT FROM p_topic_id AND p_topic_id IS NOT NULL THEN
        -- All partitions of a topic that was made anew are new.
        UPDATE saga.topic_reader
           SET topic_id = p_topic_id,
               partitions = CASE WHEN v_reader.topic_id IS NULL THEN v_reader.partitions ELSE 0 END
         WHERE plugin = v_claim.plugin AND topic = v_claim.topic
        RETURNING * INTO v_reader;
    END IF;
    RETURN CASE
        WHEN v_claim.next_offset < 0 AND v_claim.partition < v_reader.partitions THEN 'begins'
        WHEN v_claim.next_offset < 0 THEN 'added'
        WHEN v_claim.topic_id <> p_topic_id THEN 'made_anew'
        ELSE 'goes_on' END;
END $$;

REVOKE ALL ON FUNCTION saga.agree_topics, saga.compare_topic FROM PUBLIC;
