//! What the roles of a plugin may do: what they need, and what they must not be able to do.
//!
//! A plugin's role reads and writes the business tables and calls the functions of a unit. It creates
//! nothing, not even temporary tables, which would hide others. The owner's role creates and owns these
//! tables, in the schema `public` and in schemas of its own. Neither touches the tables of the schema `saga`.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Database, PluginRole, roles::sqlstate, session_functions};

/// The functions that a lane of this build calls under its plugin's role, in all their overloads. What the
/// role may call is in the table `saga.unit_function`: the next build may have more.
pub(super) const UNIT_FUNCTIONS: [&str; 6] =
    ["open", "lock_sagas", "lock_parked_and_timers", "stored_answers", "record_foreign_ids", "flush"];

/// What a measure does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Gives a role what it needs.
    Grant,
    /// Takes away what PUBLIC or a role has by default, or by an earlier grant in this database.
    Revoke,
    /// Takes away what an administrator has given to a role on purpose. The host only asks for it.
    Administer,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            "grant" => Self::Grant,
            "revoke" => Self::Revoke,
            _ => Self::Administer,
        }
    }
}

/// A statement that is needed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) kind: Kind,
    /// Whether the host's account may run the statement, as far as the catalog shows.
    pub(super) own: bool,
    /// What is wrong without it.
    pub(super) finding: String,
    /// One or more SQL statements.
    pub(super) statement: String,
}

/// The measures that are needed for the plugin's role, and for the owner's role too where `of_owner` is true.
/// A role may not exist yet.
pub(super) async fn measures(
    connection: &mut PgConnection,
    database: &Database,
    role: &PluginRole,
    of_owner: bool,
) -> Result<Vec<Measure>, sqlx::Error> {
    let statement = format!("{ROLES} {GRANTS} UNION ALL {REVOKES} UNION ALL {GRANTED_ON_PURPOSE}");
    let rows: Vec<(String, bool, String, String)> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(&role.name)
        .bind(database.owner_role())
        .bind(of_owner)
        .fetch_all(&mut *connection)
        .await?;
    let mut measures: Vec<Measure> = rows
        .into_iter()
        .map(|(kind, own, finding, statement)| Measure { kind: Kind::of(&kind), own, finding, statement })
        .collect();
    measures.extend(session_functions::measure(connection).await?);
    Ok(measures)
}

/// Runs the statements of these kinds that the account may run. Returns the others.
pub(super) async fn carry_out(
    connection: &mut PgConnection,
    measures: Vec<Measure>,
    kinds: &[Kind],
) -> Result<Vec<Measure>, sqlx::Error> {
    let mut left = Vec::new();
    for measure in measures {
        if !kinds.contains(&measure.kind) || !measure.own {
            left.push(measure);
            continue;
        }
        let statement = AssertSqlSafe(measure.statement.clone());
        let Err(error) = sqlx::raw_sql(statement).execute(&mut *connection).await else { continue };
        match sqlstate(&error).as_deref() {
            Some("42501") => left.push(measure),
            // The role does not exist, and an administrator must create it: this comes at the next start.
            Some("42704") => {}
            _ => return Err(error),
        }
    }
    Ok(left)
}

