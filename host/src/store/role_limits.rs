//! The limits of a plugin's role that only a superuser may set: a session gets them when it starts, and no
//! statement of a plugin can lift them.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Database, PluginRole, ProvisionError, quote_ident, roles::sqlstate};
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
        let limit = format!("{temp_files_mib_max}MB");
        let is_set = limit_of(&mut connection, role).await?.is_some_and(|found| found == limit);
        if is_set || mode == MigrationsMode::Apply && self.set_limit(&mut connection, role, &limit).await? {
            self.logins.temp_file_limits.lock().insert(role.name.clone(), limit);
            return Ok(());
        }
        self.warn_of_no_limit(role, &limit);
        Ok(())
    }

    /// Sets the limit again that was set for a role, which may have been dropped and created again since.
    pub(super) async fn restore_limit(
        &self,
        connection: &mut PgConnection,
        role: &PluginRole,
    ) -> Result<(), sqlx::Error> {
        let limit = self.logins.temp_file_limits.lock().get(&role.name).cloned();
        let Some(limit) = limit else { return Ok(()) };
        if limit_of(connection, role).await?.is_none() && !self.set_limit(connection, role, &limit).await? {
            self.warn_of_no_limit(role, &limit);
        }
        Ok(())
    }

    /// False when this account may not.
    async fn set_limit(
        &self,
        connection: &mut PgConnection,
        role: &PluginRole,
        limit: &str,
    ) -> Result<bool, sqlx::Error> {
        let statement = AssertSqlSafe(self.limit_statement(role, limit));
        let Err(error) = sqlx::raw_sql(statement).execute(connection).await else { return Ok(true) };
        match sqlstate(&error).as_deref() {
            // Another host sets its limit at this moment, and could have come after this one as well.
            Some("XX000") => Ok(true),
            Some("42501") => Ok(false),
            _ => Err(error),
        }
    }

    fn limit_statement(&self, role: &PluginRole, limit: &str) -> String {
        format!(
            "ALTER ROLE {} IN DATABASE {} SET temp_file_limit = '{limit}'",
            quote_ident(&role.name),
            quote_ident(&self.name)
        )
    }

    fn warn_of_no_limit(&self, role: &PluginRole, limit: &str) {
        tracing::warn!(
            plugin = role.plugin,
            "a statement of the plugin can fill the disk with temporary files; as a superuser run: {}",
            self.limit_statement(role, limit)
        );
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
