//! Connections: the host's own account for bookkeeping, the plugin's restricted role for units.

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

/// Connections of the host's own account to one database, at the most. Of these the relay keeps one while it
/// leads, and one listens while there are other hosts.
const ADMIN_CONNECTIONS_MAX: u32 = 5;
/// One of them that was not used for so long is tested before it is used: the server may have gone meanwhile.
const TEST_AFTER: Duration = Duration::from_secs(1);
/// Above the longest plugin call: after it Postgres ends the transaction of a stopped host.
const IDLE_IN_TRANSACTION_MS: u64 = 5_000;
const LOCK_TIMEOUT_MS_MAX: u64 = 3_000;
const TCP_USER_TIMEOUT_MS: u64 = 10_000;
/// Rows are found by key, in tables that may have been empty when a plan was made or the table was
/// last analysed, and that keep dead rows until they are vacuumed: a plan that reads the whole
/// table would be kept, and its cost would call for JIT.
const PLANS: [(&str, &str); 2] = [("enable_seqscan", "off"), ("jit", "off")];

/// An error of the network without what sqlx puts before it: both would name the cause.
fn said_once(error: sqlx::Error) -> anyhow::Error {
    match error {
        sqlx::Error::Io(error) => error.into(),
        other => other.into(),
    }
}

/// The Postgres server that the host was told of.
#[derive(Clone, Debug)]
pub struct Server {
    options: PgConnectOptions,
    secret: Option<String>,
}

impl Server {
    /// Reads the address `postgres://user:password@host:port/database`.
    ///
    /// # Errors
    /// When it is not a Postgres address.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .context("the Postgres address is not of the form postgres://user:password@host:port/database")?
            .application_name("saga-host")
            .disable_statement_logging();
        Ok(Self { options, secret: password_of(url) })
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// The password of a plugin's role: every host derives the same one from the account's own.
    /// None when the account has none, as on a Unix socket that trusts its users.
    pub(super) fn role_password(&self, role: &str) -> Option<String> {
        let secret = self.secret.as_deref()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
        mac.update(b"saga-host role ");
        mac.update(role.as_bytes());
        Some(hex::encode(mac.finalize().into_bytes()))
    }

    /// A connection to the database named in the address.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses the account.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        let Self { options, .. } = self;
        options.connect().await.map_err(said_once).with_context(|| {
            let (host, port) = (options.get_host(), options.get_port());
            format!(
                "cannot connect to Postgres at {host}:{port}, which --postgres (SAGA_HOST_POSTGRES) names"
            )
        })
    }

    /// The named database, by the host's own account. Connects when first used.
    #[must_use]
    pub fn database(&self, name: &str) -> Database {
        let options = self.options.clone().database(name).options(PLANS);
        let admin = PgPoolOptions::new()
            .max_connections(ADMIN_CONNECTIONS_MAX)
            .acquire_timeout(Duration::from_secs(5))
            .test_before_acquire(false)
            .before_acquire(|connection, standing| {
                let used_lately = standing.idle_for < TEST_AFTER;
                Box::pin(async move { Ok(used_lately || connection.ping().await.is_ok()) })
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

/// One service's database.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its name, part of every message id that leaves it.
    pub name: String,
    /// The host's own account: claims, relay, timers, the host API.
    pub admin: PgPool,
    server: Server,
}

impl Database {
    /// A connection for a lane: the plugin's restricted role, with the limits that bound how
    /// long a stopped host can hold up its successor.
    ///
    /// # Errors
    /// What sqlx reports: the server is away, or refuses the role.
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
            .options(PLANS)
            .options([
                ("search_path", "public".to_owned()),
                ("statement_timeout", unit_ms.to_string()),
                ("lock_timeout", lock_timeout_ms(unit_ms).to_string()),
                ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS.max(unit_ms * 2).to_string()),
                ("tcp_user_timeout", TCP_USER_TIMEOUT_MS.to_string()),
                ("standard_conforming_strings", "on".to_owned()),
                ("TimeZone", "UTC".to_owned()),
                // The parameters are arrays, for which Postgres would plan anew in every unit.
                ("plan_cache_mode", "force_generic_plan".to_owned()),
            ]);
        if let Some(password) = self.server.role_password(&role.name) {
            options = options.password(&password);
        }
        options.connect().await
    }
}

/// Below `statement_timeout`: waiting for a lock must not look like a statement that takes too long.
/// Never 0, which would be no limit.
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
    fn the_password_of_an_address() {
        assert_eq!(password_of("postgres://u:p@h/db").as_deref(), Some("p"));
        assert_eq!(password_of("postgres://u:p:q@h").as_deref(), Some("p:q"));
        assert_eq!(password_of("postgres://u@h/db?host=/tmp"), None);
        assert_eq!(password_of("postgres:///db?host=/tmp/a:b@c"), None);
    }
}
