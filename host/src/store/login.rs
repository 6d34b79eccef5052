//! Logs in as a plugin's role, or as the owner of the plugins' tables. A role that cannot log in any more,
//! because its password was changed, it was dropped or altered, is set right first, where the host's account
//! may do that.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{ConnectOptions, Connection, PgConnection, Row, postgres::PgConnectOptions};
use tokio::time::Instant;

use super::{
    Database, PluginRole, ProvisionError,
    connect::PLANNER_OPTIONS,
    provision::lock,
    rights::{self, Kind, UNIT_FUNCTIONS},
    roles::{self, sqlstate},
};
use crate::model::policy::Policy;

/// Postgres ends the transaction of a suspended host after this time, at least. It is longer than a plugin
/// call, in which the transaction is idle.
const IDLE_IN_TRANSACTION_MS_MIN: u64 = 5_000;
const LOCK_TIMEOUT_MS_MAX: u64 = 3_000;
const TCP_USER_TIMEOUT_MS: u64 = 10_000;
/// Pause after an attempt to set right the roles of one database that has failed.
const REPAIR_PAUSE: Duration = Duration::from_secs(2);

/// What the connections to one database share about its roles.
#[derive(Debug, Default)]
pub(super) struct Logins {
    /// By role, as last read from `saga.role_password`.
    passwords: Mutex<HashMap<String, String>>,
    /// Why a role cannot log in, by role.
    troubles: Mutex<HashMap<String, String>>,
    /// The limit on temporary files that is set for a role, where it is.
    pub(super) temp_file_limits: Mutex<HashMap<String, String>>,
    /// How often roles were set right.
    repairs: AtomicU64,
    /// When roles could not be set right; held during an attempt.
    repair_failed_at: tokio::sync::Mutex<Option<Instant>>,
}

