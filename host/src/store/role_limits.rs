//! The limits of a plugin's role that only a superuser may set: a session gets them when it starts, and no
//! statement of a plugin can lift them.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Database, PluginRole, ProvisionError, quote_ident};
use crate::config::MigrationsMode;

impl Database {
    /// Limits the temporary files of the role's sessions in this database. Where this account may not, or the
    /// schema may not be changed, it warns and says what to run.
    ///
    /// # Errors
    /// Postgres is unreachable.
    pub async fn limit_role(
        &self,
        role: &PluginRole,
        temp_files_mib_max: u32,
        mode: MigrationsMode,
    ) -> Result<(), ProvisionError> {
        let mut connection = self.admin.acquire().await?;
        let wanted = format!("{temp_files_mib_max}MB");
        if limit_of(&mut connection, role).await?.is_some_and(|limit| limit == wanted) {
            return Ok(());
        }
        let statement = format!(
            "ALTER ROLE {} IN DATABASE {} SET temp_file_limit = '{wanted}'",
            quote_ident(&role.name),
            quote_ident(&self.name)
        );
        if mode == MigrationsMode::Apply {
            let set = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *connection).await;
            match set
                .as_ref()
                .err()
                .and_then(|error| error.as_database_error())
                .and_then(|error| error.code())
            {
                // Another host sets it at this moment (tuple concurrently updated): to the same.
                Some(code) if code == "XX000" => return Ok(()),
                Some(code) if code == "42501" => {}
                _ => return set.map(drop).map_err(ProvisionError::from),
            }
        }
        tracing::warn!(
            plugin = role.plugin,
            "a statement of the plugin can fill the disk with temporary files; as a superuser run: {statement}"
        );
        Ok(())
    }
}

/// The stored limit.
async fn limit_of(connection: &mut PgConnection, role: &PluginRole) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT split_part(setting, '=', 2)
           FROM pg_db_role_setting s, unnest(s.setconfig) setting
          WHERE s.setrole = (SELECT oid FROM pg_roles WHERE rolname = $1)
            AND s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND setting LIKE 'temp_file_limit=%'",
    )
    .bind(&role.name)
    .fetch_optional(connection)
    .await
}
