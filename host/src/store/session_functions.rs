//! The Postgres functions that plugins must not call, and those that the host itself calls.

use sqlx::PgConnection;

use super::rights::{Kind, Measure};

/// Functions of Postgres by which a statement could lift its own limits, outlive its transaction, close a
/// connection (which would look like an outage) or run text as a statement. PUBLIC may call them by default.
///
/// An account that is no superuser may call them only as a part of PUBLIC, so it gets them first.
const SESSION_FUNCTIONS: &str = "
    SELECT count(*), bool_and(pg_has_role(p.proowner, 'USAGE')),
           string_agg(p.oid::regprocedure::text, ', ' ORDER BY p.oid)
      FROM pg_proc p
     WHERE p.pronamespace = 'pg_catalog'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')
       AND (p.proname IN ('set_config', 'pg_notify', 'pg_terminate_backend', 'pg_cancel_backend',
                          'pg_logical_emit_message')
            OR p.proname LIKE 'pg\\_advisory%' OR p.proname LIKE 'pg\\_try\\_advisory%'
            OR p.proname LIKE 'lo\\_%' OR p.proname LIKE 'query\\_to\\_xml%')";

/// The functions that the host calls under its own account, and in the functions that belong to it.
pub(super) const NEEDED: [&str; 4] = ["set_config", "pg_notify", "pg_advisory_lock", "pg_advisory_xact_lock"];

/// Takes the session functions from PUBLIC; none when that is done.
pub(super) async fn measure(connection: &mut PgConnection) -> Result<Option<Measure>, sqlx::Error> {
    let (count, own, functions): (i64, Option<bool>, Option<String>) =
        sqlx::query_as(SESSION_FUNCTIONS).fetch_one(&mut *connection).await?;
    let (Some(own), Some(functions)) = (own, functions) else { return Ok(None) };
    let (account, superuser): (String, bool) =
        sqlx::query_as("SELECT quote_ident(rolname), rolsuper FROM pg_roles WHERE rolname = current_user")
            .fetch_one(&mut *connection)
            .await?;
    let keep = if superuser {
        String::new()
    } else {
        format!("GRANT EXECUTE ON FUNCTION {functions} TO {account}; ")
    };
    Ok(Some(Measure {
        kind: Kind::Revoke,
        own,
        finding: format!("plugins could call {count} session functions, such as set_config"),
        statement: format!("{keep}REVOKE EXECUTE ON FUNCTION {functions} FROM PUBLIC"),
    }))
}
