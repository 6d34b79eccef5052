-- Which formats of stored bodies (outbox, parked, stored_answer) each host reads. A host states it with the
-- lease of a lane, and writes a format only while every host with a lease reads it. `reads_owner` is the owner
-- that has stated it: a build that does not know these columns takes a slot over without changing them, and
-- counts as one that reads format 0 only.
ALTER TABLE saga.lane
    ADD COLUMN reads_format int  NOT NULL DEFAULT 0,
    ADD COLUMN reads_owner  text NOT NULL DEFAULT '';
