//! Connects to Postgres: with the host's own account for bookkeeping, with a plugin's restricted role for
//! units.

use std::{str::FromStr, time::Duration};

use anyhow::Context;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::provision::PluginRole;
use crate::model::policy::Policy;

/// Connections of the host's own account to one database, at most. The relay keeps two while it leads, one of
/// them for its lease, and the notifier listens on one while there are peers.
const ADMIN_CONNECTIONS_MAX: u32 = 6;
/// A pooled connection that was idle for longer is pinged before use: the server may have closed it
/// meanwhile.
const UNTESTED_IDLE_MAX: Duration = Duration::from_secs(1);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Postgres ends the transaction of a suspended host after this time, at least. It is longer than a plugin
/// call, in which the transaction is idle.
const IDLE_IN_TRANSACTION_MS_MIN: u64 = 5_000;
const LOCK_TIMEOUT_MS_MAX: u64 = 3_000;
const TCP_USER_TIMEOUT_MS: u64 = 10_000;
/// Statements find rows by key, in tables that may be empty when a plan is made or the table is analysed, and
/// that keep dead rows until they are vacuumed. Otherwise Postgres would cache a plan that scans the whole
/// table, and its cost would trigger JIT.
const PLANNER_OPTIONS: [(&str, &str); 2] = [("enable_seqscan", "off"), ("jit", "off")];

/// Unwraps a network error: sqlx repeats its cause in a prefix.
fn without_prefix(error: sqlx::Error) -> anyhow::Error {
    match error {
        sqlx::Error::Io(error) => error.into(),
        other => other.into(),
    }
}

/// The Postgres server of the setting `postgres`.
#[derive(Clone, Debug)]
pub struct Server {
    options: PgConnectOptions,
    secret: Option<String>,
}

impl Server {
    /// Reads the address `postgres://user:password@host:port/database`.
    ///
    /// # Errors
    /// The address has another form.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .context("the Postgres address must have the form postgres://user:password@host:port/database")?
            .application_name("saga-host")
            .disable_statement_logging();
        Ok(Self { options, secret: password_of(url) })
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// The password of a plugin's role, which every host derives from that of the account. None when the
    /// account has no password, as on a Unix socket that trusts its users.
    pub(super) fn role_password(&self, role: &str) -> Option<String> {
        let secret = self.secret.as_deref()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
        mac.update(b"saga-host role ");
        mac.update(role.as_bytes());
        Some(hex::encode(mac.finalize().into_bytes()))
    }

    /// Connects to the database in the address.
    ///
    /// # Errors
    /// The server is unreachable or refuses the account.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        let Self { options, .. } = self;
        options.connect().await.map_err(without_prefix).with_context(|| {
            let (host, port) = (options.get_host(), options.get_port());
            format!("cannot connect to Postgres at {host}:{port}, check --postgres (SAGA_HOST_POSTGRES)")
        })
    }

    /// A database, accessed with the host's own account. Connects on first use.
    #[must_use]
    pub fn database(&self, name: &str) -> Database {
        let options = self.options.clone().database(name).options(PLANNER_OPTIONS);
        let admin = PgPoolOptions::new()
            .max_connections(ADMIN_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, metadata| {
                let recently_used = metadata.idle_for < UNTESTED_IDLE_MAX;
                Box::pin(async move { Ok(recently_used || connection.ping().await.is_ok()) })
            })
            .connect_lazy_with(options);
        Database { name: name.to_owned(), admin, server: self.clone() }
    }
}

fn password_of(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split(['/', '?']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

/// One database with its pool. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Database {
    /// Name of the database. It is no identity: other databases can have the same name.
    pub name: String,
    /// Uses the host's own account: for claims, the relay, timers, the host API.
    pub admin: PgPool,
    server: Server,
}

impl Database {
    /// Connects a lane with the plugin's restricted role. The timeouts bound how long a suspended host can
    /// block its successor.
    ///
    /// # Errors
    /// The server is unreachable or refuses the role.
    pub async fn connect_plugin(
        &self,
        role: &PluginRole,
        policy: &Policy,
    ) -> Result<PgConnection, sqlx::Error> {
        let unit_ms = u64::from(policy.limits.unit_ms_max);
        let mut options = self
            .server
            .options
            .clone()
            .database(&self.name)
            .username(&role.name)
            .application_name(&format!("saga-host {}", role.plugin))
            .options(PLANNER_OPTIONS)
            .options([
                ("search_path", "public".to_owned()),
                ("statement_timeout", unit_ms.to_string()),
                ("lock_timeout", lock_timeout_ms(unit_ms).to_string()),
                (
                    "idle_in_transaction_session_timeout",
                    IDLE_IN_TRANSACTION_MS_MIN.max(unit_ms * 2).to_string(),
                ),
                ("tcp_user_timeout", TCP_USER_TIMEOUT_MS.to_string()),
                // One node of a plan takes this much; Postgres 13 and later multiply it for hashes.
                ("work_mem", format!("{}MB", policy.limits.sort_memory_mib_max)),
                ("hash_mem_multiplier", "1".to_owned()),
                ("max_parallel_workers_per_gather", "0".to_owned()),
                ("standard_conforming_strings", "on".to_owned()),
                ("TimeZone", "UTC".to_owned()),
                // The parameters are arrays, for which Postgres would otherwise plan again in every unit.
                ("plan_cache_mode", "force_generic_plan".to_owned()),
            ]);
        if let Some(password) = self.server.role_password(&role.name) {
            options = options.password(&password);
        }
        options.connect().await
    }
}

/// Shorter than `statement_timeout`, so that waiting for a lock does not look like a slow statement. Never 0,
/// which means no limit.
fn lock_timeout_ms(unit_ms: u64) -> u64 {
    (unit_ms / 2).clamp(1, LOCK_TIMEOUT_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::{lock_timeout_ms, password_of};

    #[test]
    fn a_lock_times_out_before_its_statement() {
        assert_eq!([1, 10, 2_000, 60_000].map(lock_timeout_ms), [1, 5, 1_000, 3_000]);
    }

    #[test]
    fn an_address_may_have_a_password() {
        assert_eq!(password_of("postgres://u:p@h/db").as_deref(), Some("p"));
        assert_eq!(password_of("postgres://u:p:q@h").as_deref(), Some("p:q"));
        assert_eq!(password_of("postgres://u@h/db?host=/tmp"), None);
        assert_eq!(password_of("postgres:///db?host=/tmp/a:b@c"), None);
    }
}
