//! Who owns the objects of a schema. The tables of plugins belong to the owner's role. The schema `saga`
//! belongs to the host's account, or to a role of which it is a member.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    quote_literal,
    rights::{Kind, Measure},
    session_functions::NEEDED,
};
use crate::config::MigrationsMode;

/// How long to wait for a table that is in use.
const LOCK_TIMEOUT: &str = "5s";

/// Gives the owner's role the objects of the schema `public` that belong to the account itself: an earlier
/// version of the host ran the plugins' migrations under it.
pub(super) async fn give_tables_to(connection: &mut PgConnection, owner: &str) -> Result<(), sqlx::Error> {
    let own = |column: &str| format!("{column} = (SELECT oid FROM pg_roles WHERE rolname = current_user)");
    sqlx::raw_sql(AssertSqlSafe(transfer("public", own, owner))).execute(connection).await.map(drop)
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
        let inaccessible =
            |column: &str| format!("NOT pg_has_role({}, {column}, 'USAGE')", quote_literal(&account));
        measures.push(Measure {
            kind: Kind::Administer,
            own: false,
            finding: format!("schema saga or a part of it belongs to {other}, not to account {account}"),
            statement: transfer("saga", inaccessible, &account),
        });
    }
    if let Some(functions) = functions {
        measures.push(Measure {
            kind: Kind::Administer,
            own: false,
            finding: format!("account {account} may not call {functions}"),
            statement: format!(
                "GRANT EXECUTE ON FUNCTION {functions} TO \"{}\"",
                account.replace('"', "\"\"")
            ),
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

/// One statement that gives the objects of a schema to `to`: those of which `from`, a condition over the
/// column of the owner, holds. Extensions keep their objects, and sequences of columns follow their tables.
fn transfer(schema: &str, from: impl Fn(&str) -> String, to: &str) -> String {
    let (schema, to) = (quote_literal(schema), quote_literal(to));
    let [namespace, relation, routine, kind] =
        ["n.nspowner", "c.relowner", "p.proowner", "t.typowner"].map(from);
    let no_extension = |class: &str, object: &str| {
        format!(
            "NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{class}'::regclass AND d.objid = \
             {object}.oid AND d.deptype = 'e')"
        )
    };
    let (relations, routines, types) =
        (no_extension("pg_class", "c"), no_extension("pg_proc", "p"), no_extension("pg_type", "t"));
    let statement = format!(
        "DO $saga$ DECLARE v_statement text; BEGIN
             PERFORM pg_catalog.set_config('lock_timeout', '{LOCK_TIMEOUT}', true);
             FOR v_statement IN
                 SELECT format('ALTER SCHEMA %I OWNER TO %I', n.nspname, {to}) FROM pg_namespace n
                  WHERE n.nspname = {schema} AND n.nspname = 'saga' AND {namespace}
                 UNION ALL
                 SELECT format('ALTER TABLE %s OWNER TO %I', c.oid::regclass, {to}) FROM pg_class c
                  WHERE c.relnamespace = {schema}::regnamespace AND {relation} AND {relations}
                    AND (c.relkind IN ('r', 'p', 'v', 'm', 'f')
                         OR c.relkind = 'S' AND NOT EXISTS (
                            SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                               AND d.objid = c.oid AND d.deptype IN ('a', 'i')))
                 UNION ALL
                 SELECT format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, {to}) FROM pg_proc p
                  WHERE p.pronamespace = {schema}::regnamespace AND {routine} AND {routines}
                 UNION ALL
                 SELECT format('ALTER TYPE %s OWNER TO %I', t.oid::regtype, {to}) FROM pg_type t
                   LEFT JOIN pg_class c ON c.oid = t.typrelid
                  WHERE t.typnamespace = {schema}::regnamespace AND {kind} AND {types}
                    AND (t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c')
             LOOP EXECUTE v_statement; END LOOP; END $saga$"
    );
    statement.split_whitespace().collect::<Vec<_>>().join(" ")
}
