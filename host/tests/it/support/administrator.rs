//! An administrator of the Postgres server, who lets accounts log in with passwords only, and runs the SQL
//! that the host prints.

use std::path::PathBuf;

use anyhow::Context;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

/// Before the SQL in a message of the host; the database follows, when it is not any.
const IN_DATABASE: &str = "As an administrator, run in database ";
const ANYWHERE: &str = "as an administrator, run: ";

/// An administrator of one server. Dropping it lets every account log in without a password again.
pub(crate) struct Administrator {
    options: PgConnectOptions,
    rules_file: PathBuf,
    rules: String,
}

impl Administrator {
    /// From now on, only the administrator logs in without a password.
    pub(crate) async fn asking_for_passwords(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().unwrap();
        let mut connection = options.connect().await.unwrap();
        let file: String = sqlx::query_scalar("SHOW hba_file").fetch_one(&mut connection).await.unwrap();
        let rules_file = PathBuf::from(file);
        let rules = std::fs::read_to_string(&rules_file).unwrap();
        std::fs::write(&rules_file, "local all postgres trust\nlocal all all scram-sha-256\n").unwrap();
        let administrator = Self { options, rules_file, rules };
        administrator.run("postgres", "SELECT pg_reload_conf()").await;
        administrator.drop_roles().await;
        administrator
    }

    /// Drops the roles of plugins that earlier tests have left, and what they own in databases that remain.
    async fn drop_roles(&self) {
        self.run(
            "postgres",
            "DO $$ DECLARE r text; BEGIN
                FOR r IN SELECT rolname FROM pg_roles
                          WHERE rolname LIKE 'plugin\\_%' OR rolname LIKE 'saga\\_owner\\_%' LOOP
                    EXECUTE format('DROP ROLE %I', r);
                END LOOP; END $$",
        )
        .await;
    }

    pub(crate) async fn connect(&self, database: &str) -> PgConnection {
        self.options.clone().database(database).connect().await.unwrap()
    }

    /// Runs SQL, as the administrator types it.
    pub(crate) async fn run(&self, database: &str, sql: &str) {
        let mut connection = self.connect(database).await;
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("in {database}: {sql}: {error}"));
        connection.close().await.unwrap();
    }

    /// Runs the SQL of a message, to the letter.
    pub(crate) async fn follow(&self, message: &str) {
        if let Some((_, statement)) = message.split_once(ANYWHERE) {
            return self.run("postgres", statement).await;
        }
        let named = message.split_once(IN_DATABASE).and_then(|(_, rest)| rest.split_once(": "));
        let (database, sql) = named.with_context(|| format!("no SQL in: {message}")).unwrap();
        self.run(database, sql).await;
    }

    /// The address of the server for another account.
    pub(crate) fn url_of(&self, account: &str, password: Option<&str>) -> String {
        let socket = self.options.get_socket().unwrap().display().to_string().replace('/', "%2F");
        let password = password.map(|password| format!(":{password}")).unwrap_or_default();
        format!("postgres://{account}{password}@{socket}:{}/postgres", self.options.get_port())
    }
}

impl Drop for Administrator {
    fn drop(&mut self) {
        let (options, file, rules) = (self.options.clone(), self.rules_file.clone(), self.rules.clone());
        super::clean_up(async move {
            std::fs::write(file, rules).unwrap();
            let mut connection = options.connect().await.unwrap();
            sqlx::query("SELECT pg_reload_conf()").execute(&mut connection).await.unwrap();
        });
    }
}
