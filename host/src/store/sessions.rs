//! Checks at the start that the server is one on which the host can work: new enough, and with a session for
//! each connection.
//!
//! The host listens for notifications, prepares statements, and limits plugins by the settings of a session.
//! A pooler that shares sessions between connections (PgBouncer in transaction or statement mode), or that
//! drops the settings of a new connection, takes all of this away unnoticed.

use anyhow::{Context, ensure};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row};
use uuid::Uuid;

use super::{Server, connect::cannot_connect, roles::sqlstate};

/// The oldest version of Postgres that is supported, as `server_version_num`.
const VERSION_NUM_MIN: i32 = 140_000;
/// A setting that nobody else sets.
const PROBE: &str = "saga_host.probe";
/// The order in which two connections ask for their session. A pooler that shares sessions gives one session
/// to both, or two to one of them, whether it prefers the session that was used last or that which was not.
const ASKING: [usize; 6] = [0, 1, 0, 0, 1, 1];
const DIRECT: &str = "connect directly to Postgres, without a connection pooler such as PgBouncer \
                      (--postgres, SAGA_HOST_POSTGRES)";

/// The server, or what is between it and the host, is one on which the host cannot work.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unsuitable(String);

impl Server {
    /// Checks the version of the server, and that nothing between it and the host shares sessions.
    ///
    /// # Errors
    /// One sentence that says why the host cannot work there, and what to do.
    pub async fn check(&self) -> anyhow::Result<()> {
        let probe = Uuid::new_v4().to_string();
        let mut clients = [self.connect_with(&probe).await?, self.connect_with(&probe).await?];
        check_version(&mut clients[0]).await?;
        for client in &mut clients {
            let setting = format!("SELECT coalesce(pg_catalog.current_setting('{PROBE}', true), '')");
            let drops = "what listens at the Postgres address drops the settings of a new connection";
            ensure!(ask(client, &setting).await? == probe, Unsuitable(format!("{drops}; {DIRECT}")));
        }
        let mut asked = Vec::new();
        for client in ASKING {
            asked.push((client, ask(&mut clients[client], SESSION).await?));
        }
        let shares = "what listens at the Postgres address shares sessions between connections";
        ensure!(has_own_sessions(&asked), Unsuitable(format!("{shares}; {DIRECT}")));
        if !self.development {
            warn_of_superuser(&mut clients[0]).await?;
        }
        for client in clients {
            client.close().await.context("closing a connection to Postgres")?;
        }
        Ok(())
    }

    async fn connect_with(&self, probe: &str) -> anyhow::Result<PgConnection> {
        let options = self.options().options([(PROBE, probe)]);
        match options.connect().await {
            Ok(connection) => Ok(connection),
            Err(error) if sqlstate(&error).as_deref() == Some("08P01") => {
                let refuses = "what listens at the Postgres address refuses the settings of a new connection";
                Err(Unsuitable(format!("{refuses} ({error}); {DIRECT}")).into())
            }
            Err(error) => Err(cannot_connect(&options, error)),
        }
    }
}

async fn check_version(connection: &mut PgConnection) -> anyhow::Result<()> {
    let number = ask(connection, "SELECT pg_catalog.current_setting('server_version_num')").await?;
    let number: i32 = number.parse().context("reading the version of Postgres")?;
    ensure!(
        number >= VERSION_NUM_MIN,
        Unsuitable(format!(
            "Postgres {} is too old: saga-host needs version {} or later",
            number / 10_000,
            VERSION_NUM_MIN / 10_000
        ))
    );
    Ok(())
}

/// The text that a statement returns. A simple query does not depend on a session.
async fn ask(connection: &mut PgConnection, statement: &str) -> anyhow::Result<String> {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    let row = connection.fetch_one(statement).await.context("asking Postgres about the session")?;
    row.try_get(0).context("asking Postgres about the session")
}

/// What identifies the session that answers. Two servers behind one address can have equal process ids.
const SESSION: &str = "SELECT pid || ' ' || backend_start FROM pg_catalog.pg_stat_activity
                        WHERE pid = pg_catalog.pg_backend_pid()";

/// Whether each connection has always had the same session, and no other connection has had it.
fn has_own_sessions(asked: &[(usize, String)]) -> bool {
    asked
        .iter()
        .all(|(client, session)| asked.iter().all(|(other, theirs)| (client == other) == (session == theirs)))
}

async fn warn_of_superuser(connection: &mut PgConnection) -> anyhow::Result<()> {
    let superuser = "SELECT coalesce(max(rolname::text), '') FROM pg_catalog.pg_roles
                      WHERE rolname = current_user AND rolsuper";
    let account = ask(connection, superuser).await?;
    if !account.is_empty() {
        tracing::warn!(account, "the account is a superuser; docs/operations.md says how to do without one");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{ASKING, has_own_sessions};

    /// What the two connections are answered by a pooler that chooses a session for each statement.
    fn asked(mut choose: impl FnMut(usize) -> usize) -> Vec<(usize, String)> {
        let sessions = ASKING.iter().enumerate();
        sessions.map(|(turn, client)| (*client, choose(turn).to_string())).collect()
    }

    #[test]
    fn a_pooler_is_noticed_however_it_chooses_a_session() {
        assert!(has_own_sessions(&asked(|turn| ASKING[turn] + 7)));
        assert!(!has_own_sessions(&asked(|_| 1)), "the one used last");
        for pool in 2..6 {
            assert!(!has_own_sessions(&asked(|turn| turn % pool)), "the oldest of {pool}");
        }
        assert!(!has_own_sessions(&asked(|turn| usize::from(turn > 4))), "another one at the end");
    }
}
