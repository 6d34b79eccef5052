//! A connection to one database of a stack, with an account that may do everything.

use anyhow::ensure;
use saga_testkit::target::Target;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, postgres::PgConnectOptions};

use super::eventually;

/// A connection to a database.
pub(crate) struct Database(pub(crate) PgConnection);

impl Database {
    pub(crate) async fn connect(target: &Target, name: &str) -> Self {
        let options: PgConnectOptions = target.postgres.parse().unwrap();
        Self(options.database(name).disable_statement_logging().connect().await.unwrap())
    }

    /// Runs statements.
    pub(crate) async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.0).await.unwrap();
    }

    /// One number.
    pub(crate) async fn number(&mut self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.0).await.unwrap()
    }

    /// Waits until a number is reached.
    pub(crate) async fn reaches(&mut self, sql: &str, expected: i64) {
        eventually(async || {
            let number = self.number(sql).await;
            ensure!(number == expected, "{number} instead of {expected}: {sql}");
            Ok(())
        })
        .await;
    }
}