/// Why a plugin's role cannot log in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server is unreachable, or refuses the role.
    #[error("{0}")]
    Postgres(#[from] sqlx::Error),
    /// The role cannot be set right.
    #[error(transparent)]
    Role(#[from] ProvisionError),
}

/// Whether the server refuses the role itself: its password, its right to log in or to connect.
pub(super) fn is_refused(error: &sqlx::Error) -> bool {
    matches!(sqlstate(error).as_deref(), Some("28P01" | "28000" | "42501"))
}

impl Database {
    /// Connects a lane with the plugin's restricted role. The timeouts bound how long a suspended host can
    /// block its successor.
    ///
    /// # Errors
    /// The server is unreachable, or refuses the role, which this account may not set right.
    pub async fn connect_plugin(
        &self,
        role: &PluginRole,
        policy: &Policy,
    ) -> Result<PgConnection, LoginError> {
        let options = self.plugin_options(role, policy);
        let repairs = self.logins.repairs.load(Ordering::Acquire);
        let mut connected = self.log_in(&role.name, options.clone()).await;
        if let Err(error) = &connected
            && is_refused(error)
        {
            self.repair(role, &error.to_string(), repairs).await?;
            connected = self.log_in(&role.name, options).await;
        }
        let mut connection = connected.inspect_err(|error| {
            if is_refused(error) {
                self.note_refusal(role, error);
            }
        })?;
        if has_rights(&mut connection).await? {
            self.logins.troubles.lock().remove(&role.name);
        } else {
            self.repair(role, "it may not call the functions of a unit", repairs).await?;
        }
        Ok(connection)
    }

    /// Connects with the role that owns the plugins' tables. It has no time-outs: a migration may take long.
    pub(super) async fn connect_owner(&self) -> Result<PgConnection, sqlx::Error> {
        let options = self.role_options("saga-host migrations").options([("search_path", "public")]);
        self.log_in(&self.owner_role(), options).await
    }

    /// Why the role cannot log in, and what to do.
    #[must_use]
    pub fn login_trouble(&self, role: &PluginRole) -> Option<String> {
        self.logins.troubles.lock().get(&role.name).cloned()
    }

    fn role_options(&self, application: &str) -> PgConnectOptions {
        let options = self.server.options().database(&self.name).application_name(application);
        options.options(PLANNER_OPTIONS)
    }

    fn plugin_options(&self, role: &PluginRole, policy: &Policy) -> PgConnectOptions {
        let unit_ms = u64::from(policy.limits.unit_ms_max);
        self.role_options(&format!("saga-host {}", role.plugin)).options([
            ("search_path", "public".to_owned()),
            ("statement_timeout", unit_ms.to_string()),
            ("lock_timeout", lock_timeout_ms(unit_ms).to_string()),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS_MIN.max(unit_ms * 2).to_string()),
            ("tcp_user_timeout", TCP_USER_TIMEOUT_MS.to_string()),
            // One node of a plan takes this much; Postgres 13 and later multiply it for hashes.
            ("work_mem", format!("{}MB", policy.limits.sort_memory_mib_max)),
            ("hash_mem_multiplier", "1".to_owned()),
            ("max_parallel_workers_per_gather", "0".to_owned()),
            ("standard_conforming_strings", "on".to_owned()),
            ("TimeZone", "UTC".to_owned()),
            // The parameters are arrays, for which Postgres would otherwise plan again in every unit.
            ("plan_cache_mode", "force_generic_plan".to_owned()),
        ])
    }

    /// Logs in with the stored password, which is read again after it was refused.
    async fn log_in(&self, role: &str, options: PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
        let known = self.logins.passwords.lock().get(role).cloned();
        let password = match known {
            Some(password) => password,
            None => {
                let mut connection = self.admin.acquire().await?;
                let password = roles::stored_password(&mut connection, role).await?.unwrap_or_default();
                self.logins.passwords.lock().insert(role.to_owned(), password.clone());
                password
            }
        };
        let connected = options.username(role).password(&password).connect().await;
        connected.inspect_err(|error| {
            if is_refused(error) {
                self.logins.passwords.lock().remove(role);
            }
        })
    }

    /// Sets the role and its rights right, one connection at a time. Does nothing when another one has done
    /// so since `repairs` was counted, or has just failed: the caller tries to log in again.
    async fn repair(&self, role: &PluginRole, cause: &str, repairs: u64) -> Result<(), LoginError> {
        let mut failed_at = self.logins.repair_failed_at.lock().await;
        if self.logins.repairs.load(Ordering::Acquire) != repairs
            || failed_at.is_some_and(|at| at.elapsed() < REPAIR_PAUSE)
        {
            return Ok(());
        }
        let mut connection = self.admin.acquire().await?.detach();
        lock(&mut connection).await?;
        let repaired = self.repair_locked(&mut connection, role).await;
        // The lock ends with the connection. When closing fails, the server notices that, too.
        let _closed = connection.close().await;
        match repaired {
            Ok(()) => {
                *failed_at = None;
                self.logins.repairs.fetch_add(1, Ordering::AcqRel);
                self.logins.passwords.lock().remove(&role.name);
                self.logins.troubles.lock().remove(&role.name);
                let (plugin, database) = (&role.plugin, &self.name);
                tracing::warn!(plugin, database, role = role.name, cause, "the plugin's role was set right");
                Ok(())
            }
            Err(error) => {
                *failed_at = Some(Instant::now());
                self.note_failed_repair(role, &error);
                Err(error.into())
            }
        }
    }

    async fn repair_locked(
        &self,
        connection: &mut PgConnection,
        role: &PluginRole,
    ) -> Result<(), ProvisionError> {
        let mut left = roles::ensure(connection, self, &role.name).await?;
        let mut grants = rights::measures(connection, self, role, false).await?;
        grants.retain(|measure| measure.kind == Kind::Grant);
        left.extend(rights::carry_out(connection, grants, &[Kind::Grant]).await?);
        ProvisionError::unless_prepared(self, role, left)?;
        Ok(self.restore_limit(connection, role).await?)
    }

    fn note_failed_repair(&self, role: &PluginRole, error: &ProvisionError) {
        self.logins.troubles.lock().insert(role.name.clone(), format!("role {}: {error}", role.name));
    }

    /// Keeps the reason of a repair that has failed before: it has the SQL to run.
    fn note_refusal(&self, role: &PluginRole, error: &sqlx::Error) {
        let mut troubles = self.logins.troubles.lock();
        troubles.entry(role.name.clone()).or_insert_with(|| format!("role {}: {error}", role.name));
    }
}

/// Whether the role of the session may call the functions of a unit.
async fn has_rights(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let names = UNIT_FUNCTIONS.map(|name| format!("'{name}'")).join(", ");
    let statement = format!(
        "SELECT coalesce(bool_and(has_schema_privilege(n.oid, 'USAGE')
                                  AND has_function_privilege(p.oid, 'EXECUTE')), true)
           FROM pg_namespace n JOIN pg_proc p ON p.pronamespace = n.oid
          WHERE n.nspname = 'saga' AND p.proname IN ({names})"
    );
    // As a simple query, it takes one round trip.
    let row = sqlx::Executor::fetch_one(&mut *connection, sqlx::raw_sql(sqlx::AssertSqlSafe(statement)));
    row.await?.try_get(0)
}

/// Shorter than `statement_timeout`, so that waiting for a lock does not look like a slow statement. Never 0,
/// which means no limit.
fn lock_timeout_ms(unit_ms: u64) -> u64 {
    (unit_ms / 2).clamp(1, LOCK_TIMEOUT_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::lock_timeout_ms;

    #[test]
    fn a_lock_times_out_before_its_statement() {
        assert_eq!([1, 10, 2_000, 60_000].map(lock_timeout_ms), [1, 5, 1_000, 3_000]);
    }
}
