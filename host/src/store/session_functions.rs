//! Takes from plugins the Postgres functions that would break the limits of a unit.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::config::MigrationsMode;

/// Functions of Postgres by which a statement could lift its own limits, outlive its transaction, close a
/// connection (which would look like an outage) or run text as a statement.
const SESSION_FUNCTIONS: &str = "
    SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname = 'pg_catalog' AND has_function_privilege('public', p.oid, 'EXECUTE')
       AND (p.proname IN ('set_config', 'pg_notify', 'pg_terminate_backend', 'pg_cancel_backend',
                          'pg_logical_emit_message')
            OR p.proname LIKE 'pg\\_advisory%' OR p.proname LIKE 'pg\\_try\\_advisory%'
            OR p.proname LIKE 'lo\\_%' OR p.proname LIKE 'query\\_to\\_xml%')";

/// Revokes the session functions from PUBLIC, if this account is a superuser and the schema may be changed.
/// Else warns at every start.
pub(super) async fn revoke_session_functions(
    connection: &mut PgConnection,
    mode: MigrationsMode,
) -> Result<(), sqlx::Error> {
    let executable: Vec<String> = sqlx::query_scalar(SESSION_FUNCTIONS).fetch_all(&mut *connection).await?;
    if executable.is_empty() {
        return Ok(());
    }
    let superuser: bool = sqlx::query_scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        .fetch_one(&mut *connection)
        .await?;
    if mode == MigrationsMode::Apply && superuser {
        let statement = format!("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC", executable.join(", "));
        return sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop);
    }
    tracing::warn!(
        functions = executable.len(),
        "plugins can call session functions such as set_config; as a superuser run: REVOKE EXECUTE ON \
         FUNCTION {} FROM PUBLIC",
        executable.join(", ")
    );
    Ok(())
}