/// The roles, this database, its schemas `public`, `saga` and those of the owner's role, and what is in them;
/// `own` is what belongs to the account. `$1` is the plugin's role, `$2` the owner's, `$3` whether the rights
/// of the owner's role are asked for.
const ROLES: &str = "
    WITH role AS (
        SELECT v.name, v.owns, r.oid
          FROM (VALUES ($1::text, false), ($2::text, true)) v (name, owns)
          LEFT JOIN pg_roles r ON r.rolname = v.name
         WHERE $3 OR NOT v.owns),
    here AS (
        SELECT oid, datname AS name, pg_has_role(datdba, 'USAGE') AS own
          FROM pg_database WHERE datname = current_database()),
    space AS (
        SELECT oid, nspname AS name, pg_has_role(nspowner, 'USAGE') AS own
          FROM pg_namespace
         WHERE nspname IN ('public', 'saga') OR pg_get_userbyid(nspowner) = $2),
    relation AS (
        SELECT c.oid, s.name AS space, c.relkind = 'S' AS is_sequence,
               pg_has_role(c.relowner, 'USAGE') AS own
          FROM pg_class c JOIN space s ON s.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')),
    routine AS (
        SELECT p.oid, r.name AS role, pg_has_role(p.proowner, 'USAGE') AS own,
               has_function_privilege(r.oid, p.oid, 'EXECUTE') AS callable,
               CASE WHEN r.owns THEN p.proname = 'record_migration'
                    ELSE p.proname IN (SELECT u.name FROM saga.unit_function u) END AS needed
          FROM pg_proc p JOIN space s ON s.oid = p.pronamespace AND s.name = 'saga', role r)";

const GRANTS: &str = "
    SELECT 'grant' AS kind, h.own,
           format('role %s may not connect to database %s', r.name, h.name) AS finding,
           format('GRANT CONNECT ON DATABASE %I TO %I', h.name, r.name) AS statement
      FROM role r, here h WHERE NOT coalesce(has_database_privilege(r.oid, h.oid, 'CONNECT'), false)
    UNION ALL
    SELECT 'grant', s.own, format('role %s may not use schema %s', r.name, s.name),
           format('GRANT USAGE ON SCHEMA %I TO %I', s.name, r.name)
      FROM role r, space s WHERE NOT coalesce(has_schema_privilege(r.oid, s.oid, 'USAGE'), false)
    UNION ALL
    SELECT 'grant', h.own, format('role %s may not create schemas in database %s', r.name, h.name),
           format('GRANT CREATE ON DATABASE %I TO %I', h.name, r.name)
      FROM role r, here h
     WHERE r.owns AND NOT coalesce(has_database_privilege(r.oid, h.oid, 'CREATE'), false)
    UNION ALL
    SELECT 'grant', s.own, format('role %s may not create tables in schema %s', r.name, s.name),
           format('GRANT CREATE ON SCHEMA %I TO %I', s.name, r.name)
      FROM role r, space s
     WHERE r.owns AND s.name = 'public' AND NOT coalesce(has_schema_privilege(r.oid, s.oid, 'CREATE'), false)
    UNION ALL
    SELECT 'grant', r.oid IS NOT NULL, format('account %s is not a member of role %s', current_user, r.name),
           format('GRANT %I TO %I', r.name, current_user)
      FROM role r
     WHERE r.owns AND NOT coalesce(pg_has_role(r.oid, 'USAGE'),
                                   (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))
    UNION ALL
    SELECT 'grant', bool_and(f.own), format('role %s may not call functions of schema saga', f.role),
           format('GRANT EXECUTE ON FUNCTION %s TO %I', string_agg(f.oid::regprocedure::text, ', '), f.role)
      FROM routine f WHERE f.needed AND NOT coalesce(f.callable, false) GROUP BY f.role
    UNION ALL
    SELECT 'grant', true, format('role %s may not use tables of schema %s', r.name, c.space),
           format('GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO %I',
                  string_agg(c.oid::regclass::text, ', '), r.name)
      FROM role r, relation c
     WHERE NOT r.owns AND c.space <> 'saga' AND c.own AND NOT c.is_sequence
       AND NOT (has_table_privilege(r.oid, c.oid, 'SELECT') AND has_table_privilege(r.oid, c.oid, 'INSERT')
                AND has_table_privilege(r.oid, c.oid, 'UPDATE')
                AND has_table_privilege(r.oid, c.oid, 'DELETE'))
     GROUP BY r.name, c.space
    UNION ALL
    SELECT 'grant', true, format('role %s may not use sequences of schema %s', r.name, c.space),
           format('GRANT USAGE, SELECT ON SEQUENCE %s TO %I', string_agg(c.oid::regclass::text, ', '), r.name)
      FROM role r, relation c
     WHERE NOT r.owns AND c.space <> 'saga' AND c.own AND c.is_sequence
       AND NOT (has_sequence_privilege(r.oid, c.oid, 'USAGE')
                AND has_sequence_privilege(r.oid, c.oid, 'SELECT'))
     GROUP BY r.name, c.space";

const REVOKES: &str = "
    SELECT 'revoke', h.own, format('PUBLIC may create temporary tables or schemas in database %s', h.name),
           format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC', h.name)
      FROM here h
     WHERE has_database_privilege('public', h.oid, 'TEMPORARY')
        OR has_database_privilege('public', h.oid, 'CREATE')
    UNION ALL
    SELECT 'revoke', h.own, format('role %s may create temporary tables or schemas', r.name),
           format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM %I', h.name, r.name)
      FROM role r, here h
     WHERE NOT r.owns AND (has_database_privilege(r.oid, h.oid, 'TEMPORARY')
                           AND NOT has_database_privilege('public', h.oid, 'TEMPORARY')
                        OR has_database_privilege(r.oid, h.oid, 'CREATE')
                           AND NOT has_database_privilege('public', h.oid, 'CREATE'))
    UNION ALL
    SELECT 'revoke', s.own, format('PUBLIC may create tables in schema %s', s.name),
           format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', s.name)
      FROM space s WHERE has_schema_privilege('public', s.oid, 'CREATE')
    UNION ALL
    SELECT 'revoke', s.own, format('role %s may create tables in schema %s', r.name, s.name),
           format('REVOKE CREATE ON SCHEMA %I FROM %I', s.name, r.name)
      FROM role r, space s
     WHERE (NOT r.owns OR s.name = 'saga') AND has_schema_privilege(r.oid, s.oid, 'CREATE')
       AND NOT has_schema_privilege('public', s.oid, 'CREATE')
    UNION ALL
    SELECT 'revoke', bool_and(c.own), format('role %s may use tables of schema saga', r.name),
           format('REVOKE ALL ON TABLE %s FROM PUBLIC, %I', string_agg(c.oid::regclass::text, ', '), r.name)
      FROM role r, relation c
     WHERE c.space = 'saga' AND NOT c.is_sequence
       AND has_table_privilege(r.oid, c.oid,
                               'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
     GROUP BY r.name
    UNION ALL
    SELECT 'revoke', bool_and(c.own), format('role %s may use sequences of schema saga', r.name),
           format('REVOKE ALL ON SEQUENCE %s FROM PUBLIC, %I', string_agg(c.oid::regclass::text, ', '),
                  r.name)
      FROM role r, relation c
     WHERE c.space = 'saga' AND c.is_sequence
       AND has_sequence_privilege(r.oid, c.oid, 'USAGE, SELECT, UPDATE')
     GROUP BY r.name
    UNION ALL
    SELECT 'revoke', bool_and(f.own), format('role %s may call functions of the host', f.role),
           format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC, %I',
                  string_agg(f.oid::regprocedure::text, ', '), f.role)
      FROM routine f WHERE f.callable AND NOT f.needed GROUP BY f.role";

const GRANTED_ON_PURPOSE: &str = "
    SELECT 'administer', false, format('role %s is a member of role %s', r.name, g.rolname),
           format('REVOKE %I FROM %I', g.rolname, r.name)
      FROM role r JOIN pg_auth_members m ON m.member = r.oid JOIN pg_roles g ON g.oid = m.roleid
    UNION ALL
    SELECT 'administer', false, format('role %s may call %s', r.name, string_agg(p.proname, ', ')),
           format('REVOKE EXECUTE ON FUNCTION %s FROM %I', string_agg(p.oid::regprocedure::text, ', '),
                  r.name)
      FROM role r, pg_proc p
     WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proacl IS NOT NULL
       AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
       AND NOT has_function_privilege('public', p.oid, 'EXECUTE')
       AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid)
     GROUP BY r.name";

#[cfg(test)]
mod tests {
    use super::{super::migrate::host_migrations, UNIT_FUNCTIONS};

    #[test]
    fn the_role_may_call_what_a_lane_calls() {
        let schema: String = host_migrations().into_iter().map(|migration| migration.sql).collect();
        let (_, names) = schema.split_once("INSERT INTO saga.unit_function").unwrap_or_default();
        for name in UNIT_FUNCTIONS {
            assert!(names.contains(&format!("('{name}')")), "{name} is not in saga.unit_function");
        }
    }
}
