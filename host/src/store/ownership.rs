//! Who owns the objects of a database. The tables of plugins belong to the owner's role. The schema `saga`
//! belongs to the host's account, or to a role of which it is a member.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{
    Database, ProvisionError, quote_ident, quote_literal,
    rights::{Kind, Measure},
    roles::sqlstate,
    session_functions::NEEDED,
};
use crate::config::MigrationsMode;

/// How long to wait for a table that is in use, while others wait behind the host.
const LOCK_TIMEOUT: &str = "500ms";
/// The same after the first table that was in use: a dump uses all of them.
const NEXT_LOCK_TIMEOUT: &str = "10ms";
/// What to do about a migration that needs such a table.
const IN_USE: &str = ". The table still belongs to another role. The host gives it to the role that runs \
                      migrations at the next attempt, which waits for a transaction that is still open and has \
                      used it, e.g. of a dump: wait for its end, or end it";

/// The parts of a database that should belong to the owner's role, and do not.
#[derive(Debug, Default)]
pub(super) struct Untransferred {
    /// Whether some are in use.
    in_use: bool,
    /// The roles that own the others.
    owners: Vec<String>,
    /// The SQL that gives these to the owner's role.
    statements: Vec<String>,
}

/// Gives the owner's role what belongs to the account, or to that of an earlier host: a version of the host
/// ran the plugins' migrations under it. And what belongs to the owner's role of another database, of which
/// this one is a copy. Each part in a transaction of its own. A plugin can run whoever owns its tables; only
/// its migrations cannot change those of others.
pub(super) async fn give_tables_to_owner(
    connection: &mut PgConnection,
    database: &Database,
) -> Result<Untransferred, sqlx::Error> {
    let role = database.owner_role();
    let parts: Vec<(String, bool, String)> =
        sqlx::query_as(AssertSqlSafe(of_plugins(&role))).bind(&role).fetch_all(&mut *connection).await?;
    let mut left = Untransferred::default();
    for (owner, own, statement) in parts {
        let timeout = if left.in_use { NEXT_LOCK_TIMEOUT } else { LOCK_TIMEOUT };
        let done = if own { change_owner(connection, &statement, timeout).await } else { Ok(false) };
        match done {
            Ok(true) => {}
            Ok(false) => {
                left.statements.push(statement);
                if !left.owners.contains(&owner) {
                    left.owners.push(owner);
                }
            }
            Err(error) if sqlstate(&error).as_deref() == Some("55P03") => left.in_use = true,
            Err(error) => return Err(error),
        }
    }
    left.warn(database);
    Ok(left)
}

/// False when the account may not.
async fn change_owner(
    connection: &mut PgConnection,
    statement: &str,
    lock_timeout: &str,
) -> Result<bool, sqlx::Error> {
    let begin = format!("BEGIN; SET LOCAL lock_timeout = '{lock_timeout}'");
    let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await?;
    match sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *transaction).await {
        Ok(_) => transaction.commit().await.map(|()| true),
        Err(error) if sqlstate(&error).as_deref() == Some("42501") => Ok(false),
        Err(error) => Err(error),
    }
}

impl Untransferred {
    fn warn(&self, database: &Database) {
        if self.in_use {
            tracing::warn!(
                database = database.name,
                role = database.owner_role(),
                "tables that are in use, for example by a dump, become those of the role that runs \
                 migrations at the next start"
            );
        }
        if !self.statements.is_empty() {
            tracing::warn!(database = database.name, "{}", self.advice(database));
        }
    }

    fn advice(&self, database: &Database) -> String {
        format!(
            "Parts of the database belong to {}, so the migrations of plugins cannot change them. If they \
             are the plugins', give them to role {}. As an administrator, run in database {}: {}",
            self.owners.join(", "),
            database.owner_role(),
            database.name,
            self.statements.join("; ")
        )
    }

    /// Adds to a migration that was denied how its role gets the tables.
    pub(super) fn explain(&self, error: ProvisionError, database: &Database) -> ProvisionError {
        let ProvisionError::MigrationDenied { owner, name, role, source, advice } = error else {
            return error;
        };
        if self.in_use {
            return ProvisionError::MigrationPostponed { owner, name: name.into(), source, advice: IN_USE };
        }
        let advice = match self.statements.is_empty() {
            true => advice,
            false => format!(". {}", self.advice(database)).into(),
        };
        ProvisionError::MigrationDenied { owner, name, role, source, advice }
    }
}

/// What plugins use and `$1` does not own: the owner's name, whether the host changes it, and the statement
/// that does. What belongs to others in schema `public` may be of another program.
fn of_plugins(role: &str) -> String {
    let objects = objects("n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'saga')", role);
    let of_host = r"r.rolname LIKE 'saga\_owner\_%'";
    format!(
        "SELECT r.rolname::text,
                pg_has_role(r.oid, 'USAGE')
                AND ({of_host} OR r.rolname = current_user OR r.oid = (
                    SELECT relowner FROM pg_class WHERE oid = 'saga.migration'::regclass)),
                o.statement
           FROM ({objects}) o JOIN pg_roles r ON r.oid = o.owner
          WHERE r.rolname <> $1 AND (o.in_public OR {of_host})
          ORDER BY o.place, o.statement"
    )
}

