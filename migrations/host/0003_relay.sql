-- The relay: parked records that are sent again, and a leader that is cut off from Kafka.

-- The message id under which a redriven record is sent, stored before the first attempt: after a crash it is
-- sent under the same id. NULL while no attempt is under way.
ALTER TABLE saga.parked ADD COLUMN sent_as text;

-- Direction out, as direction in: a row that waits for an earlier one of its key has 0 attempts.
UPDATE saga.parked SET attempts = 0
 WHERE direction = 'out' AND key IS NOT NULL AND reason = 'an earlier record of its key is parked';

-- The relay finds the first parked record of a key.
CREATE INDEX parked_out ON saga.parked (topic, key, position) WHERE direction = 'out';

-- One row: the last leader of the relay to which Kafka acknowledged nothing although records waited, where
-- the first of them waits, and the host that reaches the broker there.
CREATE TABLE saga.relay_stall (
    id           int         PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    leader_epoch bigint      NOT NULL,
    topic        text        NOT NULL,
    partition    int         NOT NULL,
    stalled_at   timestamptz NOT NULL,
    candidate    text,
    offered_at   timestamptz
);
INSERT INTO saga.relay_stall (leader_epoch, topic, partition, stalled_at) VALUES (0, '', 0, '-infinity');
