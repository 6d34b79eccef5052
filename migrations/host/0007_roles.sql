-- The passwords of the roles that the host logs in as, the functions that a plugin's role may call, and how a
-- plugin's migration is recorded.


-- The password of each role that the host has created: of the plugins, which their units run under, and of
-- the owner of their tables, which their migrations run under. Every host on this database reads them here,
-- so they do not depend on the account that a host uses.
CREATE TABLE saga.role_password (
    role     name NOT NULL PRIMARY KEY,
    password text NOT NULL
);
REVOKE ALL ON saga.role_password FROM PUBLIC;

-- The functions that the role of a plugin may call, in all their overloads. A migration that creates one for
-- units adds its name here, so that a host of an earlier build does not take it from the role.
CREATE TABLE saga.unit_function (
    name name NOT NULL PRIMARY KEY
);
REVOKE ALL ON saga.unit_function FROM PUBLIC;
INSERT INTO saga.unit_function (name)
VALUES ('open'), ('lock_sagas'), ('lock_parked_and_timers'), ('stored_answers'), ('record_foreign_ids'),
       ('flush');

-- Records a plugin's migration. The migration runs in the same transaction, under the role that owns the
-- plugins' tables and that may not write here.
CREATE FUNCTION saga.record_migration(p_plugin text, p_name text, p_sha256 text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, saga, pg_temp AS $$
BEGIN
    IF p_plugin = 'host' THEN
        RAISE EXCEPTION 'only the host records its own migrations' USING ERRCODE = '42501';
    END IF;
    INSERT INTO saga.migration (owner, name, sha256) VALUES (p_plugin, p_name, p_sha256);
END $$;
REVOKE ALL ON FUNCTION saga.record_migration FROM PUBLIC;
