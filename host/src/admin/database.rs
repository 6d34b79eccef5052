//! The databases that the host API reads, with the host's own account.

use sqlx::{PgConnection, Postgres, Transaction};

use crate::{rollout::services::Services, store::Database};

/// The databases of all services, each once, by name.
pub(super) fn databases(services: &Services) -> Vec<Database> {
    let mut databases: Vec<Database> =
        services.all().iter().map(|service| service.backend.database.clone()).collect();
    databases.sort_by(|a, b| a.name.cmp(&b.name));
    databases.dedup_by(|a, b| a.name == b.name);
    databases
}

/// A read-only transaction with a time limit: the operator chooses how much it reads.
pub(super) async fn read_only(database: &Database) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    database.admin.begin_with("BEGIN READ ONLY; SET LOCAL statement_timeout = 5000").await
}

/// Fails when the database does not answer.
pub(super) async fn ping(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query_scalar("SELECT 1").fetch_one(connection).await.map(|_: i32| ())
}