/// What the account lacks to run on this database at all: the right to create the schema `saga`, the tables
/// of another account, and functions that were taken from PUBLIC.
pub(super) async fn measures_for_account(
    connection: &mut PgConnection,
    mode: MigrationsMode,
) -> Result<Vec<Measure>, sqlx::Error> {
    let (account, other, functions, create): (String, Option<String>, Option<String>, Option<String>) =
        sqlx::query_as(ACCOUNT).bind(NEEDED.as_slice()).fetch_one(&mut *connection).await?;
    let mut measures = Vec::new();
    if let Some(statement) = create.filter(|_| mode == MigrationsMode::Apply) {
        measures.push(Measure {
            kind: Kind::Administer,
            own: false,
            finding: format!("account {account} may not create the schema saga"),
            statement,
        });
    }
    if let Some(other) = other {
        let inaccessible = format!("NOT pg_has_role({}, o.owner, 'USAGE')", quote_literal(&account));
        measures.push(Measure {
            kind: Kind::Administer,
            own: false,
            finding: format!("schema saga or a part of it belongs to {other}, not to account {account}"),
            statement: transfer(&inaccessible, &account),
        });
    }
    if let Some(functions) = functions {
        measures.push(Measure {
            kind: Kind::Administer,
            own: false,
            finding: format!("account {account} may not call {functions}"),
            statement: format!("GRANT EXECUTE ON FUNCTION {functions} TO {}", quote_ident(&account)),
        });
    }
    Ok(measures)
}

const ACCOUNT: &str = "
    SELECT current_user::text,
           (SELECT min(pg_get_userbyid(o.owner)::text)
              FROM (SELECT oid, nspowner AS owner FROM pg_namespace WHERE nspname = 'saga'
                    UNION ALL
                    SELECT n.oid, c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname = 'saga' AND c.relkind IN ('r', 'p', 'S')
                    UNION ALL
                    SELECT n.oid, p.proowner FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                     WHERE n.nspname = 'saga') o
             WHERE NOT pg_has_role(o.owner, 'USAGE')),
           (SELECT string_agg(p.oid::regprocedure::text, ', ') FROM pg_proc p
             WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY ($1)
               AND NOT has_function_privilege(p.oid, 'EXECUTE')),
           (SELECT format('GRANT CREATE ON DATABASE %I TO %I', datname, current_user) FROM pg_database
             WHERE datname = current_database() AND NOT has_database_privilege(oid, 'CREATE')
               AND NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'saga'))";

/// One statement that gives the schema `saga` and its objects to `to`: those of which `from`, a condition
/// over `o.owner`, holds.
fn transfer(from: &str, to: &str) -> String {
    let objects = objects("n.nspname = 'saga'", to);
    let statement = format!(
        "DO $saga$ DECLARE v_statement text; BEGIN
             PERFORM pg_catalog.set_config('lock_timeout', '{LOCK_TIMEOUT}', true);
             FOR v_statement IN SELECT o.statement FROM ({objects}) o WHERE {from} ORDER BY o.place
             LOOP EXECUTE v_statement; END LOOP; END $saga$"
    );
    statement.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A query for the objects of the schemas `n` of which `schemas` holds: their order, their owner, whether
/// they are in schema `public`, and the statement that gives them to `to`. Extensions keep their objects, and
/// sequences of columns follow their tables.
fn objects(schemas: &str, to: &str) -> String {
    let to = quote_literal(to);
    let no_extension = |class: &str, object: &str| {
        format!(
            "NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{class}'::regclass AND d.objid = \
             {object}.oid AND d.deptype = 'e')"
        )
    };
    let [of_schemas, of_relations, of_routines, of_types] =
        [("pg_namespace", "n"), ("pg_class", "c"), ("pg_proc", "p"), ("pg_type", "t")]
            .map(|(class, object)| no_extension(class, object));
    let in_public = "n.nspname = 'public'";
    format!(
        "SELECT 1 AS place, n.nspowner AS owner, false AS in_public,
                format('ALTER SCHEMA %I OWNER TO %I', n.nspname, {to}) AS statement
           FROM pg_namespace n WHERE {schemas} AND n.nspname <> 'public' AND {of_schemas}
         UNION ALL
         SELECT 2, c.relowner, {in_public}, format('ALTER TABLE %s OWNER TO %I', c.oid::regclass, {to})
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE {schemas} AND {of_relations}
            AND (c.relkind IN ('r', 'p', 'v', 'm', 'f')
                 OR c.relkind = 'S' AND NOT EXISTS (
                    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                       AND d.objid = c.oid AND d.deptype IN ('a', 'i')))
         UNION ALL
         SELECT 2, p.proowner, {in_public}, format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, {to})
           FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
          WHERE {schemas} AND {of_routines}
         UNION ALL
         SELECT 2, t.typowner, {in_public}, format('ALTER TYPE %s OWNER TO %I', t.oid::regtype, {to})
           FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
           LEFT JOIN pg_class c ON c.oid = t.typrelid
          WHERE {schemas} AND {of_types} AND (t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c')"
    )
}
