//! The databases that the host API reads: one for each service, by the host's own account.

use sqlx::{PgConnection, Postgres, Transaction};

use crate::{rollout::shared::Shared, store::Database};

/// Each database once, by name.
pub(super) fn databases(shared: &Shared) -> Vec<Database> {
    let mut databases: Vec<Database> =
        shared.services().iter().map(|service| service.database.clone()).collect();
    databases.sort_by(|a, b| a.name.cmp(&b.name));
    databases.dedup_by(|a, b| a.name == b.name);
    databases
}

/// A transaction that can neither write nor take long: what it looks through is the operator's choice.
pub(super) async fn look(database: &Database) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    database.admin.begin_with("BEGIN READ ONLY; SET LOCAL statement_timeout = 5000").await
}

/// Whether it answers.
pub(super) async fn ping(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query_scalar("SELECT 1").fetch_one(connection).await.map(|_: i32| ())
}
